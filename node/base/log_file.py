"""The log's file: lines of JSON, set aside by size and by age, compressed, and kept for a time.

Whatever goes wrong with setting aside, the log goes on in the file that is open.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec

FILE_BYTES: Final = 16 * 1024 * 1024
FILE_COUNT: Final = 5
"""Files kept when the log rotates: NAME, NAME.1.gz and so on."""
FILE_HOURS: Final = 24
FILE_DAYS: Final = 14
ROTATION_RETRY_S: Final = 60.0
"""Seconds after a rotation that failed until the next try."""
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0


class FileLimits(msgspec.Struct, frozen=True):
    """When a file is set aside, and how long it is kept. `hours` or `days` 0: no bound by age."""

    max_bytes: int = FILE_BYTES
    count: int = FILE_COUNT
    hours: int = FILE_HOURS
    days: int = FILE_DAYS


class RotatingFile:
    """JSON lines in a file of mode 0600 that is set aside when it is large or old enough."""

    def __init__(self, path: Path, limits: FileLimits | None = None) -> None:
        self._path = path
        self._limits = limits or FileLimits()
        self._retry_at = 0.0
        self.rotations_failed = 0
        """Tries to set the file aside that came to nothing."""
        self._file = self._open()
        self._began = self._birth()

    def _open(self) -> BinaryIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return cast(BinaryIO, os.fdopen(descriptor, "ab", buffering=0))

    def _birth(self) -> float:
        """Return when the file was begun: what is in it before this start counts too."""
        status = os.fstat(self._file.fileno())
        return min(status.st_mtime, status.st_ctime) if status.st_size else time.time()

    def write(self, event: Mapping[str, object]) -> None:
        """Append one line, rotating first where it would not fit or the file is old."""
        line = msgspec.json.encode(event) + b"\n"
        size = self._file.tell()
        is_large = size + len(line) > self._limits.max_bytes
        is_old = self._limits.hours and time.time() - self._began > self._limits.hours * HOUR_S
        if size and (is_large or is_old) and time.monotonic() >= self._retry_at:
            self._rotate()
        self._file.write(line)

    def _name(self, number: int) -> Path:
        return Path(f"{self._path}.{number}.gz")

    def _rotate(self) -> None:
        """Set the file aside. What fails leaves the open file in use, until the next try."""
        try:
            for number in range(self._limits.count - 1, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._name(number - 1).replace(self._name(number))
            aside = Path(f"{self._path}.1")
            self._path.replace(aside)
            try:
                fresh = self._open()
            except OSError:
                aside.replace(self._path)
                raise
        except OSError:
            self.rotations_failed += 1
            self._retry_at = time.monotonic() + ROTATION_RETRY_S
            return
        self._file.close()
        self._file, self._began = fresh, time.time()
        try:
            self._compress(aside)
            self._forget_old()
        except OSError:
            # On a full disk: what was set aside stays as it is, and in nobody's way.
            self.rotations_failed += 1

    def _compress(self, aside: Path) -> None:
        if self._limits.count < 2:
            aside.unlink()
            return
        packed = self._name(1)
        descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with (
                aside.open("rb") as source,
                os.fdopen(descriptor, "wb") as target,
                gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6) as packer,
            ):
                shutil.copyfileobj(source, packer)
        except OSError:
            packed.unlink(missing_ok=True)
            raise
        aside.unlink()

    def _forget_old(self) -> None:
        limits = self._limits
        for path in self._path.parent.glob(f"{self._path.name}.*.gz"):
            number = path.name.removeprefix(f"{self._path.name}.").removesuffix(".gz")
            beyond = number.isdigit() and int(number) >= limits.count
            old = limits.days and time.time() - path.stat().st_mtime > limits.days * DAY_S
            if beyond or old:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
