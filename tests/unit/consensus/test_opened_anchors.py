"""Anchors judged by their headers and the history before them (§12.1), and how a history begins."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.framework.forge import Forge, Forged
from tests.framework.rules import rule_broken
from tests.framework.slow_ranges import (
    slow_anchor_node,
    slow_history_join,
    slow_history_root,
    slow_mountains,
    slow_siblings,
)
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.opened_anchors import (
    HistoryStart,
    UnprovenHistoryError,
    check_opened,
    check_start,
)
from unchained.node.consensus.params import REG, Network
from unchained.node.crypto.anchor_header import AnchorHeader, ListDigest
from unchained.node.crypto.history_range import HistoryNode, HistoryPeaks, HistoryProof
from unchained.node.primitives.coin import Coin

RETARGETING = msgspec.structs.replace(REG, tau_ms=20_000, max_target=2**255)


def own_node(anchor: Forged, network: Network) -> bytes:
    listed = len(anchor.body.fresh) + len(anchor.body.uncles)
    header = anchor.coin.header
    return slow_anchor_node(anchor.id, header.target, network.coins_per_epoch, listed, header.time)


def history_after(anchor: Forged) -> HistoryPeaks:
    return HistoryPeaks(anchor.history.length, anchor.history.nodes())


def check(
    forge: Forge, anchor: Forged, *, before: HistoryPeaks | None = None, **fields: Any
) -> Coin:
    """Judge an anchor by the history after its parent; `fields` replace those of its header."""
    parent = anchor.parent
    assert parent is not None
    header = msgspec.structs.replace(AnchorHeader.of(anchor.coin, anchor.body), **fields)
    first = anchor.chain()[1]
    node = HistoryNode.from_bytes(own_node(first, forge.network))
    history = history_after(parent) if before is None else before
    return check_opened(header, history, node, forge.network)


def chain_of(forge: Forge) -> Forged:
    """Return the last of some anchors that list coins at an uneven pace."""
    step = forge.genesis
    for fresh, gap in ((3, 1_500), (0, 900), (2, 12_000), (1, 10), (0, 30_000), (2, 1), (0, 7)):
        step = forge.anchor(step, [forge.coin(step) for _ in range(fresh)], time=step.time + gap)
    return step


def test_every_anchor_of_a_chain_fits_the_history_before_it() -> None:
    forge = Forge(RETARGETING)
    tip = chain_of(forge)
    targets = set()
    for anchor in tip.chain()[1:]:
        assert check(forge, anchor) == anchor.coin
        targets.add(anchor.coin.header.target)
    assert len(targets) > 4


def test_time_and_coins_are_counted_from_the_first_anchor() -> None:
    """§7: an anchor whose target follows from another first one does not fit."""
    forge = Forge(RETARGETING)
    tip = chain_of(forge)
    wrong = forge.anchor(tip, target=tip.target + 1)
    assert rule_broken(lambda: check(forge, wrong)) == "BAD_TARGET"
    assert rule_broken(lambda: check(forge, forge.anchor(tip, n_total=1))) == "BAD_N_TOTAL"
    assert rule_broken(lambda: check(forge, forge.anchor(tip, height=3))) == "BAD_HEIGHT"
    late = forge.anchor(tip, time=tip.time)
    assert rule_broken(lambda: check(forge, late)) == "TIME_NOT_AFTER_PARENT"


def test_genesis_is_not_mined() -> None:
    forge = Forge()
    anchor = forge.anchor(forge.genesis)
    with pytest.raises(UnprovenHistoryError, match="genesis is not an anchor"):
        check(forge, anchor, before=HistoryPeaks(0, ()))


def test_an_anchor_is_bound_to_the_last_one_where_that_is_seen() -> None:
    """Its parent's id is the digest of the last mountain only where that is one anchor."""
    forge = Forge()
    for anchors in (2, 3, 4):
        parent = forge.grow(forge.genesis, anchors)
        twin = forge.anchor(parent.chain()[-2])
        stray = forge.mine(
            msgspec.structs.replace(forge.header(parent), parent=twin.id), grade=True
        )
        anchor = forge.adopt(parent, stray, forge.body(parent))
        if history_after(parent).count % 2:
            with pytest.raises(UnprovenHistoryError, match="not bound to the last one"):
                check(forge, anchor)
        else:
            assert check(forge, anchor) == stray


