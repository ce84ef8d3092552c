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
        at, end, most = 0, len(data), self._whole + RECORDS_AT_ONCE
        while at < end and self._whole < most:
            if not self._missing:
                step = min(_HEAD_BYTES - len(self._head), end - at)
                self._head += data[at : at + step]
                at += step
                if len(self._head) < _HEAD_BYTES:
                    return at
                self._missing = self._head[3] << 8 | self._head[4]
                self._head = b""
            step = min(self._missing, end - at)
            self._missing -= step
            at += step
            self._whole += not self._missing
        return at

    @property
    def is_unread(self) -> bool:
        """Whether a record has come that may carry data and has not been read to its end."""
        return self._full < self._whole

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
