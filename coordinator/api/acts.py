"""What each request that changes something is called in the audit (a test compares this table with the routes)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from sqlalchemy import Table

from coordinator.access.audit import Act
from coordinator.access.keys import Caller, hash_key
from coordinator.storage import deeds
from coordinator.storage.tables import bulks, deliveries, deployments, files, schedules
from coordinator.wire import API, FLEET


class _Rule(NamedTuple):
    methods: frozenset[str]
    path: re.Pattern[str]
    action: str
    table: Table | None = None
    many: bool = False


def _rule(methods: str, path: str, action: str, table: Table | None = None, many: bool = False) -> _Rule:
    return _Rule(frozenset(methods.split()), re.compile(path), action, table, many)


RULES = (
    _rule("POST", rf"{API}/tasks/(?P<task>.+)/runs", "run.trigger"),
    _rule("POST", rf"{API}/tasks/(?P<task>.+)/runs/batch", "run.trigger_batch"),
    # (a check changes nothing)
    _rule("POST", rf"{API}/runs/(?P<many>cancel|replay|dismiss)", "run.", many=True),
    _rule("POST", rf"{API}/runs/(?P<target>[^/]+)/(?P<verb>cancel|replay|dismiss|bump)", "run."),
    _rule("POST", rf"{API}/runs/(?P<target>[^/]+)/release-key", "run.release_key"),
    _rule("POST", rf"{API}/bulk", "bulk.create"),
    _rule("POST", rf"{API}/bulk/(?P<target>[^/]+)/take-back", "bulk.take_back", bulks),
    _rule("POST", rf"{API}/bulk/(?P<target>[^/]+)/begin", "bulk.begin", bulks),
    _rule("POST", rf"{API}/files", "file.upload"),
    _rule("PATCH", rf"{API}/files/(?P<target>[^/]+)", "file.upload", files),
    _rule("POST", rf"{API}/events", "event.send"),
    _rule("POST", rf"{API}/deployments", "deployment.create", deployments),
    _rule("POST", rf"{API}/deployments/(?P<target>[^/]+)/(?P<verb>promote|rebuild)", "deployment.", deployments),
    _rule("POST", rf"{API}/projects/(?P<project>[^/]+)/rollback", "deployment.rollback"),
    _rule("PATCH", rf"{API}/queues/(?P<target>.+)", "queue.change"),
    _rule("POST", rf"{API}/schedules", "schedule.create"),
    _rule("PATCH", rf"{API}/schedules/(?P<target>[^/]+)", "schedule.change", schedules),
    _rule("DELETE", rf"{API}/schedules/(?P<target>[^/]+)", "schedule.remove", schedules),
    _rule("POST", rf"{API}/secrets/rotate", "secret.rotate"),
    _rule("PUT", rf"{API}/secrets/(?P<target>.+)", "secret.set"),
    _rule("DELETE", rf"{API}/secrets/(?P<target>.+)", "secret.remove"),
    _rule("POST", rf"{API}/keys", "key.create"),
    _rule("DELETE", rf"{API}/keys/(?P<target>.+)", "key.revoke"),
    _rule("POST", rf"{API}/hosts/token", "host.token"),
    _rule("POST", rf"{API}/dashboard/link", "session.link"),
    _rule("PUT", rf"{API}/views/(?P<target>.+)", "view.save"),
    _rule("DELETE", rf"{API}/views/(?P<target>.+)", "view.remove"),
    _rule("POST", rf"{API}/hosts/(?P<target>[^/]+)/drain", "host.drain"),
    _rule("DELETE", rf"{API}/hosts/(?P<target>[^/]+)/drain", "host.undrain"),
    _rule("POST", rf"{API}/errors/(?P<project>[^/]+)/(?P<target>[^/]+)/(?P<verb>resolve|mute|reopen)", "error."),
    _rule("POST", rf"{API}/deliveries/(?P<target>[^/]+)/replay", "delivery.replay", deliveries),
    _rule("POST", r"/tokens/(?P<token>[^/]+)", "token.complete"),
    _rule("POST", r"/login", "session.begin"),
    _rule("POST", r"/logout", "session.end"),
    _rule("POST", rf"{FLEET}/runners/(?P<target>[^/]+)/enrol", "host.enrol"),
)


def act(method: str, path: str, scope: Any, address: str, caller: Caller | None) -> Act | None:
    """What the audit says of this request; None where it changes nothing that it is about."""
    for rule in RULES:
        if method in rule.methods and (match := rule.path.fullmatch(path)):
            given = match.groupdict()
            made = Act(rule.action, address, caller, given.get("project"), given.get("target") or "", rule.many)
            made.table = rule.table
            if verb := given.get("verb") or given.get("many"):
                made.action += verb
            if rule.many:
                made.detail["bulk"] = True
            if token := given.get("token"):
                made.token = hash_key(token)
            if task := given.get("task"):
                made.detail["task"] = task
            if rule.methods & {"PUT", "PATCH", "DELETE"} and rule.table is None:
                query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
                made.project = query.get("project", [None])[0]
            if caller is not None and caller.project is not None:
                made.project = caller.project
            return made
    return None


def about(project: str | None = None, **detail: Any) -> None:
    """What a route knows better than the request's head: the project that it is about, and what is changed."""
    deed = deeds.current.get()
    if isinstance(deed, Act):
        deed.project = project or deed.project
        deed.detail.update(detail)


def by(caller: Caller) -> None:
    """Who it is that does this, where that is known no sooner than in the route."""
    deed = deeds.current.get()
    if isinstance(deed, Act):
        deed.caller = caller


def refusal(method: str, path: str, scope: Any, address: str, caller: Caller) -> Act:
    """What the audit says of a request that was refused, whether or not it would have changed anything."""
    return act(method, path, scope, address, caller) or Act(f"{method} {path}", address, caller)