def test_what_is_opened_is_what_the_header_commits_to() -> None:
    forge = Forge()
    anchor = forge.anchor(forge.grow(forge.genesis, 2))
    for fields in (
        {"state_root": bytes(32)},
        {"history_root": bytes(32)},
        {"fresh": ListDigest(1, bytes(32))},
        {"uncles": ListDigest(1, bytes(32))},
        {"transfers": ListDigest(1, bytes(32))},
    ):
        assert rule_broken(lambda fields=fields: check(forge, anchor, **fields)) == (
            "BAD_BODY_ROOT"
        )


def test_the_history_is_the_one_that_the_anchor_commits_to() -> None:
    """Of two histories that agree on all that an anchor's header has to fit, one is its own."""
    forge = Forge()
    parent = forge.grow(forge.genesis, 3)
    anchor = forge.anchor(parent)
    mine = history_after(parent)
    other = HistoryPeaks(mine.count, (mine.peaks[0][:32][::-1] + mine.peaks[0][32:],))
    assert (other.coins, other.time) == (mine.coins, mine.time)
    assert rule_broken(lambda: check(forge, anchor, before=other)) == "BAD_HISTORY_ROOT"


def test_lists_are_as_long_as_bodies_may_be() -> None:
    forge = Forge()
    parent = forge.grow(forge.genesis, 2)
    for field, most, rule in (
        ("fresh", REG.max_listed, "TOO_MANY_COINS"),
        ("uncles", REG.max_listed, "TOO_MANY_COINS"),
        ("transfers", REG.max_transfers, "TOO_MANY_TRANSFERS"),
    ):
        for count in (most, most + 1):
            ids = tuple(number.to_bytes(32, "big") for number in range(count))
            anchor = forge.anchor(parent, body_fields={field: ids})
            if count == most:
                assert check(forge, anchor) == anchor.coin
            else:
                assert rule_broken(lambda anchor=anchor: check(forge, anchor)) == rule


# How a history begins


def start_of(nodes: list[bytes], height: int = 1) -> tuple[HistoryStart, bytes]:
    """Return the start of a history of such nodes, and its root."""
    peaks = tuple(mountain.node for mountain in slow_mountains(nodes, slow_history_join))
    siblings = tuple(slow_siblings(nodes, height, slow_history_join))
    path = HistoryProof(len(nodes), height, siblings, peaks)
    return HistoryStart(nodes[height], path), slow_history_root(nodes)


def nodes_of(network: Network, count: int, *, first_target: int | None = None) -> list[bytes]:
    """Return genesis's node and those of so many anchors on it."""
    (genesis,) = genesis_of(network).history.peaks
    target = network.target0 if first_target is None else first_target
    return [
        genesis,
        *(
            slow_anchor_node(bytes([at]) * 32, target, network.coins_per_epoch, at, 1_000 * at)
            for at in range(1, count + 1)
        ),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_history_begins_with_genesis_and_the_first_target(count: int) -> None:
    start, root = start_of(nodes_of(REG, count))
    history = check_start(start, root, REG)
    assert history == start.history()
    assert history.root() == root
    assert (history.count, start.first().time, start.first().coins) == (count + 1, 1_000, 2)


def test_a_start_is_of_height_one() -> None:
    nodes = nodes_of(REG, 3)
    for height in (0, 2, 3):
        start, root = start_of(nodes, height)
        with pytest.raises(UnprovenHistoryError, match="its anchor of height 1"):
            check_start(start, root, REG)
    start, root = start_of(nodes)
    with pytest.raises(UnprovenHistoryError, match="its anchor of height 1"):
        check_start(start, bytes(32), REG)
    other = msgspec.structs.replace(start, node=nodes[2])
    with pytest.raises(UnprovenHistoryError, match="its anchor of height 1"):
        check_start(other, root, REG)


def test_a_start_has_the_genesis_of_the_network_beside_it() -> None:
    start, root = start_of(nodes_of(RETARGETING, 3, first_target=REG.target0))
    with pytest.raises(UnprovenHistoryError, match="does not begin with the genesis of reg"):
        check_start(start, root, REG)


def test_the_first_anchor_has_the_work_of_the_first_target() -> None:
    """§7: "Children of genesis have target0": the history of a chain that never had it is none."""
    for target in (REG.target0 // 2, REG.target0 * 2):
        start, root = start_of(nodes_of(REG, 3, first_target=target))
        with pytest.raises(UnprovenHistoryError, match="the work of the first target"):
            check_start(start, root, REG)
    # Work is written as at most 2**256 - 1 (§4).
    hardest = msgspec.structs.replace(REG, target0=1)
    start, root = start_of(nodes_of(hardest, 2))
    assert check_start(start, root, hardest).count == 3
