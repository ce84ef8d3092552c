"""The ranges of Protocol §4 written down from its text a second time.

No code is shared with the node, and everything is made anew from the whole list of leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.framework.slow import slow_hash

Join = Callable[[bytes, bytes], bytes]


class Mountain(NamedTuple):
    """A perfect tree: its height, its leaves, its node."""

    height: int
    leaves: tuple[bytes, ...]
    node: bytes


def slow_mountains(leaves: Sequence[bytes], join: Join) -> list[Mountain]:
    """A leaf is appended as a mountain of height 0; then, while the last two mountains have the
    same height, they join to one."""
    mountains: list[Mountain] = []
    for leaf in leaves:
        mountains.append(Mountain(0, (leaf,), leaf))
        while len(mountains) > 1 and mountains[-1].height == mountains[-2].height:
            right, left = mountains.pop(), mountains.pop()
            node = join(left.node, right.node)
            mountains.append(Mountain(left.height + 1, left.leaves + right.leaves, node))
    return mountains


class Tree(NamedTuple):
    """A perfect tree over leaves: its height, its node, and the two halves, None for a leaf."""

    height: int
    node: bytes
    halves: tuple[Tree, Tree] | None


class SlowRange(NamedTuple):
    """A range that grows and changes by making a new one, for long chains of them."""

    join: Join
    trees: tuple[Tree, ...] = ()
    length: int = 0

    def append(self, leaf: bytes) -> SlowRange:
        """Return the range with one more leaf."""
        trees = [*self.trees, Tree(0, leaf, None)]
        while len(trees) > 1 and trees[-1].height == trees[-2].height:
            right, left = trees.pop(), trees.pop()
            trees.append(self._over(left, right))
        return self._replace(trees=tuple(trees), length=self.length + 1)

    def replace(self, position: int, leaf: bytes) -> SlowRange:
        """Return the range with another leaf at a position."""
        trees = list(self.trees)
        for at, tree in enumerate(trees):
            if position < 2**tree.height:
                trees[at] = self._changed(tree, position, leaf)
                return self._replace(trees=tuple(trees))
            position -= 2**tree.height
        raise IndexError(position)

    def nodes(self) -> tuple[bytes, ...]:
        """Return the tops of the mountains."""
        return tuple(tree.node for tree in self.trees)

    def _over(self, left: Tree, right: Tree) -> Tree:
        return Tree(left.height + 1, self.join(left.node, right.node), (left, right))

    def _changed(self, tree: Tree, position: int, leaf: bytes) -> Tree:
        if tree.halves is None:
            return Tree(0, leaf, None)
        left, right = tree.halves
        half = 2**left.height
        if position < half:
            return self._over(self._changed(left, position, leaf), right)
        return self._over(left, self._changed(right, position - half, leaf))


def slow_siblings(leaves: Sequence[bytes], index: int, join: Join) -> list[bytes]:
    """Siblings from the leaf up, as many as the mountain that holds the index is high."""
    start = 0
    for mountain in slow_mountains(leaves, join):
        if index < start + len(mountain.leaves):
            return _siblings(mountain.leaves, index - start, join)
        start += len(mountain.leaves)
    raise IndexError(index)


def _siblings(leaves: Sequence[bytes], index: int, join: Join) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = len(leaves) // 2
    own, other = leaves[:half], leaves[half:]
    if index >= half:
        own, other = other, own
    [beside] = slow_mountains(other, join)
    return [*_siblings(own, index % half, join), beside.node]


def slow_coin_leaf(coin_id: bytes, value: int, lock: bytes, height: int, minted: int) -> bytes:
    """The leaf of an unspent coin."""
    numbers = value.to_bytes(8, "big"), height.to_bytes(8, "big"), minted.to_bytes(1, "big")
    return slow_hash("coin leaf", coin_id + numbers[0] + lock + numbers[1] + numbers[2])


def slow_coin_join(left: bytes, right: bytes) -> bytes:
    """Two nodes of the state."""
    if not any(left) and not any(right):
        return bytes(32)
    return slow_hash("coin node", left + right)


def slow_state_root(leaves: Sequence[bytes], supply: int, pool: int) -> bytes:
    """The state root over the leaves of all positions."""
    peaks = [mountain.node for mountain in slow_mountains(leaves, slow_coin_join)]
    return slow_state_hash(len(leaves), supply, pool, peaks)


def slow_state_hash(positions: int, supply: int, pool: int, peaks: Sequence[bytes]) -> bytes:
    """The state root over peaks."""
    head = b"".join(number.to_bytes(8, "big") for number in (positions, supply, pool))
    return slow_hash("state", head + b"".join(peaks))


def slow_history_node(digest: bytes, work: int, coins: int, time: int) -> bytes:
    """The 80 bytes of a node of the history."""
    written = min(work, 2**256 - 1).to_bytes(32, "big")
    return digest + written + coins.to_bytes(8, "big") + time.to_bytes(8, "big")


def slow_history_join(left: bytes, right: bytes) -> bytes:
    """Two nodes of the history."""
    work = int(left[32:64].hex(), 16) + int(right[32:64].hex(), 16)
    coins = int(left[64:72].hex(), 16) + int(right[64:72].hex(), 16)
    digest = slow_hash("history node", left + right)
    return slow_history_node(digest, work, coins, int(right[72:].hex(), 16))


def slow_history_root(leaves: Sequence[bytes]) -> bytes:
    """The history root over the anchors' own nodes."""
    peaks = [mountain.node for mountain in slow_mountains(leaves, slow_history_join)]
    return slow_history_hash(len(leaves), peaks)


def slow_history_hash(anchors: int, peaks: Sequence[bytes]) -> bytes:
    """The history root over peaks."""
    return slow_hash("history", anchors.to_bytes(8, "big") + b"".join(peaks))


def slow_anchor_node(anchor_id: bytes, target: int, k: int, listed: int, time: int) -> bytes:
    """An anchor's own node of the history; genesis's has a target of 0 here."""
    work = k * (2**256 // (target + 1)) if target else 0
    return slow_history_node(anchor_id, work, listed + 1 if target else 0, time)
