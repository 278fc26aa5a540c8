"""The coordinator itself, over the public API."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.wire.basics import MAX_ITEMS, BaseModel, Bytes, Name, Number, Strict, Text, Whole, Word
from coordinator.wire.kept import WaitKind

#: A path of this site's own: nothing that a browser takes for another host.
_OWN_PATH = r"^/(?:[!-.0-\[\]-~][ -~]*)?$"


class TableSize(BaseModel):
    """`rows`: about how many, as the database has them counted; null where it has not."""

    table: Name
    rows: Whole | None


class Retained(BaseModel):
    """How long something is kept, in seconds; 0: for good."""

    what: Name
    seconds: Number


class ProjectBytes(BaseModel):
    """Bytes of a project's logs, of what ended in the last 24 hours or is under way, and of all days of which runs
    are kept. `stored`: of all that it stores, as this coordinator counted it last; null where it has not.
    """

    project: Name
    logs_day: Bytes
    logs_kept: Bytes
    stored: Bytes | None = None


class System(BaseModel):
    """How the coordinator that answers does. `database`: its URL without a password; `database_ms`: what it took to
    read one value, in milliseconds; `duties`: of the maintenance, those that this coordinator holds; `up`: seconds.
    """

    version: Text
    database: Text
    database_ms: Number
    up: Number
    duties: Annotated[list[Name], Field(max_length=MAX_ITEMS)]
    all_duties: Annotated[list[Name], Field(max_length=MAX_ITEMS)]
    disk_free: Bytes
    disk_least_free: Bytes
    tables: Annotated[list[TableSize], Field(max_length=MAX_ITEMS)]
    retention: Annotated[list[Retained], Field(max_length=MAX_ITEMS)]
    projects: Annotated[list[ProjectBytes], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
    #: What a project may store in all; 0: any number of bytes.
    project_bytes: Bytes = 0


class PendingWait(BaseModel):
    """Something that a run waits for now. `name`: the event or task that it is about; a token's id is not told."""

    run: Name
    project: Name
    task: Name
    key: Name
    kind: WaitKind
    name: Name | None = None
    created_at: Word
    until: Word | None = None


class PendingWaits(BaseModel):
    items: Annotated[list[PendingWait], Field(max_length=MAX_ITEMS)]
    next: Name | None = None


class LinkRequest(Strict):
    """`path`: the page that the link leads to."""

    path: str = Field("/", min_length=1, max_length=2000, pattern=_OWN_PATH)


class SignInLink(BaseModel):
    """`url` signs in once, on the coordinator's own host, as the key that has asked for it."""

    url: Text
    expires_at: Word


class SavedViewPut(Strict):
    """`address`: a path of the dashboard's with its query, such as `/runs?status=failed`."""

    address: str = Field(min_length=1, max_length=2000, pattern=_OWN_PATH)


class SavedView(BaseModel):
    name: Name
    address: Text
    created_at: Word


class SavedViews(BaseModel):
    items: Annotated[list[SavedView], Field(max_length=MAX_ITEMS)]
    next: Name | None = None
