"""HTTP to the coordinator with the standard library: one kept connection for each thread."""

from __future__ import annotations

import http.client
import json
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from samovar.calling.files import Unfinished
from samovar.errors import ApiError, CoordinatorUnreachable, NotFound, OptionError

API = "/api/v1"
_CONNECT_TIMEOUT = 5.0
_TIMEOUT = 30.0
_STEP = 256 * 1024
#: Seconds between two tries to take up a broken stream again, and how long to go on trying.
PAUSE = 0.5
PATIENCE = 30.0

#: (event, id, data) of server-sent events.
Event = tuple[str, str, Any]


def find_credentials(url: str | None = None, api_key: str | None = None) -> tuple[str, str]:
    """The coordinator's URL and a key: as given, else SAMOVAR_URL and SAMOVAR_API_KEY, else those that the local
    `samovar up` keeps in its data directory (SAMOVAR_DATA, else ~/.samovar). Raises OptionError.
    """
    url = url or os.environ.get("SAMOVAR_URL")
    api_key = api_key or os.environ.get("SAMOVAR_API_KEY")
    if url and api_key:
        return url, api_key
    path = os.path.join(os.environ.get("SAMOVAR_DATA") or os.path.expanduser("~/.samovar"), "credentials.json")
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if url and url.rstrip("/") != str(kept["url"]).rstrip("/"):
            raise OptionError(f"no API key for {url}: give api_key, or set SAMOVAR_API_KEY")
        return url or str(kept["url"]), api_key or str(kept["api_key"])
    except FileNotFoundError:
        missing = "an API key" if url else "a coordinator"
        raise OptionError(
            f"{missing} is not known: start one here with `samovar up`, or set SAMOVAR_URL and SAMOVAR_API_KEY "
            f"(looked for {path})"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path} can't be read: {error!r}; remove it and run `samovar up` again") from None


class Transport:
    """Requests to one coordinator. Threads may share it."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise OptionError(f"{url!r} is no URL of a coordinator; give one such as http://127.0.0.1:7420")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._base = parts.path.rstrip("/") + API
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._local = threading.local()

    def get(self, path: str, query: dict[str, Any] | None = None, timeout: float = _TIMEOUT) -> Any:
        return self._json(self._send("GET", path, query, None, timeout))

    def post(self, path: str, body: Any = None, *, root: bool = False) -> Any:
        """`root`: `path` is not below the API."""
        return self._json(self._send("POST", path, None, body, _TIMEOUT, root=root))

    def delete(self, path: str) -> None:
        self._json(self._send("DELETE", path, None, None, _TIMEOUT))

    def events(self, path: str) -> Iterator[Event]:
        """Server-sent events until the coordinator ends the stream; a broken one is taken up where it ended.

        Raises CoordinatorUnreachable when that has failed for half a minute.
        """
        last = ""
        failing_since: float | None = None
        while True:
            connection = self._connect(_TIMEOUT * 3)
            try:
                headers = {**self._headers, "Accept": "text/event-stream"}
                if last:
                    headers["Last-Event-ID"] = last
                connection.request("GET", self._base + path, headers=headers)
                response = connection.getresponse()
                if response.status >= 400:
                    raise _refusal(response.status, response.read())
                for name, id, data in _parse_events(response):
                    failing_since = None
                    last = id or last
                    yield name, id, data
                return
            except (OSError, http.client.HTTPException) as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE:
                    raise self._unreachable(error) from None
                time.sleep(PAUSE)
            finally:
                connection.close()

    # ------------------------------------------------------------ files (see calling/files.py)

    def announce(self, body: dict[str, Any], project: str | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._unfinished("POST", "/files", {"project": project}, body)
        return answer

    def known(self, file: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._unfinished("GET", f"/files/{file}", None, None)
        return answer

    def send_part(self, file: str, offset: int, data: bytes) -> dict[str, Any] | None:
        try:
            headers = {"Upload-Offset": str(offset)}
            answer: dict[str, Any] = self._unfinished("PATCH", f"/files/{file}", None, data, headers)
            return answer
        except ApiError as error:
            if error.status == 409:
                return None
            raise

    def read_from(self, path: str, offset: int) -> Iterator[bytes]:
        try:
            connection = self._connect(_TIMEOUT)
        except CoordinatorUnreachable as error:
            raise Unfinished from error
        try:
            headers = {**self._headers, "Range": f"bytes={offset}-"}
            connection.request("GET", self._base + path, headers=headers)
            response = connection.getresponse()
            if response.status == 416:
                return
            if response.status >= 400:
                raise _refusal(response.status, response.read())
            while data := response.read(_STEP):
                yield data
        except (OSError, http.client.HTTPException) as error:
            raise Unfinished from self._unreachable(error)
        finally:
            connection.close()

    def _unfinished(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None,
        body: Any,
        headers: dict[str, str] | None = None,
    ) -> Any:
        try:
            return self._json(self._send(method, path, query, body, _TIMEOUT, headers=headers))
        except CoordinatorUnreachable as error:
            raise Unfinished from error

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None,
        body: Any,
        timeout: float,
        *,
        root: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Any:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        base = self._base.removesuffix(API) if root else self._base
        target = base + path + (f"?{urlencode(given, doseq=True)}" if given else "")
        headers = {**self._headers, **(headers or {})}
        data = None
        if isinstance(body, bytes):
            data = body
            headers["Content-Type"] = "application/octet-stream"
        elif body is not None:
            data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
            headers["Content-Type"] = "application/json"
        try:
            connection = self._kept(timeout)
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from None

    def _kept(self, timeout: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            # a kept connection with something to read has been closed by the other side: found out before a
            # request is sent, because one that was sent must not be sent twice
            if not select.select([connection.sock], [], [], 0)[0]:
                connection.sock.settimeout(timeout)
                return connection
            connection.close()
        connection = self._local.connection = self._connect(timeout)
        return connection

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection: http.client.HTTPConnection = kind(self._host, self._port, timeout=_CONNECT_TIMEOUT)
        try:
            connection.connect()
        except OSError as error:
            raise self._unreachable(error) from None
        connection.sock.settimeout(timeout)
        return connection

    def _unreachable(self, error: Exception) -> CoordinatorUnreachable:
        return CoordinatorUnreachable(
            f"no answer from the coordinator at {self.url}: {error or type(error).__name__}"
        )

    def _json(self, answer: tuple[int, bytes]) -> Any:
        status, data = answer
        if status >= 400:
            raise _refusal(status, data)
        try:
            return json.loads(data) if data else None
        except ValueError:
            raise CoordinatorUnreachable(f"what answers at {self.url} is no Samovar coordinator") from None


def segment(text: str) -> str:
    """`text` as part of a path; a slash stays one (`project/task`)."""
    return quote(text, safe="/")


def _refusal(status: int, data: bytes) -> ApiError:
    try:
        problem = json.loads(data)["error"]
        code, message, fields = str(problem["code"]), str(problem["message"]), problem.get("fields") or []
    except (ValueError, KeyError, TypeError):
        code, message, fields = "http", f"HTTP {status}: {data[:200].decode('utf-8', 'replace')}", []
    return (NotFound if status == 404 else ApiError)(status, code, message, fields)


def _parse_events(response: http.client.HTTPResponse) -> Iterator[Event]:
    name, id, data = "message", "", ""
    for raw in response:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            if data:
                yield name, id, json.loads(data)
            name, data = "message", ""
        elif field == "event":
            name = value
        elif field == "id":
            id = value
        elif field == "data":
            data = f"{data}\n{value}" if data else value
