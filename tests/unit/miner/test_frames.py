"""What the pool believes of a worker's frames: each lie has its own error."""

from __future__ import annotations

import pytest

from unchained.miner.errors import (
    BadFrameError,
    CorruptResultError,
    ForeignPrefixError,
    NonceOutOfShareError,
    ResultHighHashError,
    WrongIdError,
)
from unchained.miner.frames import COIN_FOUND, FRAME_SIZE, Frame, believe
from unchained.miner.jobs import Job, Solution
from unchained.miner.search import search
from unchained.node.crypto.pow import reference_backend
from unchained.node.primitives.hashing import COIN_HASH

JOB = Job(number=5, header_prefix=bytes(range(158)), target=2**254, mem_kib=8)
SHARE = range(1000)
FOUND = search(reference_backend(), JOB.header_prefix, JOB.target, 8, SHARE, lambda: False)
assert FOUND is not None
HONEST = Frame(COIN_FOUND, 5, *FOUND)


def high() -> Frame:
    """An honest hash that is no coin."""
    mix = next(
        mix
        for mix in (bytes([value]) * 32 for value in range(256))
        if int.from_bytes(COIN_HASH(FOUND.header + mix), "big") > JOB.target
    )
    return HONEST._replace(mix=mix, coin_id=COIN_HASH(FOUND.header + mix))


def test_an_honest_frame_crosses() -> None:
    raw = HONEST.to_bytes()
    assert len(raw) == FRAME_SIZE <= 512  # the least that POSIX writes to a pipe at once
    assert believe(Frame.from_bytes(raw), JOB, SHARE, 3) == Solution(5, *FOUND, 3)


@pytest.mark.parametrize(
    "raw", [b"", HONEST.to_bytes()[:-1], HONEST.to_bytes() + b"x", b"what" + HONEST.to_bytes()[4:]]
)
def test_a_malformed_frame(raw: bytes) -> None:
    with pytest.raises(BadFrameError):
        Frame.from_bytes(raw)


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (HONEST._replace(header=b"\xff" + FOUND.header[1:]), ForeignPrefixError),
        (HONEST._replace(header=FOUND.header[:158] + b"\xff" * 8), NonceOutOfShareError),
        (HONEST._replace(mix=bytes(32)), WrongIdError),
        (HONEST._replace(coin_id=bytes(32)), WrongIdError),
        (high(), ResultHighHashError),
    ],
)
def test_a_lie_is_reported_by_name(lie: Frame, error: type[CorruptResultError]) -> None:
    with pytest.raises(error):
        believe(lie, JOB, SHARE, 0)
