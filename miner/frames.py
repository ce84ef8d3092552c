"""The frames that a worker sends, and what the pool believes of them.

A frame has one length, below what a pipe writes at once, so frames never mix and are cut only
by the end of the worker.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from unchained.miner.errors import (
    BadFrameError,
    ForeignPrefixError,
    NonceOutOfShareError,
    ResultHighHashError,
    WrongIdError,
)
from unchained.miner.jobs import Job, Solution
from unchained.node.primitives.coin import HEADER_SIZE, MIX_SIZE, NONCE_OFFSET
from unchained.node.primitives.hashing import COIN_HASH

READY: Final = b"WRDY"
"""The kind of a worker's first frame: it is up and reads its orders."""

COIN_FOUND: Final = b"COIN"
"""The kind of a frame that carries a coin."""

_FRAME: Final = struct.Struct(f">4sQ{HEADER_SIZE}s{MIX_SIZE}s32s")

FRAME_SIZE: Final = _FRAME.size
"""Bytes of a frame."""


class Frame(NamedTuple):
    """A frame as it came, not believed."""

    kind: bytes
    job_number: int
    header: bytes
    mix: bytes
    coin_id: bytes

    def to_bytes(self) -> bytes:
        """Return the frame's bytes."""
        return _FRAME.pack(*self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Frame:
        """Read a frame. Raises BadFrameError for another length or an unknown kind."""
        if len(raw) != FRAME_SIZE:
            raise BadFrameError(f"{len(raw)} bytes instead of {FRAME_SIZE}")
        frame = cls(*_FRAME.unpack(raw))
        if frame.kind not in (READY, COIN_FOUND):
            raise BadFrameError(f"kind {frame.kind.hex()}")
        return frame


def believe(frame: Frame, job: Job, share: range, worker: int) -> Solution:
    """Return the solution in a frame that is of `job` and in the worker's share of its nonces.

    Costs one BLAKE3; the mix is believed, since only an Argon2 could disprove it. Raises
    ForeignPrefixError, NonceOutOfShareError, WrongIdError, HighHash. Protocol §3.2.
    """
    if frame.header[:NONCE_OFFSET] != job.header_prefix:
        raise ForeignPrefixError(job.number)
    nonce = int.from_bytes(frame.header[NONCE_OFFSET:], "big")
    if nonce not in share:
        raise NonceOutOfShareError(nonce, share)
    # Protocol §3.2
    coin_id = COIN_HASH(frame.header + frame.mix)
    if coin_id != frame.coin_id:
        raise WrongIdError(coin_id, frame.coin_id)
    if int.from_bytes(coin_id, "big") > job.target:
        raise ResultHighHashError(job.target, coin_id)
    return Solution(job.number, frame.header, frame.mix, coin_id, worker)
