"""chain.events: the gapless log a page at a time, for who does not follow it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.chain.mempool.mempool import Reason
from unchained.node.chain.service import ChainService
from unchained.node.rpc.core.errors import NotFoundError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Hash
from unchained.node.rpc.methods.parameters import MAX_NUMBER
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    CoinAccepted,
    TransferEntered,
    TransferLeft,
)

EVENTS_OF_PAGE_MAX: Final = 4_096

Sequence = Annotated[
    int, msgspec.Meta(ge=0, le=MAX_NUMBER, description="the number of an event, 0 before the first")
]
EventKind = Literal[
    "anchor.connected",
    "anchor.disconnected",
    "coin.accepted",
    "transfer.entered",
    "transfer.left",
]


@user_text(
    """An event as `GET /events` gives it: of an anchor (`id`, `height`), a coin (`id`) or a
    transfer (`id` is its wid; `reason` why it left)."""
)
class ChainEvent(msgspec.Struct, frozen=True):
    sequence: int
    kind: EventKind
    id: Hash
    height: int | None = None
    reason: str | None = None


@user_text("Events after one of the log, oldest first; `last` is the newest there is.")
class EventPage(msgspec.Struct, frozen=True):
    last: int
    events: list[ChainEvent]


class EventRoom:
    """The method that pages through the log."""

    def __init__(self, chain: ChainService, reader: StoreReader) -> None:
        self._chain = chain
        self._reader = reader

    @method("chain.events", Access.READ, errors=(NotFoundError,))
    @user_text(
        """Return events of the gapless log after the one of a number, at most `limit`.

        `since` left out means the newest `limit`. One above the last event is of another chain's
        log, and refused (EVENTS_GONE).
        """
    )
    async def events(
        self,
        since: Sequence | None = None,
        limit: Annotated[
            int, msgspec.Meta(ge=1, le=EVENTS_OF_PAGE_MAX, description="how many at most")
        ] = 100,
    ) -> EventPage:
        last = self._chain.status.value.next_event
        first = max(0, last - limit) if since is None else since
        if first > last:
            raise NotFoundError(
                f"the log ends at {last}: read the state anew, then follow from there",
                error="EVENTS_GONE",
                last=last,
            )
        found = await self._reader.run(lambda store: _read(store, first, limit))
        return EventPage(last, found)


def _read(store: Reader, first: int, limit: int) -> list[ChainEvent]:
    # A number is one above the store's, as in /events.
    rows = schema.EVENT.scan(store, first, first + limit - 1)
    return [_describe(number + 1, event) for number, event in rows]


def _describe(sequence: int, event: schema.Event) -> ChainEvent:
    match event:
        case CoinAccepted(coin_id):
            return ChainEvent(sequence, "coin.accepted", Hash(coin_id))
        case AnchorConnected(height, anchor_id):
            return ChainEvent(sequence, "anchor.connected", Hash(anchor_id), height)
        case AnchorDisconnected(height, anchor_id):
            return ChainEvent(sequence, "anchor.disconnected", Hash(anchor_id), height)
        case TransferEntered(wid):
            return ChainEvent(sequence, "transfer.entered", Hash(wid))
        case TransferLeft(wid, reason):
            why = Reason(reason).name.lower()
            return ChainEvent(sequence, "transfer.left", Hash(wid), reason=why)
