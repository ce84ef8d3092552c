"""The one way to count (Protocol §6): how a coin becomes a vote, and an anchor one that counts.

Whatever way a coin came (gossip, sync, a file, own mining, a body that lists it, the store), it is
on disk as bound to its parent, and becomes a vote here, by §3.3 and the clock. An anchor has a node
in the tree only once its own coin is a vote, so no anchor counts before its time either.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from unchained.node.chain.branch import Archive
from unchained.node.chain.journal import Journal
from unchained.node.chain.ledger import Ledger
from unchained.node.chain.results import CountedAnchor
from unchained.node.chain.tree import AnchorMark, AnchorNode, AnchorStatus, AnchorTree, Validation
from unchained.node.consensus.coins import check_coin_in_context, is_anchor_grade, is_too_new
from unchained.node.consensus.errors import CoinError, TimeTooNewError
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore
from unchained.storage.presence import there
from unchained.storage.schema import AnchorRecord, CoinAccepted


class Vote(msgspec.Struct, frozen=True, gc=False):
    """A coin that passes §3.3 against an anchor, the clock included. Only `Admission` makes one."""

    home: AnchorNode
    coin: Coin


class Admission:
    """Lets coins and anchors count, and takes them out again where the clock steps back.

    `now_ms` is what the node's clock showed last. Changes are in the ledger's batch.
    """

    def __init__(
        self,
        network: Network,
        tree: AnchorTree,
        ledger: Ledger,
        archive: Archive,
        journal: Journal,
        now_ms: int,
    ) -> None:
        self._network = network
        self._tree = tree
        self._ledger = ledger
        self._archive = archive
        self._journal = journal
        self.now_ms = now_ms
        self.coins = 0
        """Coins that became votes since the chain was opened."""
        self._others: dict[CoinId, dict[CoinId, int]] = {}
        """Stored coins that are no votes, by parent, with their heights: the parent does not count
        (yet), their time has not come, or they do not pass §3.3 and are in a body that lists them.
        """
        self._due: list[tuple[int, CoinId, CoinId]] = []
        """Time, parent and id of those of them that wait for the clock: a heap."""
        self._newest_ms = 0
        """No vote is of a later time, but for anchors of the main chain."""

    @property
    def limit_ms(self) -> int:
        """The latest time that a coin may have at present and count."""
        return self.now_ms + self._network.future_limit_ms

    @property
    def is_behind(self) -> bool:
        """Whether the clock is behind the tip by more than FUTURE_LIMIT: nothing is chosen then."""
        # Protocol §6: "more than FUTURE_LIMIT behind its own tip on disk neither chooses nor mines"
        return is_too_new(self._tree.tip.coin, self.now_ms, self._network)

    @property
    def next_due_ms(self) -> int | None:
        """When the clock next lets a coin count that is stored already, None if none waits."""
        return self._due[0][0] - self._network.future_limit_ms if self._due else None

    def has(self, coin: Coin) -> bool:
        """Return whether a coin is a vote, or stored to be one when it may."""
        home = self._tree.get(coin.parent)
        return (home is not None and coin.id in home.bound) or self.awaits(coin)

    def knows(self, coin: Coin) -> bool:
        """Return whether a coin is stored, so that its proof need not be verified again."""
        home = self._tree.get(coin.parent)
        if home is not None and home.status is AnchorStatus.COUNTS:
            # What is bound to it is at hand: for a coin that is news, no store need be asked.
            return self.has(coin)
        return self._archive.knows(coin.id)

    def awaits(self, coin: Coin) -> bool:
        """Return whether a coin is stored and no vote (yet)."""
        return coin.id in self._others.get(coin.parent, ())

    # In

    def check(
        self, home: AnchorNode, coin: Coin, now_ms: int | None, tip_height: int | None = None
    ) -> Vote:
        """Check a coin against the anchor it is bound to, which counts; its mix is known to be
        right. Raises a `CoinError`."""
        check_coin_in_context(
            coin, home.context, self._network, tip_height=tip_height, now_ms=now_ms
        )
        return Vote(home, coin)

    def take_in(self, vote: Vote) -> None:
        """Store a vote and count it."""
        self._store(vote.coin)
        self._drop_other(vote.coin.parent, vote.coin.id)
        self._admit(self._count(vote))

    def take_in_listed(self, coin: Coin) -> None:
        """Store a coin that a body lists, and count it if it is a vote already."""
        self._store(coin)
        self._others.setdefault(coin.parent, {})[coin.id] = coin.height
        home = self._tree.get(coin.parent)
        if home is not None and home.status is AnchorStatus.COUNTS:
            self._admit(self._try(home, coin, self.now_ms))

    def restore(self, home: AnchorNode, coins: Sequence[Coin]) -> None:
        """Let coins of the main chain be votes again for an anchor that comes back to the tree."""
        for coin in coins:
            vote = self.check(home, coin, None)
            self._store(coin)
            self._drop_other(coin.parent, coin.id)
            self._tree.add_vote(vote.home, coin.id)
            self._admit(self._grow_new(vote))
        self._admit(home)

    def let_count(self, node: AnchorNode, validation: Validation) -> None:
        """Let an anchor count that passed Protocol §5.2, with the coins that waited for it."""
        self._note_counted(node, validation)
        self._admit(node)

    def _store(self, coin: Coin) -> None:
        self._ledger.batch.put(schema.COIN.key(coin.id), coin.raw)
        self._ledger.batch.put(schema.BOUND.key(coin.parent, coin.id), b"")
        self._archive.keep(coin)

    def _note_counted(self, node: AnchorNode, validation: Validation) -> None:
        self._tree.count_in(node, validation)
        self._journal.changes.counted.append(CountedAnchor(node.coin, validation.body))

    def _try(self, home: AnchorNode, coin: Coin, now_ms: int | None) -> AnchorNode | None:
        """Count a stored coin if it is a vote; return the anchor that counts with that."""
        try:
            vote = self.check(home, coin, now_ms)
        except TimeTooNewError:
            heapq.heappush(self._due, (coin.header.time, coin.parent, coin.id))
            return None
        except CoinError:
            # A stray coin that only the chain listing it had to check (Protocol §5.2): no vote.
            return None
        self._drop_other(coin.parent, coin.id)
        return self._count(vote)

    def _count(self, vote: Vote) -> AnchorNode | None:
        """Count a vote; return the anchor that counts with that: it has been validated before."""
        coin = vote.coin
        self._tree.add_vote(vote.home, coin.id)
        self._newest_ms = max(self._newest_ms, coin.header.time)
        self._ledger.log(CoinAccepted(coin.id))
        self._journal.changes.coins.append(coin)
        self.coins += 1
        return self._grow_new(vote)

    def _grow_new(self, vote: Vote) -> AnchorNode | None:
        """Give a vote its node if it is of anchor grade and has none; return the anchor that counts
        with that."""
        coin = vote.coin
        if not is_anchor_grade(coin, self._network) or self._tree.get(coin.id) is not None:
            return None
        node, validation = self._grow(vote)
        if validation is None:
            return None
        self._note_counted(node, validation)
        return node

    def _grow(self, vote: Vote, *, is_main: bool = False) -> tuple[AnchorNode, Validation | None]:
        """Give an anchor its node; return that, and what was found out about it before."""
        node = self._tree.add_anchor(vote.coin)
        record = schema.ANCHOR.get(self._ledger.view, node.id)
        if record is None:
            return node, None
        node.marks = AnchorMark(record.marks)
        if record.status == AnchorStatus.INVALID:
            self._tree.invalidate(node)
        if record.status != AnchorStatus.COUNTS:
            return node, None
        body = Body.from_bytes(record.body)
        if not is_main and not self._is_whole(body):
            # What it lists went while it did not count: its body is to be asked for again. What
            # else is on record of it stays: an operator's word does not go with a transfer.
            bare = AnchorRecord(node.coin.raw, b"", AnchorStatus.BODYLESS, 0, 0, node.marks)
            self._ledger.batch.put(schema.ANCHOR.key(node.id), schema.ANCHOR.encode(bare))
            return node, None
        return node, Validation.of_child(vote.coin, body, vote.home.context, self._network)

    def _is_whole(self, body: Body) -> bool:
        """Return whether all that a body lists is stored."""
        view = self._ledger.view
        coins = (CoinId(coin_id) for coin_id in (*body.fresh, *body.uncles))
        return all(self._archive.knows(coin_id) for coin_id in coins) and all(
            schema.TRANSFER.get(view, wid) is not None for wid in body.transfers
        )

    def _admit(self, first: AnchorNode | None) -> None:
        """Count what waited for an anchor that counts now, and for the anchors among that."""
        waiting = deque(() if first is None else (first,))
        while waiting:
            node = waiting.popleft()
            for coin_id in list(self._others.get(node.id, ())):
                child = self._try(node, self._stored(coin_id), self.now_ms)
                if child is not None:
                    waiting.append(child)

    def _stored(self, coin_id: CoinId) -> Coin:
        return there(self._archive.coin(coin_id), f"coin {coin_id.hex()}")

    def _drop_other(self, parent: CoinId, coin_id: CoinId) -> None:
        others = self._others.get(parent)
        if others is not None:
            others.pop(coin_id, None)
            if not others:
                del self._others[parent]

    # The clock

    def note_left(self, anchor: Coin) -> None:
        """Note that an anchor has left the main chain: from here on its time is asked for."""
        self._newest_ms = max(self._newest_ms, anchor.header.time)

    def note_clock(self, now_ms: int) -> bool:
        """Let count what the clock allows now, and nothing that it does not allow any more; return
        whether anything has changed."""
        self.now_ms = now_ms
        changed = self._newest_ms > self.limit_ms
        if changed:
            self._withdraw()
        while self._due and self._due[0][0] <= self.limit_ms:
            _, parent, coin_id = heapq.heappop(self._due)
            home = self._tree.get(parent)
            if (
                coin_id in self._others.get(parent, ())
                and home is not None
                and home.status is AnchorStatus.COUNTS
            ):
                changed = True
                self._admit(self._try(home, self._stored(coin_id), now_ms))
        return changed

    def _withdraw(self) -> None:
        """Take out what is too new since the clock stepped back, to count again at its time.

        What the main chain has stays: while its tip is too new, nothing is chosen.
        """
        for node in list(self._tree.nodes.values()):
            if self._tree.get(node.id) is not node:
                continue  # gone with an anchor below it
            for coin_id in list(node.bound):
                coin = self._stored(coin_id)
                anchor = self._tree.get(coin_id)
                is_main = anchor is not None and anchor.on_main
                if is_main or not is_too_new(coin, self.now_ms, self._network):
                    continue
                for gone in () if anchor is None else self._tree.remove(anchor):
                    if gone.bound:
                        others = self._others.setdefault(gone.id, {})
                        others.update(dict.fromkeys(gone.bound, gone.height + 1))
                self._tree.remove_vote(node, coin_id)
                self._others.setdefault(node.id, {})[coin_id] = coin.height
                heapq.heappush(self._due, (coin.header.time, node.id, coin_id))
        self._newest_ms = self.limit_ms

    # The store

    def load(self, store: KeyValueStore, main: Collection[CoinId]) -> None:
        """Fill the tree from its root upwards with what is on disk and counts.

        `main` are the anchors of the main chain, which are there whatever the clock shows.
        """
        bound: dict[bytes, list[Coin]] = {}
        for parent_id, coin_id in schema.BOUND.pairs(store):
            raw = there(schema.COIN.get(store, coin_id), f"coin {coin_id.hex()}")
            bound.setdefault(parent_id, []).append(Coin.from_bytes(raw))
        waiting = deque([self._tree.root])
        while waiting:
            node = waiting.popleft()
            others = []
            for coin in bound.pop(node.id, ()):
                try:
                    vote = self.check(node, coin, None if coin.id in main else self.now_ms)
                except CoinError as error:
                    others.append(coin)
                    if isinstance(error, TimeTooNewError):
                        self._due.append((coin.header.time, node.id, coin.id))
                    continue
                self._tree.add_vote(node, coin.id)
                if coin.id not in main:
                    self._newest_ms = max(self._newest_ms, coin.header.time)
                if is_anchor_grade(coin, self._network):
                    child, validation = self._grow(vote, is_main=coin.id in main)
                    if validation is not None:
                        self._tree.count_in(child, validation)
                        waiting.append(child)
            if others:
                bound[node.id] = others
            record = there(schema.ANCHOR.get(store, node.id), f"anchor {node.id.hex()}")
            node.connected_running_ms = record.connected_running_ms
            self._tree.recall_votes(node, record.votes)
        heapq.heapify(self._due)
        for parent_id, coins in bound.items():
            self._others[CoinId(parent_id)] = {coin.id: coin.height for coin in coins}

    # Out

    def forget(self, anchor_id: CoinId) -> list[CoinId]:
        """Let go of the coins bound to an anchor that are no votes; return them."""
        return list(self._others.pop(anchor_id, ()))

    def stale_parents(self, height: int) -> list[CoinId]:
        """Return the parents of coins that are no votes and lie at a height or below it."""
        return [parent for parent, coins in self._others.items() if max(coins.values()) <= height]
