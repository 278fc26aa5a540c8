"""The clients that people use, each as its own documentation shows it: nothing here knows of Samovar."""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
import urllib.request
from email.message import EmailMessage

BODY = bytes(range(256)) * 4096


def use_requests(url: str) -> dict:
    import requests

    with requests.Session() as session:
        assert session.get(url + "/one", timeout=20).json()["path"] == "/one"
        return session.post(url + "/two", data=BODY, timeout=20).json()


def use_httpx(url: str) -> dict:
    import httpx

    with httpx.Client() as client:
        return client.post(url + "/two", content=BODY).raise_for_status().json()


def use_httpx_async(url: str) -> dict:
    import httpx

    async def main() -> dict:
        async with httpx.AsyncClient() as client:
            found = await asyncio.gather(*(client.post(url + "/two", content=BODY) for _ in range(8)))
            return found[0].raise_for_status().json()

    return asyncio.run(main())


def use_http2(url: str) -> dict:
    import httpx

    with httpx.Client(http2=True) as client:
        return client.post(url + "/two", content=BODY).raise_for_status().json()


def use_aiohttp(url: str) -> dict:
    import aiohttp

    async def main() -> dict:
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.post(url + "/two", data=BODY) as answer:
                return await answer.json(content_type=None)

    return asyncio.run(main())


def use_urllib(url: str) -> dict:
    with urllib.request.urlopen(urllib.request.Request(url + "/two", data=BODY), timeout=20) as answer:
        return json.load(answer)


def use_websockets(url: str) -> dict:
    from websockets.sync.client import connect

    with connect(url.replace("http", "ws", 1), open_timeout=20) as socket:
        socket.send("over a socket")
        return {"said": socket.recv(timeout=20)}


HTTP = {
    "requests": use_requests,
    "httpx": use_httpx,
    "httpx-async": use_httpx_async,
    "http2": use_http2,
    "aiohttp": use_aiohttp,
    "urllib": use_urllib,
    "websockets": use_websockets,
}


def use_psycopg() -> int:
    import psycopg

    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=20) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (n int, data bytea)")
        connection.execute("INSERT INTO t SELECT n, %s FROM generate_series(1, 10) n", (BODY,))
        return connection.execute("SELECT sum(length(data)) FROM t").fetchone()[0]


def use_redis() -> str:
    import redis

    client = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=20)
    client.set("samovar", BODY)
    assert client.get("samovar") == BODY
    return client.info()["redis_version"]


def use_smtplib(text: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "task@example.com", "people@example.com", "Done"
    mail.set_content(text)
    with smtplib.SMTP(os.environ["MAIL_HOST"], int(os.environ["MAIL_PORT"]), timeout=20) as server:
        server.send_message(mail)
