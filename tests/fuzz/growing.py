"""A corpus that grows by what its inputs reach, in plain Python: where there is no `atheris`.

Inputs are changed blindly; one is kept if it takes a step from line to line, in the code of this
project, that none took before.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

from tests.framework.progress_line import LINE_S
from tests.fuzz.libfuzzer import Told
from tests.fuzz.target import LARGEST, FuzzTarget

Steps = frozenset[tuple[str, int, int]]
"""From which line to which, by file."""

WATCHED: Final = ("/node/", "/miner/", "/storage/")
KINDS: Final = ("set", "insert", "delete", "cut", "repeat")


def changed(raw: bytes, changes: Sequence[tuple[tuple[str, int], bytes]]) -> bytes:
    """Return an input after some changes: a kind and a place, and bytes for it."""
    for (kind, place), data in changes:
        at = place % (len(raw) + 1)
        if kind == "set":
            raw = raw[:at] + data + raw[at + len(data) :]
        elif kind == "insert":
            raw = raw[:at] + data + raw[at:]
        elif kind == "delete":
            raw = raw[:at] + raw[at + len(data) :]
        elif kind == "repeat":
            raw = raw[:at] + raw[max(0, at - len(data)) :]
        else:
            raw = raw[:at]
    return raw[:LARGEST]


def steps_of(target: FuzzTarget, raw: bytes, watched: Sequence[str] = WATCHED) -> Steps:
    """Return the steps that a target takes on an input. Raises `NotTotalError`."""
    found: set[tuple[str, int, int]] = set()

    def enter(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        if not any(part in name for part in watched) or "site-packages" in name:
            return None
        last = 0

        def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
            nonlocal last
            if event == "line":
                found.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        target.check(raw)
    finally:
        sys.settrace(before)
    return frozenset(found)


def grow(
    target: FuzzTarget,
    seconds: float,
    seed: int,
    watched: Sequence[str] = WATCHED,
    told: Told | None = None,
) -> list[bytes]:
    """Look for inputs that take new steps for some seconds; return those, and those of the corpus
    that do. `told` is called every ten seconds. Raises `NotTotalError`."""
    rng = random.Random(seed)
    begun = list(target.seeds())
    seen: set[tuple[str, int, int]] = set()
    for raw in begun:
        seen |= steps_of(target, raw, watched)
    kept: list[bytes] = []

    def take(raw: bytes) -> None:
        new = steps_of(target, raw, watched) - seen
        if new:
            seen.update(new)
            kept.append(raw)

    for raw in sorted({b"", *target.corpus()}, key=len):
        take(raw)
    known, executed = len(kept), 0
    began = said = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        if told is not None and now - said >= LINE_S:
            said = now
            told(now - began, executed, len(kept) - known)
        take(changed(rng.choice([*begun, *kept, b""]), _drawn(rng)))
        executed += 1
    return kept


def _drawn(rng: random.Random) -> list[tuple[tuple[str, int], bytes]]:
    return [
        (
            (rng.choice(KINDS), rng.choice((rng.randrange(64), rng.randrange(LARGEST)))),
            rng.choice((rng.randbytes(rng.randint(1, 9)), bytes(rng.randint(1, 9)))),
        )
        for _ in range(rng.randint(1, 4))
    ]
