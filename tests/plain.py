"""How tests reach servers of their own."""

from __future__ import annotations

from typing import Any

#: Options of httpx: they speak no TLS, and reading a system's certificates takes as long as some ten requests.
PLAIN: Any = {"trust_env": False, "verify": False}
