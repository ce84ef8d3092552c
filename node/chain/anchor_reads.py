"""Reads of anchors: which are known, where they stand, what peers ask of them.

Pure functions of a `ChainView`; `chain.queries` runs them in the writer's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from unchained.node.chain.answers import (
    AnchorStanding,
    BranchEnd,
    HeaderBase,
    MainWeight,
    VotesFound,
)
from unchained.node.chain.branch import Branch
from unchained.node.chain.tree import AnchorMark, AnchorNode, AnchorStatus
from unchained.node.chain.view import ChainView
from unchained.node.consensus.context import child_context
from unchained.node.consensus.fork_choice import HeaderTargets, anchor_work, count_asked_for
from unchained.node.crypto.history_range import HistoryPeaks
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema

_STANDING: dict[AnchorStatus, AnchorStanding] = {
    AnchorStatus.COUNTS: "side",
    AnchorStatus.BODYLESS: "bodyless",
    AnchorStatus.INVALID: "invalid",
}


def standing_of(node: AnchorNode) -> AnchorStanding:
    """Return where an anchor of the tree stands."""
    if node.on_main:
        return "main"
    if node.is_set_aside:
        return "set-aside"
    return "dead" if AnchorMark.DEAD in node.marks else _STANDING[node.status]


LINEAR_HEIGHTS: Final = 10
"""Heights below the tip that a locator has one by one; then the steps double."""


# What is known


def main_coin(view: ChainView, anchor_id: CoinId) -> Coin | None:
    """Return the coin of an anchor of the main chain, in the tree or below it."""
    coin = view.archive.coin(anchor_id)
    return coin if coin is not None and view.archive.main_id(coin.height) == coin.id else None


def is_known(view: ChainView, anchor_id: CoinId) -> bool:
    """Return whether there is nothing to ask about an anchor."""
    node = view.tree.get(anchor_id)
    if node is not None:
        return node.status is not AnchorStatus.BODYLESS
    return main_coin(view, anchor_id) is not None


def unknown_coins(view: ChainView, coins: Sequence[Coin]) -> list[Coin]:
    """Return the coins that are not known."""
    return [coin for coin in coins if not view.archive.knows(coin.id)]


def missing_votes(view: ChainView, coins: Sequence[Coin]) -> list[Coin]:
    """Return the coins that are not known, or are bound to an anchor that counts and no votes for
    it: one that a body lists may have come long before the anchor, or outlived it here."""
    found = []
    for coin in coins:
        home = view.tree.get(coin.parent)
        if home is not None and home.status is AnchorStatus.COUNTS:
            is_missing = coin.id not in home.bound
        else:
            is_missing = not view.archive.knows(coin.id)
        if is_missing:
            found.append(coin)
    return found


def without_bodies(view: ChainView, ids: Iterable[CoinId]) -> list[CoinId]:
    """Return those of some coins that are anchors whose bodies are unknown."""
    nodes = (view.tree.get(coin_id) for coin_id in ids)
    return [node.id for node in nodes if node is not None and node.status is AnchorStatus.BODYLESS]


def counting_anchor(view: ChainView, anchor_id: CoinId) -> tuple[Coin, Body] | None:
    """Return an anchor of the tree that counts, with its body."""
    node = view.tree.get(anchor_id)
    if node is None or node.status is not AnchorStatus.COUNTS:
        return None
    return node.coin, node.validated.body


def standings(view: ChainView, ids: Iterable[CoinId]) -> list[AnchorStanding | None]:
    """Return where anchors stand, None for each that is unknown."""
    return [_standing(view, anchor_id) for anchor_id in ids]


def _standing(view: ChainView, anchor_id: CoinId) -> AnchorStanding | None:
    node = view.tree.get(anchor_id)
    if node is None:
        return None if main_coin(view, anchor_id) is None else "main"
    return standing_of(node)


def header_page(
    view: ChainView, base_id: CoinId | None, ids: Iterable[CoinId]
) -> tuple[HeaderBase | None, list[AnchorStanding | None]]:
    """Return an anchor, if one is named, as the headers above it see it; and where others stand."""
    base = None if base_id is None else header_base(view, base_id)
    return base, standings(view, ids)


# Branches


def are_apart(view: ChainView, tip_id: CoinId) -> bool:
    """Return whether a known tip and our own are not on one chain."""
    node = view.tree.get(tip_id)
    if node is None or node.status is not AnchorStatus.COUNTS or node.on_main:
        return False
    return view.tree.fork_point(node) is not view.tree.tip


def above_fork(view: ChainView, one_id: CoinId, other_id: CoinId) -> list[CoinId]:
    """Return the anchors above the last common ancestor of two that count, lowest first: the whole
    tree that grows from it, dead and lost branches too, as far as §11 has their votes asked for.
    Where one descends from the other, what grows from W below the higher one, that included."""
    one, other = view.tree.get(one_id), view.tree.get(other_id)
    if one is None or other is None or AnchorStatus.COUNTS not in (one.status, other.status):
        return []
    low, high = sorted((one, other), key=lambda node: node.height)
    base = _common_ancestor(low, high)
    found: list[AnchorNode] = []
    if base is low:
        # Protocol §6: "so does a new node for the last W anchors"
        base = _below(high, view.network.window)
        found.append(base)
    # Protocol §6: "of the whole tree that grows from it: on both branches and on every branch"
    level = [base]
    while level:
        level = [
            child
            for node in level
            for child in node.children
            if child.status is AnchorStatus.COUNTS
        ]
        found += level
    asked_for = _asked_for_aside(view, found)
    return [node.id for node in found if node.on_main or node in asked_for]


def _asked_for_aside(view: ChainView, nodes: Iterable[AnchorNode]) -> set[AnchorNode]:
    """Return the anchors of side branches, of which some are named, that are asked for."""
    found: set[AnchorNode] = set()
    for node in nodes:
        if node.on_main or any(child.status is AnchorStatus.COUNTS for child in node.children):
            continue
        fork = view.tree.fork_point(node)
        path = view.tree.path(fork, node)
        targets = [
            HeaderTargets(step.coin.header.target, step.context.child_target) for step in path
        ]
        found.update(path[: _count_asked_for(view, fork, targets)])
    return found


def _count_asked_for(view: ChainView, fork: AnchorNode, branch: Sequence[HeaderTargets]) -> int:
    """Return how many anchors of a branch that leaves the main chain at `fork` are asked for."""
    network = view.network
    if view.tree.tip.height - fork.height <= network.window:
        return len(branch)
    work = sum(anchor_work(targets.own, network) for targets in branch)
    main_work = _work_above(view, fork.height)
    # A short branch leaves most of a long chain unread: there may be many such.
    targets = _main_targets(view, fork.height, len(branch) + 1)
    depth = view.tree.tip.height - fork.height
    return count_asked_for(branch, work, targets, main_work, depth, network)


def _common_ancestor(low: AnchorNode, high: AnchorNode) -> AnchorNode:
    while low is not high:
        if low.height > high.height:
            low, high = high, low
        assert high.parent is not None, "at the latest they meet at the root"
        high = high.parent
    return low


def _below(node: AnchorNode, count: int) -> AnchorNode:
    """Return the ancestor so many anchors below, or the root."""
    while count and node.parent is not None:
        node, count = node.parent, count - 1
    return node


def branch_ends(view: ChainView, limit: int) -> list[BranchEnd]:
    """Return the ends of all known branches, the main chain's first, at most `limit`."""
    tree = view.tree
    scores = tree.scores()
    ends = [node for node in tree.nodes.values() if not node.children]
    ends.sort(key=lambda node: (not node.on_main, -node.height, node.id))
    if tree.tip.children:
        ends.insert(0, tree.tip)
    return [
        BranchEnd(
            node.id,
            node.height,
            standing_of(node),
            tree.fork_point(node).height,
            node.votes,
            scores.get(node.id),
        )
        for node in ends[:limit]
    ]


