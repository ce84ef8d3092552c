"""TLS records as they come in: how many there are, and how many of them carry nothing."""

from __future__ import annotations

from typing import Final

from unchained.node.base.token_bucket import TokenBucket
from unchained.node.transport.libp2p.pace import WORK_PER_RECORD, Pace
from unchained.node.transport.libp2p.secured import FloodError

RECORDS_AT_ONCE: Final = 64
"""Records that OpenSSL gets at a time, since it takes all that it has before it gives anything
back: 1 ms at most."""
EMPTY_RECORDS_BURST: Final = 64
EMPTY_RECORDS_PER_S: Final = 4
"""Records without data, those of the handshake among them: some ten, and then next to none."""
_HEAD_BYTES: Final = 5


class TlsRecords:
    """Counts the records of one connection by their heads, which are not encrypted."""

    def __init__(self, pace: Pace, now: float) -> None:
        self._pace = pace
        self._empty = TokenBucket(EMPTY_RECORDS_BURST, EMPTY_RECORDS_PER_S, now)
        self._head = b""
        self._missing = 0
        """Bytes of the record under way that have not come."""
        self._whole = 0
        """Records that have come, and of them those that carried data; since `spend`."""
        self._full = 0

    def take(self, data: bytes) -> int:
        """Note what comes next, up to the end of `RECORDS_AT_ONCE` records; return its bytes."""
        at, most = 0, self._whole + RECORDS_AT_ONCE
        while at < len(data) and self._whole < most:
            if self._missing:
                step = min(self._missing, len(data) - at)
                self._missing -= step
            else:
                step = min(_HEAD_BYTES - len(self._head), len(data) - at)
                self._head += data[at : at + step]
                if len(self._head) < _HEAD_BYTES:
                    return at + step
                self._missing = int.from_bytes(self._head[3:], "big")
                self._head = b""
            at += step
            if not self._missing:
                self._whole += 1
        return at

    def note_data(self) -> None:
        """Note that all data of a record was taken."""
        self._full += 1

    async def spend(self, now: float) -> None:
        """Pay for the records that have come, once all their data is taken: wait where they are
        many. Raises `FloodError` if too many carried none."""
        whole, empty = self._whole, self._whole - self._full
        self._whole = self._full = 0
        if not self._empty.take(now, empty):
            raise FloodError("a flood of TLS records without data")
        if whole:
            await self._pace.spend(WORK_PER_RECORD * whole)
