"""The files that pages load: scripts, styles, pictures. None comes from anywhere else."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

import msgspec

STATIC: Final = "static"

STATIC_BYTES_MAX: Final = 200 * 1024
"""All of them together, uncompressed."""

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class StaticFile(msgspec.Struct, frozen=True):
    """A file, its type, and a tag that changes with it."""

    body: bytes
    media_type: str
    tag: str


class StaticFiles:
    """The files of this installation, read as they are asked for and kept."""

    def __init__(self) -> None:
        self._folder = files(__package__).joinpath(STATIC)
        self._names = {
            entry.name for entry in self._folder.iterdir() if _suffix(entry.name) in _TYPES
        }
        self._kept: dict[str, StaticFile] = {}

    def __iter__(self) -> object:
        return iter(sorted(self._names))

    def find(self, name: str) -> StaticFile | None:
        """Return a file by its plain name."""
        if name not in self._names:
            return None
        if name not in self._kept:
            body = self._folder.joinpath(name).read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            self._kept[name] = StaticFile(body, _TYPES[_suffix(name)], tag)
        return self._kept[name]


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""
