"""Anchors and reorganisations of the main chain, as notices, from the chain's log of events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from unchained.node.notify.notice import Notice
from unchained.node.wallet.event_data import EventData
from unchained.storage.schema import AnchorConnected, AnchorDisconnected, Event


class _Undone(msgspec.Struct, frozen=True, gc=False):
    """Anchors that have been undone since the main chain grew last."""

    tip: bytes
    depth: int
    fork_height: int


class ChainFeed:
    """Makes notices of the chain's events, in their order. A reorganisation is told once its first
    anchor is connected."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._undone: _Undone | None = None

    def take(self, events: Sequence[tuple[int, Event]], now_ms: int) -> list[Notice]:
        """Return the notices of events, each with its number."""
        notices = []
        for number, event in events:
            match event:
                case AnchorDisconnected(height, anchor_id):
                    before = self._undone
                    self._undone = _Undone(
                        anchor_id if before is None else before.tip,
                        1 if before is None else before.depth + 1,
                        height - 1,
                    )
                case AnchorConnected(height, anchor_id):
                    if self._undone is not None:
                        notices.append(self._reorg(number, anchor_id, self._undone, now_ms))
                        self._undone = None
                    notices.append(self._anchor(number, height, anchor_id, now_ms))
                case _:
                    pass
        return notices

    def _reorg(self, number: int, anchor_id: bytes, undone: _Undone, now_ms: int) -> Notice:
        data: EventData = {
            "anchor": anchor_id.hex(),
            "undone_tip": undone.tip.hex(),
            "undone_anchors": undone.depth,
            "fork_height": undone.fork_height,
            "time": now_ms,
        }
        key = undone.tip.hex()
        # the first anchor that takes their place has the number after this one
        return Notice(
            self._network, "reorg", "", number, "chain.reorg", key, undone.fork_height, data
        )

    def _anchor(self, number: int, height: int, anchor_id: bytes, now_ms: int) -> Notice:
        key = anchor_id.hex()
        data: EventData = {"anchor": key, "height": height, "time": now_ms}
        return Notice(
            self._network, "anchor", "", number + 1, "anchor.connected", key, height, data
        )
