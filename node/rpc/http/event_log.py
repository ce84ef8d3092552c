"""The chain's gapless log as `GET /events` gives it.

A number is one above the store's, so that `since=0` gives the whole log. What an event says:

    anchor.connected       height, anchor        an anchor joined the main chain at its tip
    anchor.disconnected    height, anchor        the tip was taken off the main chain
    coin.accepted          coin, parent, time    a valid coin became known; of one that the node has
                                                 let go of since, there is no more than its id
    transfer.entered       wid                   a transfer entered the mempool
    transfer.left          wid, reason           it left: included, conflict, replaced, evicted,
                                                 expired or invalid
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final

from unchained.node.chain.mempool.mempool import Reason
from unchained.node.chain.service import ChainService
from unchained.node.primitives.coin import HEADER_SIZE, CoinHeader
from unchained.node.rpc.http.event_streams import Entries, EventsGoneError, LogEntry
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    CoinAccepted,
    Event,
    TransferEntered,
    TransferLeft,
)

EVENTS_AT_ONCE: Final = 256
"""Events that are read in one hop to a worker thread."""

_REASONS: Final = {int(reason): reason.name.lower() for reason in Reason}


class EventLog:
    """Follows the log for any number of readers."""

    def __init__(self, chain: ChainService, reader: StoreReader) -> None:
        self._chain = chain
        self._reader = reader

    @asynccontextmanager
    async def open(self, since: int | None) -> AsyncIterator[Entries]:
        """Follow the log. A number that lies ahead is of another store's log, and one before its
        beginning of a store that was made anew: raises `EventsGoneError`."""
        end = self._chain.status.value.next_event
        if since is not None:
            oldest = await self._reader.run(_oldest)
            if since > end or since < oldest:
                raise EventsGoneError(oldest + 1, end)
        async with aclosing(self._follow(end if since is None else since)) as entries:
            yield entries

    async def _follow(self, first: int) -> AsyncGenerator[Sequence[LogEntry], None]:
        """Yield every event from a store's number on, as many at a time as there are."""
        while True:
            version, status = self._chain.status.version, self._chain.status.value
            # In a bulk events are counted before they are on disk; the status is set anew once they
            # are.
            news = status.next_event > first
            entries = await self._reader.run(partial(_read, first=first)) if news else []
            if entries:
                yield entries
                first += len(entries)
            else:
                await self._chain.status.wait_newer(version)


def _read(store: Reader, first: int) -> list[LogEntry]:
    events = list(schema.EVENT.scan(store, first, first + EVENTS_AT_ONCE - 1))
    ids = [event.coin_id for _, event in events if isinstance(event, CoinAccepted)]
    headers = {
        coin_id: CoinHeader.from_bytes(raw[:HEADER_SIZE])
        for coin_id, raw in zip(ids, schema.COIN.get_many(store, ids), strict=True)
        if raw is not None
    }
    return [_entry(number, event, headers) for number, event in events]


def _oldest(store: Reader) -> int:
    """Return the number of the first event, or of the one that will be the first."""
    first = next(schema.EVENT.scan(store), None)
    if first is not None:
        return first[0]
    return schema.meta_number(store, schema.META_NEXT_EVENT) or 0


def _entry(number: int, event: Event, headers: Mapping[bytes, CoinHeader]) -> LogEntry:
    kind, data = _say(event, headers)
    return LogEntry(number + 1, kind, data)


def _say(event: Event, headers: Mapping[bytes, CoinHeader]) -> tuple[str, dict[str, Any]]:
    # Hashes are spelled here: a full anchor makes thousands of events, and msgspec's hook is slow.
    match event:
        case TransferLeft(wid, reason):
            return "transfer.left", {"wid": wid.hex(), "reason": _REASONS[reason]}
        case TransferEntered(wid):
            return "transfer.entered", {"wid": wid.hex()}
        case CoinAccepted(coin_id):
            data: dict[str, Any] = {"coin": coin_id.hex()}
            header = headers.get(coin_id)
            if header is not None:
                data |= {"parent": header.parent.hex(), "time": header.time}
            return "coin.accepted", data
        case AnchorConnected(height, anchor_id):
            return "anchor.connected", {"height": height, "anchor": anchor_id.hex()}
        case AnchorDisconnected(height, anchor_id):
            return "anchor.disconnected", {"height": height, "anchor": anchor_id.hex()}
