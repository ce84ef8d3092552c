"""Notices of anchors and reorganisations."""

from __future__ import annotations

from unchained.node.notify.chain_feed import ChainFeed
from unchained.node.primitives.types import CoinId
from unchained.storage.schema import AnchorConnected, AnchorDisconnected, CoinAccepted


def anchor(name: str) -> CoinId:
    return CoinId(name.encode() * 32)


def test_a_reorganisation_is_told_before_the_first_anchor_that_takes_its_place() -> None:
    feed = ChainFeed("reg")
    first = feed.take([(3, AnchorConnected(5, anchor("a"))), (4, CoinAccepted(anchor("c")))], 9)
    assert [(notice.event, notice.height, notice.sequence) for notice in first] == [
        ("anchor.connected", 5, 4)
    ]
    assert feed.take([(5, AnchorDisconnected(5, anchor("a")))], 9) == []
    second = feed.take(
        [(6, AnchorDisconnected(4, anchor("b"))), (7, AnchorConnected(4, anchor("d")))], 9
    )
    assert [(notice.subject, notice.key) for notice in second] == [
        ("reorg", anchor("a").hex()),
        ("anchor", anchor("d").hex()),
    ]
    assert second[0].data["undone_anchors"] == 2
    assert second[0].data["fork_height"] == 3
    assert len({notice.id for notice in (*first, *second)}) == 3
