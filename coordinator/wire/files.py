"""Files over the public API, and between a sidecar and the coordinator."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.wire.basics import BaseModel, Bytes, Name, Strict, Whole, Word

FileName = Annotated[str, Field(min_length=1, max_length=255)]
Digest = Annotated[str, Field(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$")]
MediaType = Annotated[str, Field(max_length=128)]


class FileRequest(Strict):
    """A file that is to be uploaded. `sha256`, where it is given, is what all of it must have."""

    name: FileName
    size: Bytes
    sha256: Digest | None = None
    media_type: MediaType = "application/octet-stream"


class StoredFile(BaseModel):
    """`received`: bytes that are here; `run`: the one that has made it, of an artifact; `sha256`: in hexadecimal.

    In a payload, `{"$file": id}` is this file.
    """

    id: Name
    name: FileName
    size: Bytes
    received: Bytes
    sha256: Name | None
    media_type: MediaType
    project: Name | None
    run: Name | None
    created_at: Word
    #: When it is removed unless a run has it; null for one that goes with its run.
    expires_at: Word | None


class FilePage(BaseModel):
    items: Annotated[list[StoredFile], Field(max_length=1000)]
    next: FileName | None = None


class ArtifactCall(BaseModel):
    """A file that an attempt's run is to keep."""

    token: Whole
    name: FileName
    size: Bytes
    sha256: Digest
    media_type: MediaType = "application/octet-stream"


class Received(BaseModel):
    """How much of a file is there."""

    id: Name
    received: Bytes
    size: Bytes
