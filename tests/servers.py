"""Real servers on loopback, for tasks to reach: HTTP/1.1, HTTP/2 and WebSocket, Redis, SMTP; and a company's proxy.

Certificates are of an authority of the tests' own. Nothing listens beyond loopback, and nothing goes beyond it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import json
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.ports import free_port
from tests.waiting import eventually


@dataclass(frozen=True)
class Certificates:
    """An authority (`ca`), and a certificate with its key for some names."""

    ca: Path
    certificate: Path
    key: Path


def certificates(directory: Path, names: list[str]) -> Certificates:
    now = datetime.datetime.now(datetime.UTC)

    def made(subject: str, issuer: str, key: Any, signer: Any, *extensions: tuple[Any, bool]) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(hours=1),
            now + datetime.timedelta(days=1),
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signer, hashes.SHA256())

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signing = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = made("Tests", "Tests", authority, authority, (x509.BasicConstraints(True, None), True), (signing, True))
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    leaf = made("server", "Tests", server, authority, (alternatives, False))
    found = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    pem = serialization.Encoding.PEM
    found.ca.write_bytes(ca.public_bytes(pem))
    found.certificate.write_bytes(leaf.public_bytes(pem))
    found.key.write_bytes(
        server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked, over HTTP; sends back what it hears, over WebSocket."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    else:
        await _answer(scope, receive, send)


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    digest, size = hashlib.sha256(), 0
    async for part in _body(receive):
        digest.update(part)
        size += len(part)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    path = scope["path"]
    status, extra, body = 200, [], b""
    if path.startswith("/bytes/"):
        body = bytes(int(path.rpartition("/")[2]))
    elif path == "/redirect":
        status, extra = 302, [(b"location", scope["query_string"])]
    else:
        told = {"version": scope["http_version"], "scheme": scope["scheme"], "path": path, "size": size}
        body = json.dumps({**told, "digest": digest.hexdigest(), "host": headers.get("host")}).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *extra]})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Any) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


@dataclass
class Proxy:
    """A company's proxy that leads every name to the servers of the test, by port; it keeps what it was asked."""

    places: dict[int, int]
    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, rest = head.split(b" ", 2)
            self.asked.append(f"{method.decode()} {target.decode()}")
            if method == b"CONNECT":
                port = int(target.rpartition(b":")[2])
                first = b""
            else:
                authority, _, path = target.removeprefix(b"http://").partition(b"/")
                _, _, asked = authority.partition(b":")
                port = int(asked or 80)
                first = b"%s /%s %s" % (method, path, rest)
            there, back = await asyncio.open_connection("127.0.0.1", self.places[port])
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back.write(first)
            await asyncio.gather(_carry(reader, back), _carry(there, writer))
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@dataclass
class Web:
    """HTTP/1.1, HTTP/2 and WebSocket with TLS at `secure`, without at `plain`, and the proxy that leads there."""

    secure: int
    plain: int
    proxy: Proxy


@contextlib.contextmanager
def web(certificates: Certificates) -> Iterator[Web]:
    made = Web(free_port(), free_port(), Proxy({}))
    made.proxy.places = {443: made.secure, 80: made.plain}
    config = Config()
    config.bind = [f"127.0.0.1:{made.secure}"]
    config.insecure_bind = [f"127.0.0.1:{made.plain}"]
    config.certfile, config.keyfile = str(certificates.certificate), str(certificates.key)
    config.loglevel = "ERROR"
    # it hangs up on nobody whose first words take long on a busy machine: 5 s unless told so
    config.keep_alive_timeout = 60
    loop = asyncio.new_event_loop()
    stop, ready = asyncio.Event(), threading.Event()

    async def main() -> None:
        proxy = await asyncio.start_server(made.proxy.serve, "127.0.0.1", 0)
        made.proxy.port = proxy.sockets[0].getsockname()[1]
        ready.set()
        async with proxy:
            await serve(application, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert ready.wait(30)
        for port in (made.secure, made.plain):
            eventually(lambda port=port: _answers(port), "the web server")  # type: ignore[misc]
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[int]:
    """The port of a Redis."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: _answers(port), "Redis")
        yield port
    finally:
        process.terminate()
        process.wait(30)


class Mailbox:
    """Keeps the mail it is handed."""

    def __init__(self) -> None:
        self.mail: list[tuple[list[str], str]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mail.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


@contextlib.contextmanager
def smtp() -> Iterator[tuple[int, Mailbox]]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield controller.port, mailbox
    finally:
        controller.stop()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
