"""Keys and secrets over the public API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coordinator.wire.basics import MAX_ITEMS, BaseModel, Count, Duration, Json, Name, Object, Strict, Word

KeyRole = Literal["admin", "runner", "trigger", "read"]


class KeyRequest(Strict):
    """`project` null: it sees every project."""

    name: str = Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    role: KeyRole = "trigger"
    project: str | None = Field(None, min_length=1, max_length=63)


class Key(BaseModel):
    id: Name
    name: Name
    role: KeyRole
    project: Name | None
    #: The one runner it acts as; "*" for all that have no key of their own; null until its first use.
    runner: Name | None = None
    created_at: Word
    revoked_at: Word | None


class NewKey(Key):
    """`key` is told this once."""

    key: Name


class KeyPage(BaseModel):
    items: Annotated[list[Key], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class HostTokenRequest(Strict):
    """`expires_in`: how long it may be used."""

    expires_in: Duration = Field(3600.0, gt=0, le=7 * 86400.0)


class HostToken(BaseModel):
    """`token` is told this once, and enrols one host."""

    id: Name
    token: Name
    expires_at: Word


class Host(BaseModel):
    """`key` is the name of its own; null where it comes with a key that hosts share."""

    runner: Name
    alive: bool
    seen_at: Word
    drained_at: Word | None
    #: Attempts that it has now.
    attempts: Count
    key: Name | None
    revoked_at: Word | None


class HostPage(BaseModel):
    items: Annotated[list[Host], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class AuditEntry(BaseModel):
    """`outcome` "refused": nothing was changed. `key` null: what needs no key, such as a token's address."""

    id: Name
    at: Word
    action: Name
    outcome: Literal["done", "refused"]
    project: Name | None
    key: Name | None
    key_id: Name | None
    role: Word | None
    address: Name
    target: Name
    detail: Object


class AuditPage(BaseModel):
    items: Annotated[list[AuditEntry], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class SecretPut(Strict):
    """`value` is checked by hand: the message about a wrong one must not have it."""

    value: Json


class Rotation(Strict):
    """`drop_old`: take the earlier master keys away, when nothing depends on them any more."""

    drop_old: bool = False


class Rotated(BaseModel):
    """`key` names the new master key; `sealed`: how many secrets it has sealed; `dropped`: earlier keys taken away.

    `unopened`: secrets that no key could open, and that stay as they are.
    """

    key: Name
    sealed: Count
    unopened: Count
    dropped: Count


class Secret(BaseModel):
    """`project` is null for one of every project."""

    name: Name
    project: Name | None
    created_at: Word
    updated_at: Word


class SecretPage(BaseModel):
    items: Annotated[list[Secret], Field(max_length=MAX_ITEMS)]
    next: Name | None = None
