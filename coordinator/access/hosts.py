"""Hosts: each runner has a key of its own, which acts as no other runner.

A host is enrolled with a token that works once. A key made by hand is bound to the first runner that uses it. No
key acts for several runners, and none lets another runner in.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, insert, select, update

from coordinator.access.keys import SHARED, Caller, hash_key
from coordinator.foundation import files, ids
from coordinator.foundation.errors import (
    Conflict,
    DirectoryUnusable,
    Forbidden,
    NotFound,
    Unauthenticated,
    invalid_field,
)
from coordinator.foundation.limits import RUNNER_ALIVE
from coordinator.storage import dialect
from coordinator.storage.prepared import Prepared
from coordinator.storage.tables import IS_LIVE, attempts, deployments, host_tokens, keys, runners

#: What tokens begin with, so that a key is not taken for one.
TOKEN_PREFIX = "smvh_"
_LONGEST_NAME = 128
#: Seconds that the token for an install's first host may be used: a week, as the longest of the others.
_FIRST = 7 * 86400.0
#: It is asked before every claim.
_DRAINED = Prepared(select(runners.c.drained_at).where(runners.c.name == bindparam("runner")))


def make_token(conn: Connection, now: float, lifetime: float) -> tuple[Row[Any], str]:
    """A token that enrols one host within `lifetime` seconds: its row, and the token, which is kept nowhere."""
    token = f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}"
    values = {"id": ids.key(), "hash": hash_key(token), "created_at": now, "expires_at": now + lifetime}
    return conn.execute(insert(host_tokens).values(**values).returning(*host_tokens.c)).one(), token


def offer(conn: Connection, now: float, file: Path) -> None:
    """Leaves a token for an install's first host in `file`, mode 0600; removes it where there has been one.

    So parts that share a volume need no secret that goes on opening anything. Raises DirectoryUnusable.
    """
    has_been = keys.c.runner.is_not(None) & (keys.c.runner != SHARED)
    try:
        if conn.scalar(select(keys.c.id).where(has_been).limit(1)) is not None:
            file.unlink(missing_ok=True)
            return
        left = file.read_text("utf-8").strip() if file.is_file() else ""
        if conn.scalar(select(host_tokens.c.id).where(_good(left, now))) is None:
            _, token = make_token(conn, now, _FIRST)
            files.replace(file, f"{token}\n".encode())
    except OSError as error:
        raise DirectoryUnusable(f"host_token_file: {error}") from None


def enrol(
    conn: Connection, now: float, runner: str, hashed: str, token: str | None, caller: Caller | None
) -> str | None:
    """Makes the key with this hash the runner's own; its name. None: the caller's key is bound to it already.

    Sent again, it is answered as the first time. Raises Unauthenticated, Forbidden, Conflict (`runner_enrolled`,
    `runner_alive`).
    """
    _check_name(runner)
    if caller is not None:
        bind(conn, now, caller, runner)
        return None
    dialect.lock_claims(conn)
    theirs = conn.execute(select(keys).where(keys.c.runner == runner)).all()
    current = next((row for row in theirs if row.revoked_at is None), None)
    if current is not None and current.hash == hashed:
        return str(current.name)
    if current is not None:
        raise Conflict(
            f"the runner {runner} has a key of its own already ({current.name}): where it is lost, revoke it, and "
            "enrol the host with a token of `samovar hosts token`",
            code="runner_enrolled",
        )
    seen = conn.scalar(select(runners.c.seen_at).where(runners.c.name == runner))
    if not theirs and seen is not None and seen > now - RUNNER_ALIVE:
        raise Conflict(
            f"a runner {runner} is alive with another key: stop it first, or let this host have a state "
            "directory of its own",
            code="runner_alive",
        )
    _use(conn, now, token or "", runner)
    if conn.scalar(select(keys.c.id).where(keys.c.hash == hashed)) is not None:
        raise Conflict("this key is in use: make another", code="key_exists")
    name = f"host:{runner}" + (f":{len(theirs) + 1}" if theirs else "")
    values = {"id": ids.key(), "name": name, "role": "runner", "hash": hashed, "created_at": now, "runner": runner}
    conn.execute(insert(keys).values(**values))
    return name


def bind(conn: Connection, now: float, caller: Caller, runner: str) -> None:
    """Makes a key that no runner has used yet that of `runner`. Raises Forbidden where it is another's."""
    _check_name(runner)
    if caller.runner == runner:
        return
    dialect.lock_claims(conn)
    others = conn.scalar(
        select(keys.c.id)
        .where(keys.c.runner == runner, keys.c.id != caller.id, keys.c.revoked_at.is_(None))
        .limit(1)
    )
    if others is not None:
        raise Forbidden(f"the runner {runner} has a key of its own: this one can't act as it")
    unbound = (keys.c.id == caller.id) & keys.c.runner.is_(None)
    if conn.execute(update(keys).where(unbound).values(runner=runner)).rowcount == 0:
        bound = conn.scalar(select(keys.c.runner).where(keys.c.id == caller.id))
        if bound != runner:
            raise not_theirs(bound, f"act as {runner}")