def main_weight(view: ChainView, height: int) -> MainWeight:
    """Return what the main chain has above a height, at the cost of one path of its history."""
    tip = view.tree.tip
    if height > tip.height:
        # Whoever asks has seen a main chain that reached further, before it was left for a shorter
        # one.
        return MainWeight(0, 0, False, [tip.context.child_target])
    work, depth = _work_above(view, height), tip.height - height
    if height < view.tree.root.height:
        return MainWeight(work, depth, True, [])
    return MainWeight(work, depth, False, _main_targets(view, height, depth + 1))


def _main_targets(view: ChainView, height: int, limit: int) -> list[int]:
    """Return the targets of the main chain's anchors above a height of the tree, that of its tip's
    children last: at most so many, the lowest."""
    tip = view.tree.tip
    above = map(view.tree.main_at, range(height + 1, min(height + limit, tip.height) + 1))
    targets = [node.coin.header.target for node in above if node is not None]
    return targets if len(targets) == limit else [*targets, tip.context.child_target]


def _work_above(view: ChainView, height: int) -> int:
    """Return the work of the main chain's anchors above a height."""
    # Protocol §4: "their sums are the work and the coins before it"
    return _work_through(view, view.tree.tip.height) - _work_through(view, height)


def _work_through(view: ChainView, height: int) -> int:
    """Return the work of the main chain's anchors up to a height, that included."""
    node = view.tree.main_at(height)
    history = view.history.prove(height + 1).before() if node is None else node.context.history
    assert history is not None, "the tree keeps it"
    return history.work


