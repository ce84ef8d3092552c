"""A chain as the rules read it: the tree's anchors, and the store's below its root."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from unchained.node.chain.tree import AnchorNode, AnchorStatus, AnchorTree
from unchained.node.consensus.context import AnchorContext, child_context, genesis_context
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import Getter

CACHED_COINS: Final = 4_096
"""Coins kept parsed: a few epochs' worth; the rest is read from the store."""


class Archive:
    """Known coins, and the main chain's anchors below the tree, which no branch can undo."""

    def __init__(self, view: Getter, network: Network) -> None:
        self._view = view
        self._network = network
        self._coins: OrderedDict[CoinId, Coin] = OrderedDict()

    def keep(self, coin: Coin) -> None:
        """Keep a coin at hand, parsed."""
        self._coins[coin.id] = coin
        if len(self._coins) > CACHED_COINS:
            self._coins.popitem(last=False)

    def forget(self, coin_id: CoinId) -> None:
        """Let go of a coin that is deleted from the store."""
        self._coins.pop(coin_id, None)

    def coin(self, coin_id: CoinId) -> Coin | None:
        """Return a known coin, listed or not, anchors too."""
        found = self._coins.get(coin_id)
        if found is None:
            raw = schema.COIN.get(self._view, coin_id)
            if raw is None:
                return None
            found = Coin.from_bytes(raw)
            self.keep(found)
        return found

    def knows(self, coin_id: CoinId) -> bool:
        """Return whether the coin is known."""
        return coin_id in self._coins or schema.COIN.get(self._view, coin_id) is not None

    def main_id(self, height: int) -> CoinId | None:
        """Return the id of the main chain's anchor at a height."""
        return schema.HEIGHT.get(self._view, height)

    def main_anchor(self, height: int) -> Coin | None:
        """Return the main chain's anchor at a height."""
        anchor_id = self.main_id(height)
        return None if anchor_id is None else self.coin(anchor_id)

    def body(self, anchor_id: CoinId) -> Body | None:
        """Return the body of an anchor, if it is known."""
        record = schema.ANCHOR.get(self._view, anchor_id)
        return Body.from_bytes(record.body) if record is not None and record.body else None

    def inclusion_height(self, coin_id: CoinId) -> int | None:
        """Return the height at which the main chain included a coin."""
        found = schema.HISTORY.get(self._view, coin_id)
        return None if found is None else found.height

    def main_context(self, height: int, later: AnchorContext) -> AnchorContext | None:
        """Return the main chain's anchor at a height as its children see it, without the history.

        `later` is any later anchor of the main chain: it has the same R of Protocol §7.
        """
        coin = self.main_anchor(height)
        if coin is not None and height == 0:
            return genesis_context(coin, None, self._network)
        body = None if coin is None else self.body(coin.id)
        if coin is None or body is None:
            return None
        origin = msgspec.structs.replace(later, history=None)
        return child_context(coin, len(body.fresh) + len(body.uncles), origin, self._network)


class KnownParents:
    """What the chain knows of the coins that others are bound to: a `ParentView` for the rules."""

    def __init__(self, tree: AnchorTree, archive: Archive) -> None:
        self._tree = tree
        self._archive = archive

    def coin(self, coin_id: CoinId) -> Coin | None:
        """Return a known coin."""
        node = self._tree.get(coin_id)
        return self._archive.coin(coin_id) if node is None else node.coin

    def context_of(self, anchor_id: CoinId) -> AnchorContext | None:
        """Return the context of an anchor that counts and can still be voted for."""
        node = self._tree.get(anchor_id)
        if node is None or node.status is not AnchorStatus.COUNTS:
            return None
        return node.context

    def is_invalid(self, anchor_id: CoinId) -> bool:
        """Return whether a coin of anchor grade, or an ancestor of it, broke a rule of anchors."""
        node = self._tree.get(anchor_id)
        return node is not None and node.status is AnchorStatus.INVALID

    def is_settled(self, anchor: Coin) -> bool:
        """Return whether a coin is an anchor of the main chain, too deep to be voted for."""
        return self._archive.main_id(anchor.height) == anchor.id


class Branch:
    """The chain that ends in one anchor of the tree: a `BranchView` for the rules."""

    def __init__(self, tree: AnchorTree, tip: AnchorNode, archive: Archive) -> None:
        self._tree = tree
        self._tip = tip
        self._archive = archive

    def anchor_at(self, height: int) -> AnchorContext | None:
        """Return this chain's anchor at a height, or None above its end or below genesis."""
        if not 0 <= height <= self._tip.height:
            return None
        node = self._tree.ancestor(self._tip, height)
        if node is not None:
            return node.context
        return self._archive.main_context(height, self._tip.context)

    def target_at(self, height: int) -> int | None:
        """Return the target in the header of this chain's anchor at a height."""
        if not 0 <= height <= self._tip.height:
            return None
        node = self._tree.ancestor(self._tip, height)
        coin = self._archive.main_anchor(height) if node is None else node.coin
        return None if coin is None else coin.header.target

    def included(self, coin_id: CoinId, since: int = 0) -> Coin | None:
        """Return the coin if it is an anchor of this chain or was listed by one."""
        if self._tree.lister_of(coin_id, self._tip) is None:
            root_height = self._tree.root.height
            if since >= root_height:
                return None
            # Genesis, which mints nothing, has no history of its own.
            genesis = self._archive.main_id(0) == coin_id
            height = 0 if genesis else self._archive.inclusion_height(coin_id)
            if height is None or height >= root_height:
                return None
        return self._archive.coin(coin_id)
