"""The headers that are served to peers: read of a store's snapshot, off the event loop.

The main chain, as it is on disk, costs the chain's writer nothing. Only of a branch, or of a tip
that has not been written yet, is the writer asked which anchors it has; what commits to their
bodies is computed here all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from unchained.node.base.runner import Runner
from unchained.node.base.token_bucket import KeyedTokenBuckets
from unchained.node.base.turns import Turns
from unchained.node.chain.queries import ChainQueries
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import Getter, KeyValueStore

MAX_HEIGHT: Final = 1 << 62
"""Above every height."""
HEADERS_KEPT: Final = 4_096
"""Headers kept at hand, some 4 MB: those that several peers ask for one after the other. What was
asked for longest ago goes first."""


IDS_BURST: Final = 1 << 17
"""Ids of bodies that are hashed for one asker at once."""
IDS_PER_S: Final = 100_000.0
"""The same per second: some fifth of a core."""
IDS_AT_A_TIME: Final = 1 << 14
"""After so many the next asker has his turn: some 30 ms."""
_HEADER_IDS: Final = 8
"""What a header costs beside the ids of its body, in ids: one that is at hand as well."""


class HeaderSource:
    """Gives headers from a locator on. `runner` has one thread: what is kept is its alone. Askers
    take turns at it, and whoever asks for most of them waits. At `writer_places` they take turns
    with whoever else wants something of the chain's writer."""

    def __init__(
        self, queries: ChainQueries, store: KeyValueStore, runner: Runner, writer_places: Turns
    ) -> None:
        self._queries = queries
        self._store = store
        self._runner = runner
        self._writer_places = writer_places
        self._kept: OrderedDict[CoinId, AnchorHeader] = OrderedDict()
        self._turns = Turns(1)
        self._hashed = KeyedTokenBuckets(IDS_BURST, IDS_PER_S)

    async def headers_above(
        self, known: Sequence[CoinId], tip_id: CoinId | None, limit: int, asker: str = ""
    ) -> list[AnchorHeader] | None:
        """Return the headers of the chain that ends in a tip (None: our own), lowest first, above
        the first of `known` that is on it: at most `limit`. None if there is no such tip. `asker`:
        by what they are counted.

        Raises a `StoreError`.
        """
        # Not with a snapshot open: whoever owes much would keep many of them.
        await self._wait_for_debt(asker)
        with self._store.snapshot() as snapshot:
            page = _Page()
            await self._in_turn(asker, page, partial(self._begin, snapshot, page, known, tip_id))
            if page.anchors is None and tip_id is not None:
                async with self._writer_places.turn(asker):
                    page.anchors = await self._queries.anchors_above(known, tip_id, limit)
            if page.anchors is None:
                return None
            page.left = min(limit, len(page.anchors))
            while page.left > 0:
                await self._in_turn(asker, page, partial(self._read_some, snapshot, page))
        return page.found

    async def _in_turn(self, asker: str, page: _Page, work: Callable[[], None]) -> None:
        """Do a part of the work for an asker, once what he was given before is paid for."""
        await self._wait_for_debt(asker)
        async with self._turns.turn(asker):
            await self._runner.run(work)
        self._hashed.spend(asker, trio.current_time(), page.owed)
        page.owed = 0

    async def _wait_for_debt(self, asker: str) -> None:
        await trio.sleep(self._hashed.spend(asker, trio.current_time(), 0))

    def _begin(
        self, snapshot: Getter, page: _Page, known: Sequence[CoinId], tip_id: CoinId | None
    ) -> None:
        """Find which heights of the main chain are asked for, if its tip is on that."""
        last: int | None = None
        if tip_id is not None and (last := _main_height(snapshot, tip_id)) is None:
            return
        start = 0
        for anchor_id in known:
            height = _main_height(snapshot, anchor_id)
            if height is not None and (last is None or height <= last):
                start = height
                break
        page.anchors = range(start + 1, MAX_HEIGHT if last is None else last + 1)

    def _read_some(self, snapshot: Getter, page: _Page) -> None:
        """Read the next headers, as many as may be made in one turn."""
        assert page.anchors is not None, "there is such a tip"
        while page.left > 0 and page.owed < IDS_AT_A_TIME:
            header = self._header(snapshot, page, page.anchors[len(page.found)])
            if header is None:
                page.left = 0
                return
            page.found.append(header)
            page.left -= 1

    def _header(
        self, store: Getter, page: _Page, anchor: int | tuple[Coin, Body]
    ) -> AnchorHeader | None:
        """Return the header of an anchor, of the main chain by its height; None if it or its body
        is not there."""
        page.owed += _HEADER_IDS
        anchor_id = schema.HEIGHT.get(store, anchor) if isinstance(anchor, int) else anchor[0].id
        if anchor_id is None:
            return None
        header = self._kept.get(anchor_id)
        if header is not None:
            self._kept.move_to_end(anchor_id)
            return header
        if isinstance(anchor, int):
            record = schema.ANCHOR.get(store, anchor_id)
            if record is None or not record.body:
                return None
            coin, body = Coin.from_bytes(record.coin), Body.from_bytes(record.body)
        else:
            coin, body = anchor
        page.owed += len(body.fresh) + len(body.uncles) + len(body.transfers)
        header = self._kept[anchor_id] = AnchorHeader.of(coin, body)
        if len(self._kept) > HEADERS_KEPT:
            self._kept.popitem(last=False)
        return header


class _Page:
    """An answer in the making: which anchors it is of, heights of the main chain or those of a
    branch, how many are left, and what has not been charged yet."""

    def __init__(self) -> None:
        self.anchors: Sequence[int | tuple[Coin, Body]] | None = None
        self.found: list[AnchorHeader] = []
        self.left = 0
        self.owed = 0


def _main_height(store: Getter, anchor_id: CoinId) -> int | None:
    """Return the height of an anchor of the main chain, None for any other coin."""
    record = schema.ANCHOR.get(store, anchor_id)
    if record is None:
        return None
    height = Coin.from_bytes(record.coin).height
    return height if schema.HEIGHT.get(store, height) == anchor_id else None
