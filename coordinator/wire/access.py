"""Keys and secrets over the public API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from coordinator.wire.basics import Json, Strict

KeyRole = Literal["admin", "runner", "trigger", "read"]


class KeyRequest(Strict):
    """`project` null: it sees every project."""

    name: str = Field(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    role: KeyRole = "trigger"
    project: str | None = Field(None, min_length=1, max_length=63)


class Key(BaseModel):
    id: str
    name: str
    role: KeyRole
    project: str | None
    created_at: str
    revoked_at: str | None


class NewKey(Key):
    """`key` is told this once."""

    key: str


class KeyPage(BaseModel):
    items: list[Key]
    next: str | None = None


class SecretPut(Strict):
    """`value` is checked by hand: the message about a wrong one must not have it."""

    value: Json


class Secret(BaseModel):
    """`project` is null for one of every project."""

    name: str
    project: str | None
    created_at: str
    updated_at: str


class SecretPage(BaseModel):
    items: list[Secret]
    next: str | None = None
