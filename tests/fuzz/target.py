"""What fuzzing tries: a decoder with the errors that it refuses with, and inputs to begin with.

A target is total: for whatever bytes it returns a value or raises one of those errors. A canonical
one also gives back, from what it read, the very bytes. What it accepts keeps to its bounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.framework.vectors import unhex

CORPUS: Final = Path(__file__).parent / "corpus"
"""A file for each target: its corpus, as a JSON list of hex strings."""

LARGEST: Final = 1 << 16
"""Bytes of an input at most; the bounds of the decoders themselves have tests of their own."""


class NotTotalError(Exception):
    """A decoder raised what it does not refuse with, gave back other bytes than it read, or
    accepted more than it may: these are `raw`."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message)
        self.raw = raw


class Bound(NamedTuple):
    """How much of something a decoder accepts at most. `size` returns how much of it there is, of
    an input and what was read of it; `make` an input with so much of it, and sound in all else."""

    what: str
    most: int
    size: Callable[[bytes, Any], int]
    make: Callable[[int], bytes]


def how_many(_raw: bytes, value: Any) -> int:
    """Return how many there are in what was read."""
    return len(value)


def how_many_of(field: str) -> Callable[[bytes, Any], int]:
    """Return what tells how many there are in a field of what was read."""
    return lambda _raw, value: len(getattr(value, field))


def some_ids(count: int) -> tuple[bytes, ...]:
    """Return ids of 32 bytes, ascending."""
    return tuple(number.to_bytes(32, "big") for number in range(1, count + 1))


def _bytes_of(raw: bytes) -> Sequence[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """A decoder, the errors that it refuses with, and what it accepts for certain. `parts` are what
    an input that fails is made smaller by; `draws` is how many a test draws."""

    name: str
    decode: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], Iterable[bytes]]
    encode: Callable[[Any], bytes] | None = field(default=None)
    """For a canonical decoder: the bytes of what it read."""
    parts: Callable[[bytes], Sequence[bytes]] = field(default=_bytes_of)
    draws: int = field(default=60)
    bounds: Sequence[Bound] = field(default=())

    def check(self, raw: bytes) -> bool:
        """Return whether the decoder accepts some bytes. Raises `NotTotalError`."""
        return not isinstance(self.outcome(raw), self.refusals)

    def outcome(self, raw: bytes) -> Any:
        """Return what the decoder reads, or the error that it refuses with. Raises
        `NotTotalError`."""
        try:
            value = self.decode(raw)
        except self.refusals as error:
            if not str(error) or "\n" in str(error):
                raise NotTotalError(f"{self.name} refuses in other than one line", raw) from error
            return error
        except Exception as error:
            raise NotTotalError(f"{self.name} of {raw.hex()}: {error!r}", raw) from error
        if self.encode is not None and (again := self.encode(value)) != raw:
            raise NotTotalError(f"{self.name} of {raw.hex()} gives back {again.hex()}", raw)
        for what, most, size, _ in self.bounds:
            if (found := size(raw, value)) > most:
                raise NotTotalError(
                    f"{self.name} accepts {found} {what}, at most {most} may be", raw
                )
        return value

    def corpus(self) -> list[bytes]:
        """Return the inputs that are kept, in order."""
        path = CORPUS / f"{self.name}.json"
        return [unhex(text) for text in json.loads(path.read_text())] if path.exists() else []

    def keep(self, inputs: Iterable[bytes]) -> None:
        """Replace the corpus; of nothing there is no file."""
        path = CORPUS / f"{self.name}.json"
        rows = ",\n".join(f' "{raw.hex()}"' for raw in sorted(set(inputs), key=_size_first))
        if not rows:
            path.unlink(missing_ok=True)
            return
        CORPUS.mkdir(exist_ok=True)
        path.write_text(f"[\n{rows}\n]\n")


def _size_first(raw: bytes) -> tuple[int, bytes]:
    return len(raw), raw
