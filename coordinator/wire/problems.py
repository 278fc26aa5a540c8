"""The one form of every refusal."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coordinator.wire.basics import MAX_ITEMS, BaseModel, Name, Text


class FieldProblem(BaseModel):
    path: Name
    message: Text


class Problem(BaseModel):
    """Why a request was refused; the body is `{"error": Problem}`."""

    code: Text
    message: Text
    fields: Annotated[list[FieldProblem], Field(max_length=MAX_ITEMS)] = Field(default_factory=list)