def targets_through(view: ChainView, anchor_id: CoinId, count: int) -> dict[int, int]:
    """Return the targets of a known anchor and of those before it, `count` in all, by height: none
    of an anchor that is in no tree and not on the main chain."""
    target_at: Callable[[int], int | None]
    node = view.tree.get(anchor_id)
    if node is not None:
        height, target_at = node.height, Branch(view.tree, node, view.archive).target_at
    elif (coin := main_coin(view, anchor_id)) is not None:
        height, target_at = coin.height, partial(_main_target, view)
    else:
        return {}
    found = ((at, target_at(at)) for at in range(max(0, height - count + 1), height + 1))
    return {at: target for at, target in found if target is not None}


def _main_target(view: ChainView, height: int) -> int | None:
    coin = view.archive.main_anchor(height)
    return None if coin is None else coin.header.target


def deserves_body(view: ChainView, anchor_id: CoinId, listed: int) -> bool:
    """Return whether a known anchor's body, which lists so many coins, is to be asked for."""
    node = view.tree.get(anchor_id)
    if node is None or node.status is not AnchorStatus.BODYLESS:
        return False
    assert node.parent is not None, "the root has a body"
    fork = view.tree.fork_point(node)
    branch = [
        HeaderTargets(step.coin.header.target, step.context.child_target)
        for step in view.tree.path(fork, node.parent)
    ]
    own = child_context(node.coin, listed, node.parent.context, view.network)
    branch.append(HeaderTargets(node.coin.header.target, own.child_target))
    return _count_asked_for(view, fork, branch) == len(branch)


# The main chain


def anchor_at(view: ChainView, height: int) -> CoinId | None:
    """Return the main chain's anchor at a height."""
    return view.archive.main_id(height)


def locator_heights(tip: int) -> list[int]:
    """Return the heights of a locator's anchors, from the tip down to genesis."""
    heights = []
    height, step = tip, 1
    while height > 0:
        heights.append(height)
        if len(heights) >= LINEAR_HEIGHTS:
            step *= 2
        height -= step
    return [*heights, 0]


def locator(view: ChainView) -> tuple[CoinId, ...]:
    """Return ids of the main chain from the tip downwards, genesis last: at `locator_heights`, and
    the lowest ones of the tree and of what can be undone."""
    tip = view.tree.tip.height
    # The lowest that can be undone, so that no branch seems to leave the chain below it.
    floor = min(view.window.undo_floor, tip)
    heights = {*locator_heights(tip), view.tree.root.height, floor}
    ids = (view.archive.main_id(height) for height in sorted(heights, reverse=True))
    return tuple(anchor_id for anchor_id in ids if anchor_id is not None)


