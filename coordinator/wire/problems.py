"""The one form of every refusal."""

from __future__ import annotations

from pydantic import BaseModel, Field


class FieldProblem(BaseModel):
    path: str
    message: str


class Problem(BaseModel):
    """Why a request was refused; the body is `{"error": Problem}`."""

    code: str
    message: str
    fields: list[FieldProblem] = Field(default_factory=list)
