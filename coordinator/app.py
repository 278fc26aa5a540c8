"""The coordinator as an ASGI application: storage opened and migrated, routes, and one form for all refusals."""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from coordinator.access import hosts as hosts_access
from coordinator.access import keys
from coordinator.access import secrets as sealed_secrets
from coordinator.access.callers import Callers
from coordinator.access.vault import Vault
from coordinator.api import (
    audit,
    batches,
    bulk,
    bulk_later,
    deliveries,
    deployments,
    errors,
    events,
    files,
    health,
    history,
    hooks,
    hosts,
    log_files,
    pool,
    queues,
    run_details,
    runs,
    saved_views,
    schedules,
    secrets,
    system,
    tokens,
)
from coordinator.api import keys as api_keys
from coordinator.api.direct import Direct
from coordinator.api.fleet import attempts as fleet_attempts
from coordinator.api.fleet import builds as fleet_builds
from coordinator.api.fleet import files as fleet_files
from coordinator.api.fleet import runners as fleet_runners
from coordinator.api.gate import Gate
from coordinator.api.head import Head
from coordinator.attempts.owners import Owners
from coordinator.context import Coordinator
from coordinator.dashboard import pages, site
from coordinator.deployments.uploads import Uploads
from coordinator.foundation.errors import CoordinatorError, DirectoryUnusable, RateLimited, StorageUnavailable
from coordinator.line.emptiness import Emptiness
from coordinator.maintenance.duties import DUTIES
from coordinator.maintenance.service import Maintenance
from coordinator.settings import Settings
from coordinator.signals.seats import Seats
from coordinator.signals.waking import Waking
from coordinator.storage.blobs import Blobs
from coordinator.storage.database import Clock, Database
from coordinator.storage.dialect import now
from coordinator.storage.quota import Quota
from coordinator.storage.values import Values
from coordinator.tasks import checking
from coordinator.tasks.payloads import Payloads
from coordinator.wire import FieldProblem, Problem
from coordinator.wire.directories import private

log = structlog.get_logger()

#: Wrong fields that one answer names.
_MOST_FIELDS = 50

_DESCRIPTION = """\
Triggers tasks, follows their runs, deploys projects.

Send a key with every request: `Authorization: Bearer <key>`. A refused request answers
`{"error": {"code", "message", "fields": [{"path", "message"}]}}`: `code` is stable and for programs, `message`
for people, and `fields` names every field that is wrong. Times are ISO 8601 in UTC; durations are seconds or
text such as `90s`, `15m`, `7d`; memory is bytes or text such as `512m`. Lists answer
`{"items": [...], "next": cursor}`.
"""


def open_coordinator(settings: Settings, clock: Clock = now) -> Coordinator:
    """Opens the storage, brings the schema up to date, and makes the keys of the settings the ones in force.

    Raises CoordinatorError with a sentence that says what to do.
    """
    try:
        private(settings.data)
    except OSError as error:
        raise DirectoryUnusable(f"the data directory: {error}") from None
    database = Database(settings.resolved_database_url, clock)
    try:
        database.migrate()
        database.write_now(keys.keep_setting, settings.resolved_admin_key)
        shared = database.write_now(keys.end_shared)
        if settings.host_token_file is not None:
            database.write_now(hosts_access.offer, settings.host_token_file)
        blobs = Blobs(settings.data / "blobs")
        database.names(blobs)
        attempt_secrets = keys.AttemptSecrets(settings.data)
        vault = Vault(settings.resolved_master_key_file)
        anew = database.write_now(sealed_secrets.seal_anew, vault)
    except BaseException:
        database.close()
        raise
    if shared:
        log.warning("a key that hosts shared has ended: each of them is let in with `samovar hosts token`")
    if anew:
        log.info("secrets were sealed with the newest master key", count=anew)
    limits = (settings.project_bytes, settings.project_runs, settings.tree_runs, settings.least_free)
    database.limit(Quota(settings.data, *limits))
    seats = Seats(database.session, [duty.name for duty in DUTIES])
    callers = Callers(database)
    waking = Waking()
    return Coordinator(
        settings,
        database,
        blobs,
        Values(blobs),
        attempt_secrets,
        Payloads(),
        waking,
        Emptiness(waking),
        vault,
        seats,
        callers,
        Owners(database),
        Uploads(blobs),
    )