def header_base(view: ChainView, anchor_id: CoinId) -> HeaderBase | None:
    """Return an anchor that counts as the headers above it see it: on any branch of the tree, or
    on the main chain below."""
    node = view.tree.get(anchor_id)
    if node is not None and node.status is AnchorStatus.COUNTS:
        return HeaderBase(node.context, view.tree.fork_point(node).height)
    coin = main_coin(view, anchor_id)
    if node is not None or coin is None:
        return None
    context = view.archive.main_context(coin.height, view.tree.root.context)
    assert context is not None, "it is on the main chain"
    state = schema.STATE.get(view.store, coin.height)
    history = None if state is None else HistoryPeaks.from_bytes(state.history)
    return HeaderBase(msgspec.structs.replace(context, history=history), coin.height)


# What peers ask for


def anchors_above(
    view: ChainView, known: Sequence[CoinId], tip_id: CoinId, limit: int
) -> list[int | tuple[Coin, Body]] | None:
    """Return the anchors of the chain that ends in a tip of the tree, lowest first, above the first
    of `known` that is on it: at most `limit`. None if there is no such tip. Those below the tree
    are left to who asks, by their heights: they are in the store, and to read them takes long."""
    tip = view.tree.get(tip_id)
    if tip is None or tip.status is not AnchorStatus.COUNTS:
        return None
    fork = view.tree.fork_point(tip)
    path = view.tree.path(fork, tip)
    start = _start_height(view, known, {node.id: node for node in path}, fork.height)
    found: list[int | tuple[Coin, Body]] = []
    for height in range(start + 1, min(tip.height, start + limit) + 1):
        above = height - fork.height
        node = path[above - 1] if above > 0 else view.tree.main_at(height)
        found.append(height if node is None else (node.coin, node.validated.body))
    return found


def _start_height(
    view: ChainView, known: Sequence[CoinId], side: dict[CoinId, AnchorNode], fork_height: int
) -> int:
    for anchor_id in known:
        node = side.get(anchor_id)
        if node is not None:
            return node.height
        coin = view.archive.coin(anchor_id)
        if (
            coin is not None
            and coin.height <= fork_height
            and view.archive.main_id(coin.height) == coin.id
        ):
            return coin.height
    return 0


def bodies(view: ChainView, ids: Iterable[CoinId], most_bytes: int) -> list[bytes]:
    """Return the encoded bodies of anchors that count, empty bytes for others: as many of the
    first as have `most_bytes` together, one at least."""
    found: list[bytes] = []
    size = 0
    for anchor_id in ids:
        record = schema.ANCHOR.get(view.store, anchor_id)
        if record is None or record.status != AnchorStatus.COUNTS:
            found.append(b"")
            continue
        if found and record.body and size + len(record.body) > most_bytes:
            break
        size += len(record.body)
        found.append(record.body)
    return found


def coin_bytes(view: ChainView, ids: Sequence[CoinId]) -> list[bytes]:
    """Return known coins, empty bytes for others."""
    return [raw or b"" for raw in schema.COIN.get_many(view.store, ids)]


def votes(view: ChainView, anchors: Iterable[CoinId], after: bytes, limit: int) -> VotesFound:
    """Return the votes for anchors that count, by anchor and then by id, at most `limit`: for the
    first anchor those whose ids come after `after`."""
    coins: list[bytes] = []
    counting: list[int] = []
    for anchor_id in anchors:
        node = view.tree.get(anchor_id)
        ids = sorted(node.bound) if node is not None and node.status is AnchorStatus.COUNTS else []
        for coin_id in ids:
            if coin_id <= after:
                continue
            if len(coins) == limit:
                return VotesFound(coins, counting, True)
            raw = schema.COIN.get(view.store, coin_id)
            if raw is None:
                continue
            # Protocol §11: "of those that count as anchors that they do"
            if counting_anchor(view, coin_id) is not None:
                counting.append(len(coins))
            coins.append(raw)
        after = bytes(32)
    return VotesFound(coins, counting, False)
