"""Templates, and what goes around every answer of the dashboard."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from coordinator.dashboard import formats, text

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"

#: No script, style, picture or connection but from here; no markup of a task's could bring one.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def version(name: str) -> str:
    """Of a static file: what its address changes with."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def static(name: str) -> str:
    return f"/static/{name}?v={version(name)}"


def address(path: str, **query: Any) -> str:
    """A page's address; what is None or empty is left out."""
    pairs = [(name, value) for name, value in query.items() if value not in (None, "", [], ())]
    return path + (f"?{urlencode(pairs, doseq=True)}" if pairs else "")


def segment(name: object) -> str:
    """A name as one part of a path."""
    return quote(str(name), safe="")


def filtering(path: str) -> Markup:
    """Of a form that narrows what the page at `path` shows: the page takes its answer's place, and its address."""
    return Markup(
        'hx-get="{}" hx-trigger="submit, change delay:200ms" hx-target="#main" hx-select="#main" '
        'hx-swap="outerHTML" hx-push-url="true"'
    ).format(path)


@cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=text.put_out,
    )
    made.filters |= {
        "ago": formats.ago,
        "ms": formats.milliseconds,
        "span": formats.span,
        "size": formats.size,
        "tree": formats.tree,
        "brief": text.brief,
        "coloured": text.coloured,
        "segment": segment,
    }
    made.globals |= {
        "static": static,
        "filtering": filtering,
        "address": address,
        "between": formats.between,
        "share": formats.share,
    }
    return made


def live_blocks(template: str) -> list[str]:
    """The blocks of a page that are kept up to date, by their names."""
    return [name for name in environment().get_template(template).blocks if name.startswith("live_")]


def blocks(template: str, names: list[str], context: dict[str, Any]) -> dict[str, str]:
    """Parts of a page by their names."""
    found = environment().get_template(template)
    made = found.new_context(context)
    return {name: "".join(found.blocks[name](made)) for name in names}


def html(template: str, context: dict[str, Any], status: int = 200) -> Response:
    return HTMLResponse(environment().get_template(template).render(context), status, headers=HEADERS)