def create_app(coordinator: Coordinator) -> FastAPI:
    """The application. Its lifespan runs the maintenance, and closes the coordinator at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        callers = coordinator.callers.run(coordinator.waking)
        work = [coordinator.seats.run(), Maintenance(coordinator, DUTIES).run(), callers]
        if coordinator.database.session is not None:
            # an install on SQLite is spared psycopg
            from coordinator.signals.channel import Channel

            work.append(Channel(coordinator.database.session, coordinator.waking).run())
        running = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            coordinator.waking.close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await asyncio.to_thread(coordinator.database.close)
            await asyncio.to_thread(coordinator.values.close)
            await asyncio.to_thread(checking.close)

    # FastAPI keeps it quiet where it builds a model with a route; ours are built when first used
    warnings.filterwarnings("ignore", message="The '[a-z_]*alias' attribute with value")
    app = FastAPI(
        title="Samovar",
        servers=[{"url": coordinator.settings.public_url}] if coordinator.settings.public_url else None,
        version="0.1.0",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.coordinator = coordinator
    for module in (
        health,
        hooks,
        tokens,
        batches,
        bulk,
        bulk_later,
        runs,
        run_details,
        log_files,
        files,
        queues,
        schedules,
        events,
        secrets,
        api_keys,
        hosts,
        audit,
        deliveries,
        deployments,
        pool,
        saved_views,
        system,
        history,
        errors,
        fleet_runners,
        fleet_builds,
        fleet_files,
    ):
        # as they are (api/routers.py): to include them would be to build them all again
        app.router.routes.extend(module.router.routes)
    # after the API's: the same address is never both
    app.router.routes.extend(site.routes())
    refusals = {CoordinatorError: _refused, RequestValidationError: _invalid, HTTPException: _http}
    for kind, refuse in refusals.items():
        app.add_exception_handler(kind, refuse)
    app.add_exception_handler(Exception, _unexpected)
    ways = [fleet_attempts.WAY, fleet_runners.WAY, runs.TRIGGERS, runs.WAITS]
    app.add_middleware(Direct, coordinator=coordinator, ways=ways, refusals=refusals)
    # added last, so that they are passed first
    app.add_middleware(Gate, coordinator=coordinator)
    app.add_middleware(Head)
    return app


def _answer(status: int, problem: Problem) -> JSONResponse:
    return JSONResponse({"error": problem.model_dump()}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, CoordinatorError)
    if error.status >= 500:
        log.error("storage unavailable", path=_shown(request), problem=error.message)
    answer = _answer(error.status, error.problem())
    if isinstance(error, (RateLimited, StorageUnavailable)):
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return answer


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [FieldProblem(path=_place(e["loc"]), message=_sentence(e)) for e in error.errors()[:_MOST_FIELDS]]
    message = "; ".join(f"{field.path}: {field.message}" for field in fields)
    return _answer(422, Problem(code="invalid_request", message=message, fields=fields))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and (page := pages.lost(request)) is not None:
        return page
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    message = str(error.detail)
    if error.status_code in (404, 405):
        message = f"{request.method} {request.url.path}: {message}; /openapi.json has what there is"
    answer = _answer(error.status_code, Problem(code=codes.get(error.status_code, "bad_request"), message=message))
    if error.headers:
        answer.headers.update(error.headers)
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("a request failed", method=request.method, path=_shown(request), exc_info=error)
    return _answer(500, Problem(code="internal", message="the coordinator failed; its log says why"))


def _shown(request: Request) -> str:
    """The path for the log: who reads that must not be able to complete a token."""
    path = request.url.path
    return "/tokens/…" if path.startswith("/tokens/") else path


def _place(loc: tuple[int | str, ...]) -> str:
    loc = tuple(part if isinstance(part, int) else part[:80] for part in loc[:20])
    # the first part says body, query or path; what follows is the field as its sender knows it
    path = ""
    for part in loc[1:]:
        path = f"{path}[{part}]" if isinstance(part, int) and path else f"{path}.{part}" if path else str(part)
    return path or str(loc[0])


def _brief(value: Any) -> str:
    """A value for a message, without writing all of it."""
    if isinstance(value, (str, bytes)):
        return repr(value[:100])
    if isinstance(value, (dict, list)) and (len(value) > 8 or len(str(value)[:400]) >= 400):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a number of hundreds of digits"
    return repr(value)


def _sentence(error: dict[str, Any]) -> str:
    kind, given = error["type"], _brief(error.get("input"))
    if kind == "missing":
        return "missing"
    if kind == "string_unicode":
        return "has half a surrogate pair, which is not Unicode"
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "json_invalid":
        return f"not JSON: {error.get('ctx', {}).get('error', error['msg'])}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message if given in message else f"{message}, got {given if len(given) <= 80 else given[:80] + '…'}"
