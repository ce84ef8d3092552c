"""Inputs that a target failed on: made smaller, written to files, and read again.

target NAME
HEX, in lines; of a program its steps, in words
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.framework.programs.steps import Program
from tests.framework.simulation.shrink import shrink
from tests.fuzz.target import FuzzTarget, NotTotalError

FAILURES: Final = Path("out", "fuzz")
"""Where a failure is written."""

TRIES: Final = 400
"""Inputs that are tried to make one smaller."""

_LINE: Final = 48


def fails(target: FuzzTarget, raw: bytes) -> bool:
    """Return whether a target is not total on some bytes."""
    try:
        target.check(raw)
    except NotTotalError:
        return True
    return False


def smaller(target: FuzzTarget, raw: bytes, tries: int = TRIES) -> bytes:
    """Return fewer bytes, more of them zero, on which a target still fails."""

    def still(parts: Sequence[bytes]) -> bool:
        return fails(target, b"".join(parts))

    left = bytearray(b"".join(shrink(target.parts(raw), still, tries)))
    for at in range(min(len(left), tries)):
        before = left[at]
        if before:
            left[at] = 0
            if not fails(target, bytes(left)):
                left[at] = before
    return bytes(left)


def keep_failure(target: FuzzTarget, raw: bytes, folder: Path = FAILURES) -> Path:
    """Write the smallest input that is found from one that fails; return the file."""
    raw = smaller(target, raw)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{hashlib.sha256(raw).hexdigest()[:8]}.fuzzed"
    text = raw.hex()
    lines = [text[at : at + 2 * _LINE] for at in range(0, len(text), 2 * _LINE)]
    if target.name == "program":
        lines = str(Program.from_bytes(raw)).splitlines()
    path.write_text("\n".join((f"target {target.name}", *lines)) + "\n")
    return path


def load(path: Path, targets: Mapping[str, FuzzTarget]) -> tuple[FuzzTarget, bytes]:
    """Return the target and the input of a file. Raises ValueError, KeyError."""
    first, _, rest = path.read_text().partition("\n")
    target = targets[first.removeprefix("target ")]
    if target.name == "program":
        return target, Program.from_text(rest).to_bytes()
    return target, bytes.fromhex(rest)
