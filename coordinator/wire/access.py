"""Keys and secrets over the public API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from coordinator.wire.basics import MAX_ITEMS, Json, Name, Strict, Word

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
    created_at: Word
    revoked_at: Word | None


class NewKey(Key):
    """`key` is told this once."""

    key: Name


class KeyPage(BaseModel):
    items: Annotated[list[Key], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class SecretPut(Strict):
    """`value` is checked by hand: the message about a wrong one must not have it."""

    value: Json


class Secret(BaseModel):
    """`project` is null for one of every project."""

    name: Name
    project: Name | None
    created_at: Word
    updated_at: Word


class SecretPage(BaseModel):
    items: Annotated[list[Secret], Field(max_length=MAX_ITEMS)]
    next: Name | None = None
