"""The tasks of this process, as everything but `@task` itself knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Protocol

if TYPE_CHECKING:
    from samovar.declare.retry import Retry
    from samovar.payloads.signature import Signature


class Declared(Protocol):
    """A task: `samovar.tasks.Task`, which is above what runs and calls it."""

    id: str
    module: str
    name: str
    #: file:line of the definition.
    place: str
    function: Callable[..., Any]
    is_async: bool
    retry: Retry | None
    options: dict[str, Any]
    #: What `with_options` has added for a trigger.
    trigger_options: dict[str, Any]

    @property
    def signature(self) -> Signature: ...


#: Every task of this process by id, in the order of their definition. A second task with an id is kept too:
#: the index reports both places, which an error at import could not.
registry: dict[str, list[Declared]] = {}
