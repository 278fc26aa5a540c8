"""What a runner and the sidecar on its host say to each other; and where both find the coordinators."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import BaseModel, Bytes, Name, Number, Outcome, Reason, Start, Text, Whole
from coordinator.wire.fleet import Assignment
from coordinator.wire.kept import EgressHosts, ErrorBody
from coordinator.wire.pool import Placing

#: `"name:port"`; a name has at most 253 characters.
Host = Annotated[str, Field(min_length=3, max_length=260)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Egress(BaseModel):
    """What a container may reach, and how much of it; decided by the runner, held by the sidecar.

    `mode`: "public" is any public address, "list" is `hosts` alone: each `"name:port"`, or `"*.name:port"` for
    every name below it; "build" is the same for a builder, whose refusals name another remedy. `private`: the
    `"name:port"` that the operator's policy lets a list reach at addresses which are not public. `ports`: what
    "public" may reach besides 443 (CONNECT) and 80 (plain HTTP). `connections`: open at a time. `bytes`: in both
    directions, of one run. `idle`: seconds a connection may carry nothing.
    """

    mode: Literal["public", "list", "build"]
    hosts: Annotated[list[Host], Field(max_length=1000)] = Field(default_factory=list)
    private: Annotated[list[Host], Field(max_length=10_000)] = Field(default_factory=list)
    ports: Annotated[list[Port], Field(max_length=1000)] = Field(default_factory=list)
    connections: Annotated[int, Field(ge=1, le=10_000)] = 256
    bytes: Bytes | None = None
    idle: Number = 300.0


class Register(BaseModel):
    """A container the sidecar is to listen for; `assignment` where one is bound to it already.

    `uid`: the user of its processes, as they see it themselves. `undelivered`: the container may not have the
    assignment yet, and gets it if it says so. `egress`: None reaches nothing.
    """

    assignment: Assignment | None = None
    egress: Egress | None = None
    undelivered: bool = False
    uid: int | None = Field(None, ge=0, lt=2**31)
    start: Start = "cold"
    placing: Placing | None = None


#: How the directory of a builder's door is called, before the builder's name; no container's begins with a dot.
BUILDER = ".b-"


class Reached(BaseModel):
    """What a builder has reached while its door was open."""

    hosts: EgressHosts = Field(default_factory=list)


class ContainerState(BaseModel):
    """What the sidecar knows of a container."""

    connected: bool = False
    attempt: Name | None = None
    #: The last attempt whose end the coordinator has accepted.
    finished: Text | None = None


class Assign(BaseModel):
    assignment: Assignment
    start: Start
    placing: Placing | None = None


class CancelAttempt(BaseModel):
    attempt: Name
    reason: Literal["canceled", "timeout"]
    #: Seconds between SIGTERM and SIGKILL.
    grace: Number
    #: What the run's error shall say.
    message: Text


class SidecarEvent(BaseModel):
    """Something a runner acts on.

    `connected` (process 1 has said hello, where nothing else says so) · `ready` (with `error` where the project's
    modules could not be imported) · `started` · `extended` (to `seconds` beyond the timeout) · `ending` (its end
    goes to the coordinator now: whoever hears of it there may ask for a container before `finished` is read here) ·
    `finished` (accepted by the coordinator; `clean` says whether the container may be used again, where it is not
    `held` for what the run has left) · `released` (that is gone; `clean` as before) · `stale` (the coordinator
    refused the attempt's token, or the container runs another) · `idle` (a container that was believed busy came
    back with nothing running) · `disconnected` · `gap` (events of the container up to this one are lost: it is
    registered again, and says where it stands).
    """

    seq: Whole
    container: Name
    kind: Literal[
        "connected",
        "ready",
        "started",
        "extended",
        "ending",
        "finished",
        "released",
        "stale",
        "idle",
        "disconnected",
        "gap",
    ]
    attempt: Name | None = None
    error: ErrorBody | None = None
    seconds: Number | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    clean: bool = False
    held: bool = False
    memory: Bytes | None = None
    #: Of `finished`: the most that the run took.
    peak: Bytes | None = None


class Addresses:
    """Where coordinators answer, of which any will do: one is called until it does not answer."""

    def __init__(self, urls: str) -> None:
        """`urls`: one, or several with commas between them."""
        self._urls = [url.strip().rstrip("/") for url in urls.split(",") if url.strip()]
        if not self._urls:
            raise ValueError("no coordinator: give its URL, or several with commas between them")
        self._at = 0

    @property
    def current(self) -> str:
        return self._urls[self._at]

    def failed(self, url: str) -> None:
        """The next one is current, unless another caller has said so already."""
        if url == self.current:
            self._at = (self._at + 1) % len(self._urls)
