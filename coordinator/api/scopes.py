"""What each key may call: a rule for every public request, and how a key of one project is held to it.

The first rule that fits counts. Where there is none, or a rule does not say how to hold a key to its project, only
an admin's key that sees every project gets through: a request that is new is closed until it stands here (a test
compares this table with the routes).
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, Request
from sqlalchemy import Connection, Table, select

from coordinator.access.keys import Caller
from coordinator.foundation.errors import Forbidden, NotFound
from coordinator.storage.tables import bulks, deliveries, deployments, files, runs, schedules
from coordinator.wire import API


class Held(Enum):
    """How a request of a key with a project stays within it."""

    #: The task in the path is one of the project.
    TASK = auto()
    #: `?project=` is the project.
    QUERY = auto()
    #: The row that the path names is the project's.
    ROW = auto()
    #: The path names the project.
    PATH = auto()
    #: The route looks after it: it takes a Who.
    ROUTE = auto()
    #: It can't.
    NOT = auto()


class Rule(NamedTuple):
    """`roles`: those that may call it besides admin."""

    methods: frozenset[str]
    path: re.Pattern[str]
    roles: frozenset[str]
    held: Held
    table: Table | None = None


def _rule(methods: str, path: str, roles: str, held: Held, table: Table | None = None) -> Rule:
    return Rule(frozenset(methods.split()), re.compile(path), frozenset(roles.split()), held, table)


RULES = (
    _rule("POST", r"/tasks/(?P<task>.+)/runs(/batch|/check)?", "trigger", Held.TASK),
    _rule("POST", r"/events", "trigger", Held.ROUTE),
    _rule("POST", r"/runs/(cancel|replay|dismiss)", "", Held.ROUTE),
    _rule("POST", r"/bulk", "", Held.ROUTE),
    _rule("GET", r"/bulk", "read", Held.QUERY),
    _rule("GET", r"/bulk/(?P<id>[^/]+)(/runs)?", "read", Held.ROW, bulks),
    _rule("POST", r"/bulk/(?P<id>[^/]+)/(take-back|begin)", "", Held.ROW, bulks),
    _rule("POST", r"/files", "trigger", Held.ROUTE),
    _rule("PATCH", r"/files/(?P<id>[^/]+)", "trigger", Held.ROW, files),
    _rule("GET", r"/files/(?P<id>[^/]+)(/content)?", "trigger read", Held.ROW, files),
    # a trigger's key follows the runs whose ids it knows: it has made them
    _rule("GET", r"/runs/(?P<id>[^/]+)(/.+)?", "trigger read", Held.ROW, runs),
    _rule("POST PATCH DELETE", r"/runs/(?P<id>[^/]+)(/.+)?", "", Held.ROW, runs),
    _rule("GET", r"/(runs|events|queues|schedules|deployments|deliveries|webhooks|secrets)", "read", Held.QUERY),
    _rule("GET", r"/(audit|history|tasks|errors)", "read", Held.QUERY),
    _rule("GET", r"/errors/(?P<project>[^/]+)/[^/]+", "read", Held.PATH),
    _rule("POST", r"/errors/(?P<project>[^/]+)/[^/]+/(resolve|mute|reopen)", "", Held.PATH),
    _rule("POST", r"/deployments", "", Held.ROUTE),
    _rule("GET", r"/queues/.+/keys", "read", Held.QUERY),
    _rule("PATCH", r"/queues/.+", "", Held.QUERY),
    _rule("POST", r"/secrets/rotate", "", Held.NOT),
    _rule("PUT DELETE", r"/secrets/.+", "", Held.QUERY),
    _rule("GET", r"/schedules/(?P<id>[^/]+)(/.+)?", "read", Held.ROW, schedules),
    _rule("PATCH DELETE", r"/schedules/(?P<id>[^/]+)", "", Held.ROW, schedules),
    _rule("POST", r"/schedules", "", Held.NOT),
    _rule("GET", r"/deployments/(?P<id>[^/]+)(/.+)?", "read", Held.ROW, deployments),
    _rule("POST", r"/deployments/(?P<id>[^/]+)/.+", "", Held.ROW, deployments),
    _rule("GET", r"/deliveries/(?P<id>[^/]+)", "read", Held.ROW, deliveries),
    _rule("POST", r"/deliveries/(?P<id>[^/]+)/.+", "", Held.ROW, deliveries),
    _rule("POST", r"/projects/(?P<project>[^/]+)/.+", "", Held.PATH),
    _rule("GET", r"/pool(/what-if)?", "read", Held.QUERY),
    _rule("GET", r"/waits", "read", Held.QUERY),
    _rule("GET", r"/system", "read", Held.NOT),
    # its own, whatever it sees: addresses, that show what the key may see
    _rule("GET", r"/views", "read", Held.ROUTE),
    _rule("PUT DELETE", r"/views/.+", "read", Held.ROUTE),
    # what the link lets see is what the key itself does
    _rule("POST", r"/dashboard/link", "trigger read", Held.ROUTE),
    _rule("GET POST DELETE", r"/hosts(/.+)?", "", Held.NOT),
    _rule("GET POST", r"/keys", "", Held.NOT),
    _rule("DELETE", r"/keys/.+", "", Held.NOT),
)


def rule(method: str, path: str) -> tuple[Rule, re.Match[str]] | None:
    """The rule for a request; `path` is whole."""
    inner = path.removeprefix(API)
    for candidate in RULES:
        if method in candidate.methods and (match := candidate.path.fullmatch(inner)):
            return candidate, match
    return None


def check_role(caller: Caller, method: str, path: str) -> None:
    """Raises Forbidden where a key of this role may not call this at all."""
    found = rule(method, path)
    if caller.role == "admin" or (found is not None and caller.role in found[0].roles):
        return
    roles = " or ".join(["admin", *sorted(found[0].roles if found is not None else [])])
    raise Forbidden(f"this key has the role {caller.role}; {method} {path} takes one with the role {roles}")


def hold(caller: Caller, scope: Any) -> tuple[Table, str] | None:
    """Keeps a request within the caller's project, by changing it where that does it.

    Gives the table and id of the row that still has to be looked at. Raises Forbidden, NotFound.
    """
    if caller.project is None:
        return None
    path, project = scope["path"], caller.project
    found = rule(scope["method"], path)
    if found is None or found[0].held is Held.NOT:
        raise Forbidden(f"this key is for the project {project}; {scope['method']} {path} is about all of them")
    (matched, match) = found
    if matched.held is Held.TASK:
        of, _, task = match["task"].rpartition("/")
        if of not in ("", project):
            raise NotFound(
                f"there is no task {match['task']!r} for this key, which sees the project {project}",
                code="unknown_task",
            )
        _set_path(scope, f"{API}/tasks/{project}/{task}/runs{match[2] or ''}")
    elif matched.held is Held.QUERY:
        _set_project(scope, project)
    elif matched.held is Held.PATH and match["project"] != project:
        raise NotFound(f"there is no project {match['project']!r} for this key, which sees {project}")
    elif matched.held is Held.ROW:
        assert matched.table is not None
        return matched.table, match["id"]
    return None


def check_row(conn: Connection, now: float, project: str, table: Table, id: str) -> None:
    """Raises NotFound where the row is another project's, as if it were not there."""
    found = conn.scalar(select(table.c.project).where(table.c.id == id))
    if found != project:
        kind = {"runs": "run", "deliveries": "delivery"}.get(table.name, table.name.removesuffix("s"))
        raise NotFound(f"there is no {kind} {id!r} for this key, which sees the project {project}")


def _set_path(scope: Any, path: str) -> None:
    scope["path"] = path
    scope["raw_path"] = quote(path).encode()


def _set_project(scope: Any, project: str) -> None:
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    for name, value in query:
        if name == "project" and value != project:
            raise NotFound(f"there is no project {value!r} for this key, which sees {project}")
    rest = [(name, value) for name, value in query if name != "project"]
    scope["query_string"] = urlencode([*rest, ("project", project)]).encode()


async def _caller(request: Request) -> Caller:
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


#: A parameter of this type is given whose key the request came with.
Who = Annotated[Caller, Depends(_caller)]
