"""The headers that are served to peers: read of a store's snapshot, off the event loop.

The main chain, as it is on disk, costs the chain's writer nothing. Only of a branch, or of a tip
that has not been written yet, is the writer asked which anchors it has; what commits to their
bodies is computed here all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

from unchained.node.base.runner import Runner
from unchained.node.chain.queries import ChainQueries
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import Getter, KeyValueStore

HEADERS_KEPT: Final = 4_096
"""Headers kept at hand, some 4 MB: those that several peers ask for one after the other."""


class HeaderSource:
    """Gives headers from a locator on. `runner` has one thread: what is kept is its alone."""

    def __init__(self, queries: ChainQueries, store: KeyValueStore, runner: Runner) -> None:
        self._queries = queries
        self._store = store
        self._runner = runner
        self._kept: OrderedDict[CoinId, AnchorHeader] = OrderedDict()

    async def headers_above(
        self, known: Sequence[CoinId], tip_id: CoinId | None, limit: int
    ) -> list[AnchorHeader] | None:
        """Return the headers of the chain that ends in a tip (None: our own), lowest first, above
        the first of `known` that is on it: at most `limit`. None if there is no such tip.

        Raises a `StoreError`.
        """
        found = await self._runner.run(partial(self._stored, known, tip_id, limit))
        if found is not None or tip_id is None:
            return found
        anchors = await self._queries.anchors_above(known, tip_id, limit)
        if anchors is None:
            return None
        branch = anchors
        return await self._runner.run(lambda: [self._header(*anchor) for anchor in branch])

    def _stored(
        self, known: Sequence[CoinId], tip_id: CoinId | None, limit: int
    ) -> list[AnchorHeader] | None:
        """Return the headers up to an anchor of the main chain, None if it is not on that."""
        with self._store.snapshot() as snapshot:
            last: int | None = None
            if tip_id is not None and (last := _main_height(snapshot, tip_id)) is None:
                return None
            start = 0
            for anchor_id in known:
                height = _main_height(snapshot, anchor_id)
                if height is not None and (last is None or height <= last):
                    start = height
                    break
            found: list[AnchorHeader] = []
            for height in range(start + 1, start + limit + 1):
                if last is not None and height > last:
                    break
                header = self._main_header(snapshot, height)
                if header is None:
                    break
                found.append(header)
            return found

    def _main_header(self, store: Getter, height: int) -> AnchorHeader | None:
        anchor_id = schema.HEIGHT.get(store, height)
        kept = None if anchor_id is None else self._kept.get(anchor_id)
        if kept is not None or anchor_id is None:
            return kept
        record = schema.ANCHOR.get(store, anchor_id)
        if record is None or not record.body:
            return None
        return self._header(Coin.from_bytes(record.coin), Body.from_bytes(record.body))

    def _header(self, coin: Coin, body: Body) -> AnchorHeader:
        header = self._kept.get(coin.id)
        if header is None:
            header = self._kept[coin.id] = AnchorHeader.of(coin, body)
            if len(self._kept) > HEADERS_KEPT:
                self._kept.popitem(last=False)
        return header


def _main_height(store: Getter, anchor_id: CoinId) -> int | None:
    """Return the height of an anchor of the main chain, None for any other coin."""
    record = schema.ANCHOR.get(store, anchor_id)
    if record is None:
        return None
    height = Coin.from_bytes(record.coin).height
    return height if schema.HEIGHT.get(store, height) == anchor_id else None