def check_attempt(conn: Connection, now: float, caller: Caller, attempt: str) -> None:
    """Raises Forbidden where the attempt is another runner's. One that there is not is left to who looks for it."""
    _check_owner(conn, now, caller, conn.scalar(select(attempts.c.runner).where(attempts.c.id == attempt)), attempt)


def check_build(conn: Connection, now: float, caller: Caller, deployment: str) -> None:
    """Raises Forbidden where another runner builds the deployment."""
    owner = conn.scalar(select(deployments.c.build_runner).where(deployments.c.id == deployment))
    _check_owner(conn, now, caller, owner, f"the build of {deployment}")


def _check_owner(conn: Connection, now: float, caller: Caller, owner: str | None, what: str) -> None:
    if owner is None or owner == caller.runner:
        return
    raise not_theirs(caller.runner, f"write for {what[:80]}, which {owner} has")


def not_let_in() -> Unauthenticated:
    return Unauthenticated(
        "this key lets no runner in: it is not known, was revoked, or is one that hosts shared, which acts for no "
        "host any more; `samovar hosts token` makes a token, with which this host gets a key of its own"
    )


def not_theirs(runner: str | None, what: str) -> Forbidden:
    return Forbidden(f"this key is of the runner {runner or 'that uses it first'}: it can't {what}")


# ---------------------------------------------------------------- what operators see and do


def listing(conn: Connection, now: float) -> list[dict[str, Any]]:
    """Every host there has been: its runner's row, its key's name, and how many attempts it has."""
    query = select(attempts.c.runner, func.count().label("count")).where(IS_LIVE).group_by(attempts.c.runner)
    held: dict[str, int] = {row.runner: row._mapping["count"] for row in conn.execute(query)}
    own: dict[str, Row[Any]] = {}
    for key in conn.execute(select(keys).where(keys.c.runner.is_not(None)).order_by(keys.c.id)):
        own[key.runner] = key
    found = []
    for row in conn.execute(select(runners).order_by(runners.c.name)):
        its = own.get(row.name)
        found.append(
            {
                "runner": row.name,
                "seen_at": row.seen_at,
                "alive": row.seen_at > now - RUNNER_ALIVE,
                "drained_at": row.drained_at,
                "attempts": held.get(row.name, 0),
                "key": None if its is None else its.name,
                "revoked_at": None if its is None else its.revoked_at,
            }
        )
    return found


def drain(conn: Connection, now: float, runner: str, on: bool) -> None:
    """Gives a host nothing new from now on, or again. Raises NotFound."""
    this = runners.c.name == runner
    changed = this & (runners.c.drained_at.is_(None) if on else runners.c.drained_at.is_not(None))
    conn.execute(update(runners).where(changed).values(drained_at=now if on else None))
    if conn.scalar(select(runners.c.name).where(this)) is None:
        raise NotFound(f"there is no host {runner[:80]!r}; `samovar hosts list` has them")


def drained(conn: Connection, runner: str) -> bool:
    return conn.scalar(_DRAINED, {"runner": runner}) is not None


def _use(conn: Connection, now: float, token: str, runner: str) -> None:
    if conn.execute(update(host_tokens).where(_good(token, now)).values(used_at=now, runner=runner)).rowcount == 0:
        raise Unauthenticated(
            "this token is not known, was used, or its time is over: make another with `samovar hosts token`",
            code="bad_token",
        )


def _good(token: str, now: float) -> ColumnElement[bool]:
    """The row of a token that may be used."""
    known = host_tokens.c.hash == hash_key(token)
    return known & host_tokens.c.used_at.is_(None) & (host_tokens.c.expires_at > now)


def _check_name(runner: str) -> None:
    if not runner or runner == SHARED or len(runner) > _LONGEST_NAME or not runner.isprintable():
        raise invalid_field("runner", f"{runner[:80]!r} is no runner's id: 1 to {_LONGEST_NAME} characters")
