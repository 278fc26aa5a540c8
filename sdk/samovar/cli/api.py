"""The coordinator over HTTP: where it is, what opens it, and what its refusals mean for the exit code."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import httpx

from samovar.calling.files import Unfinished
from samovar.cli.errors import CliError, NotFound, Refused, Unreachable

DEFAULT_DATA = "~/.samovar"
CREDENTIALS = "credentials.json"
#: Seconds that a coordinator may be away while something is waited for: it may be starting again.
_PATIENCE = 30.0
POLL = 25.0
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_STEP = 256 * 1024


@dataclass(frozen=True)
class Credentials:
    """Where a coordinator is and the key that opens it; `source` says where this was found."""

    url: str
    api_key: str
    source: str


def find_credentials(
    url: str | None, api_key: str | None, data: Path | None, environ: Mapping[str, str] | None = None
) -> Credentials:
    """Flags, then SAMOVAR_URL and SAMOVAR_API_KEY, then the data directory's credentials.

    Raises CliError where there is none, saying what to do.
    """
    environ = os.environ if environ is None else environ
    if url and api_key:
        return Credentials(url.rstrip("/"), api_key, "the flags")
    if data is None and environ.get("SAMOVAR_URL") and environ.get("SAMOVAR_API_KEY"):
        return Credentials(
            (url or environ["SAMOVAR_URL"]).rstrip("/"),
            api_key or environ["SAMOVAR_API_KEY"],
            "SAMOVAR_URL and SAMOVAR_API_KEY",
        )
    directory = data or Path(environ.get("SAMOVAR_DATA") or DEFAULT_DATA)
    path = directory.expanduser() / CREDENTIALS
    try:
        stored = json.loads(path.read_text("utf-8"))
        found = Credentials(str(stored["url"]).rstrip("/"), str(stored["api_key"]), str(path))
    except FileNotFoundError:
        if url or api_key:
            missing = "--api-key (or SAMOVAR_API_KEY)" if url else "--url (or SAMOVAR_URL)"
            raise CliError(f"{missing} is missing, and there is no {path}", code="no_credentials") from None
        raise Unreachable(
            f"no coordinator is known: there is no {path}. Start one here with `samovar up`, or set SAMOVAR_URL "
            "and SAMOVAR_API_KEY",
            code="no_credentials",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"{path} cannot be read: {error}", code="no_credentials") from None
    if url and url.rstrip("/") != found.url:
        # the key of one installation is not shown to another
        raise CliError(f"--api-key is missing: the key in {path} is for {found.url}", code="no_credentials")
    return Credentials(found.url, api_key or found.api_key, found.source)


class Api:
    """Requests to one coordinator. Raises NotFound, Refused or Unreachable, never httpx's own errors."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._http = httpx.Client(
            base_url=f"{credentials.url}/api/v1",
            headers={"authorization": f"Bearer {credentials.api_key}"},
            timeout=_TIMEOUT,
            verify=_speaks_tls(credentials.url),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, *, patience: float | None = None, **params: Any) -> Any:
        """The JSON document at `path`; parameters that are None are left out. `patience` is in seconds."""
        return self._request("GET", path, params=_given(params), patience=patience)

    def patient_get(self, path: str, **params: Any) -> Any:
        """As `get`, asked again while the coordinator is away, for up to half a minute; `timeout` of a long poll
        is one of the parameters.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return self.get(path, patience=float(params.get("timeout", 0)) + 15, **params)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def post(self, path: str, body: Any = None, **params: Any) -> Any:
        """Post `body` as JSON; gives the answer's document."""
        return self._request("POST", path, json=body, params=_given(params))

    def create(self, path: str, body: Any) -> tuple[Any, bool]:
        """Post `body` as JSON; the answer's document, and whether it was made now and not by an earlier request."""
        answer = self._send("POST", path, json=body)
        return self._document(answer), answer.status_code == 201

    def put(self, path: str, body: Any, **params: Any) -> Any:
        """Put `body` at `path`; gives the answer's document."""
        return self._request("PUT", path, json=body, params=_given(params))

    def delete(self, path: str, **params: Any) -> Any:
        """Remove what is at `path`; gives the answer's document."""
        return self._request("DELETE", path, params=_given(params))

    def patch(self, path: str, body: Any, **params: Any) -> Any:
        """Change what is at `path`; gives the answer's document."""
        return self._request("PATCH", path, json=body, params=_given(params))

    def upload(self, path: str, content: bytes | Iterator[bytes], **params: Any) -> Any:
        """Post `content` as an archive; gives the answer's document."""
        headers = {"content-type": "application/gzip"}
        return self._request("POST", path, content=content, params=_given(params), headers=headers, patience=600.0)

    # ------------------------------------------------------------ files (see samovar/calling/files.py)

    def announce(self, body: dict[str, Any], project: str | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._unfinished("POST", "/files", json=body, params=_given({"project": project}))
        return answer

    def known(self, file: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._unfinished("GET", f"/files/{file}")
        return answer

    def send_part(self, file: str, offset: int, data: bytes) -> dict[str, Any] | None:
        headers = {"upload-offset": str(offset), "content-type": "application/octet-stream"}
        try:
            answer: dict[str, Any] = self._unfinished("PATCH", f"/files/{file}", content=data, headers=headers)
            return answer
        except Refused as error:
            if error.code in ("wrong_offset", "busy"):
                return None
            raise

    def read_from(self, path: str, offset: int) -> Iterator[bytes]:
        headers = {"range": f"bytes={offset}-", "accept-encoding": "identity"}
        try:
            with self._http.stream("GET", path, headers=headers) as answer:
                if answer.status_code == 416:
                    return
                if answer.status_code >= 400:
                    answer.read()
                    raise _refusal(answer)
                yield from answer.iter_raw(_STEP)
        except httpx.TransportError as error:
            raise Unfinished from self._unreachable(error)

    def _unfinished(self, method: str, path: str, **options: Any) -> Any:
        try:
            return self._request(method, path, **options)
        except Unreachable as error:
            raise Unfinished from error

    def items(self, path: str, **params: Any) -> Iterator[Any]:
        """Every item of a list, page after page."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, **params)
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return

    def events(self, path: str, *, last: str | None = None, **params: Any) -> Iterator[tuple[str, str | None, Any]]:
        """Server-sent events at `path` as (event, id, data) until the coordinator ends the stream.

        A connection that breaks is made again from the last event's id, so nothing is missed or said twice;
        Unreachable is raised when that fails for half a minute.
        """
        deadline: float | None = None
        while True:
            headers = {"accept": "text/event-stream", **({"last-event-id": last} if last else {})}
            try:
                with self._http.stream(
                    "GET", path, params=_given(params), headers=headers, timeout=httpx.Timeout(90, connect=5)
                ) as answer:
                    if answer.status_code >= 400:
                        answer.read()
                        raise _refusal(answer)
                    for event, identifier, data in _parse_events(answer.iter_lines()):
                        deadline, last = None, identifier or last
                        yield event, identifier, data
                return
            except httpx.TransportError as error:
                deadline = deadline or time.monotonic() + _PATIENCE
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from None
                time.sleep(0.5)

    def ready(self) -> bool:
        """Whether the coordinator's process answers."""
        try:
            return self._bare("/healthz", 2.0).status_code == 200
        except httpx.TransportError:
            return False

    def readiness(self) -> str | None:
        """Why the coordinator takes nothing new at the moment; None where it does."""
        try:
            answer = self._bare("/readyz", 5.0)
            return None if answer.status_code == 200 else str(answer.json()["error"]["message"])
        except (httpx.TransportError, ValueError, KeyError, TypeError) as error:
            return str(error)

    def _bare(self, path: str, timeout: float) -> httpx.Response:
        """What anybody may ask, without the key."""
        url = self.credentials.url
        return httpx.get(f"{url}{path}", timeout=timeout, verify=_speaks_tls(url))

    def _request(self, method: str, path: str, *, patience: float | None = None, **options: Any) -> Any:
        return self._document(self._send(method, path, patience=patience, **options))

    def _send(self, method: str, path: str, *, patience: float | None = None, **options: Any) -> httpx.Response:
        if patience is not None:
            options["timeout"] = httpx.Timeout(patience, connect=5.0)
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        except httpx.InvalidURL as error:
            raise CliError(f"{self.credentials.url!r} is no URL: {error}") from None
        if answer.status_code >= 400:
            raise _refusal(answer)
        return answer

    def _document(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise Unreachable(
                f"what answers at {self.credentials.url} is no Samovar coordinator (it did not answer with JSON)"
            ) from None

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"no coordinator answers at {self.credentials.url} ({error}). Is it running? That address comes from "
            f"{self.credentials.source}; `samovar up` starts one here"
        )


@contextmanager
def connected(credentials: Credentials) -> Iterator[Api]:
    """An Api that is closed afterwards."""
    api = Api(credentials)
    try:
        yield api
    finally:
        api.close()


def _speaks_tls(url: str) -> bool:
    """Whether certificates are looked at on the way: reading a system's takes longer than all else of a command."""
    ways = [url, *getproxies().values()]
    return any(not way.startswith("http://") for way in ways)


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None and value != []}


def _refusal(answer: httpx.Response) -> CliError:
    try:
        error = answer.json()["error"]
        code, message = str(error["code"]), str(error["message"])
        fields = [{"path": str(f["path"]), "message": str(f["message"])} for f in error.get("fields") or []]
    except (ValueError, KeyError, TypeError):
        code, message, fields = "refused", f"the coordinator answered {answer.status_code}", []
    if answer.status_code == 404:
        return NotFound(message, code=code, fields=fields)
    if answer.status_code >= 500:
        return Unreachable(message, code=code, fields=fields)
    if answer.status_code == 401:
        message = f"{message}. The key was not accepted; see `samovar doctor` for where it comes from"
    return Refused(message, code=code, fields=fields)


def _parse_events(lines: Iterator[str]) -> Iterator[tuple[str, str | None, Any]]:
    event, identifier = "message", None
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                text = "\n".join(data)
                try:
                    yield event, identifier, json.loads(text)
                except ValueError:
                    yield event, identifier, text
            event, identifier, data = "message", None, []
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if name == "event":
                event = value
            elif name == "id":
                identifier = value
            elif name == "data":
                data.append(value)
