"""The vault: seals secrets with a key that is in no database.

AES-256-GCM with a fresh nonce each time, and the secret's project and name bound in: a row that is copied to
another name or project opens there as nothing. The master keys are the lines of one file, 32 bytes in base64 each,
which nobody but its owner may read. The last one seals, all of them open; a row says by which it was sealed. So a
key is rotated by adding a line and sealing everything anew: `samovar secrets rotate` does that, and so does each
start of a coordinator.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coordinator.foundation import files
from coordinator.foundation.errors import CoordinatorError

_NONCE = 12
_KEY = 32
_HEAD = b"# Samovar's master keys, one a line. The last one seals secrets, all of them open.\n"


class BadMasterKey(CoordinatorError):
    """The file of the master keys can't be used; nothing is sealed or opened meanwhile."""

    status = 503
    code = "master_key"


class Sealed(NamedTuple):
    """A secret as it is stored. `key` names the master key that sealed it."""

    key: str
    nonce: bytes
    data: bytes


class Vault:
    """Reads its file at each use: a key that is added counts at once, and one that others can read at no time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seal(self, project: str, name: str, value: str, *, create: bool = False) -> Sealed:
        """`create`: make the file where there is none yet. Raises BadMasterKey."""
        if create and not self.path.exists():
            self._create()
        keys = self._keys()
        key_id, key = list(keys.items())[-1]
        nonce = os.urandom(_NONCE)
        return Sealed(key_id, nonce, AESGCM(key).encrypt(nonce, value.encode(), _bound(project, name)))

    def open(self, project: str, name: str, sealed: Sealed) -> str:
        """The secret. Raises BadMasterKey, also where the row is not what was sealed under this name."""
        key = self._keys().get(sealed.key)
        if key is None:
            raise BadMasterKey(
                f"{self.path} has not the key {sealed.key} that sealed the secret {name!r}: put its line back, or "
                "set the secret again"
            )
        try:
            return AESGCM(key).decrypt(sealed.nonce, sealed.data, _bound(project, name)).decode()
        except InvalidTag:
            raise BadMasterKey(
                f"the secret {name!r} of {project or 'every project'} was changed in the database: set it again"
            ) from None

    def current(self) -> str | None:
        """The name of the key that seals; None where there is no file yet. Raises BadMasterKey."""
        return list(self._keys())[-1] if self.path.exists() else None

    def add(self, *, create: bool = False) -> str:
        """A new key, which seals from now on; its name. `create`: as of `seal`.

        Raises BadMasterKey, also where the file can't be written.
        """
        with self._alone():
            if create and not self.path.exists():
                self._create()
            else:
                self._keys()
                self._write(self.path.read_bytes().rstrip(b"\n") + b"\n" + _new_key())
        return list(self._keys())[-1]

    def drop_all_but(self, kept: set[str]) -> int:
        """Takes the other keys out of the file; how many. What they have sealed can never be opened again."""
        with self._alone():
            keys = self._keys()
            lines = [base64.b64encode(key) + b"\n" for name, key in keys.items() if name in kept]
            if len(lines) < len(keys):
                self._write(_HEAD + b"".join(lines))
            return len(keys) - len(lines)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time changes the file, of all processes of the host."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, content: bytes) -> None:
        try:
            files.replace(self.path, content)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> BadMasterKey:
        return BadMasterKey(
            f"{self.path} cannot be written ({error.strerror}): add a line to it where it is kept (openssl rand "
            "-base64 32), and start the coordinators again, which seals everything with it"
        )

    def _keys(self) -> dict[str, bytes]:
        try:
            with open(self.path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                lines = file.read(64 * 1024).splitlines()
        except OSError as error:
            raise BadMasterKey(
                f"the master keys in {self.path} cannot be read ({error.strerror}): put the file back; without it "
                "the secrets that it sealed can only be set again, after they were removed"
            ) from None
        if mode & 0o077:
            raise BadMasterKey(f"others can read {self.path} (mode {mode & 0o777:o}): chmod 600 {self.path}")
        found: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith(b"#"):
                continue
            try:
                key = base64.b64decode(text, validate=True)
            except binascii.Error:
                key = b""
            if len(key) != _KEY:
                raise BadMasterKey(
                    f"{self.path}, line {number}: not {_KEY} bytes in base64 (openssl rand -base64 32)"
                )
            found[hashlib.sha256(b"samovar master key:" + key).hexdigest()[:16]] = key
        if not found:
            raise BadMasterKey(f"{self.path} has no key: add one (openssl rand -base64 32)")
        return found

    def _create(self) -> None:
        """A first key. Of several coordinators that do this at once one makes the file, and all use it."""
        try:
            files.make_once(self.path, _HEAD + _new_key())
        except OSError as error:
            raise BadMasterKey(f"{self.path} cannot be made: {error.strerror}") from error


def _new_key() -> bytes:
    return base64.b64encode(os.urandom(_KEY)) + b"\n"


def _bound(project: str, name: str) -> bytes:
    return json.dumps([project, name]).encode()
