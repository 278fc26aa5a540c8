"""What a runner and its sidecar say to each other over the control socket: one JSON object a line, both ways.

The runner says `hello` first and is answered with `welcome`. After that it asks, each with an `id` of its own, as
many at once as it likes; each is answered with one `reply` or `refusal`, in whatever order they are ready, those
about one container in the order they came. The sidecar says `event` unasked, numbered; `seen` is how far the runner
has acted on them, and stands in what it asks, or in a line of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from coordinator.wire.basics import BaseModel, Name, Text, Whole, Word
from coordinator.wire.host import Assign, CancelAttempt, ContainerState, Egress, Reached, Register, SidecarEvent

PROTOCOL = 1


class Hello(BaseModel):
    """`boot`, `seen`: of the sidecar that the runner has heard before, and the last event that it has acted on."""

    type: Literal["hello"] = "hello"
    protocol: Literal[1] = 1
    boot: Name = ""
    seen: Whole = 0


class Welcome(BaseModel):
    """`boot` names the sidecar's process: where it changes, every container is registered again.

    `seq`: the event after which it will say what comes; with the runner's own boot that is what it has seen.
    """

    type: Literal["welcome"] = "welcome"
    boot: Name
    seq: Whole


class _Ask(BaseModel):
    id: Whole
    seen: Whole = 0
    #: Of the container or builder that it is about.
    name: Name


class RegisterAsk(_Ask):
    type: Literal["register"] = "register"
    body: Register


class ForgetAsk(_Ask):
    type: Literal["forget"] = "forget"


class AssignAsk(_Ask):
    """Hands an attempt over, now or when the container connects; the `started` event confirms it."""

    type: Literal["assign"] = "assign"
    body: Assign


class CancelAsk(_Ask):
    type: Literal["cancel"] = "cancel"
    body: CancelAttempt


class OpenBuilderAsk(_Ask):
    """Opens a door for a step of a build, or holds an open one open for another while."""

    type: Literal["open_builder"] = "open_builder"
    body: Egress


class CloseBuilderAsk(_Ask):
    """Ends what goes through the door; answered with what was reached."""

    type: Literal["close_builder"] = "close_builder"


class Seen(BaseModel):
    type: Literal["seen"] = "seen"
    seen: Whole


Ask = RegisterAsk | ForgetAsk | AssignAsk | CancelAsk | OpenBuilderAsk | CloseBuilderAsk


class Reply(BaseModel):
    """`state` answers `register`, `told` answers `cancel`, `reached` answers `close_builder`."""

    type: Literal["reply"] = "reply"
    id: Whole
    state: ContainerState | None = None
    told: bool = False
    reached: Reached | None = None


class Refusal(BaseModel):
    """Of the request `id`; without one, of all that the other end says: the connection ends after it."""

    type: Literal["refusal"] = "refusal"
    id: Whole | None = None
    code: Word
    message: Text


class Happened(BaseModel):
    type: Literal["event"] = "event"
    event: SidecarEvent


#: What comes down, and what comes up.
DOWN: TypeAdapter[Hello | Seen | Ask] = TypeAdapter(Annotated[Hello | Seen | Ask, Field(discriminator="type")])
UP: TypeAdapter[Welcome | Reply | Refusal | Happened] = TypeAdapter(
    Annotated[Welcome | Reply | Refusal | Happened, Field(discriminator="type")]
)
