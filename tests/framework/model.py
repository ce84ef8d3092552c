"""A whole chain from nothing: from all known coins, bodies and transfers to the state at the tip.

Written from the protocol's text, plainly and slowly, with no code of the chain and none of the
rules' functions. It is told what cannot be seen from structure: which coins have forged mixes and
which transfers fail by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tests.framework.slow import (
    SlowMember,
    SlowNetwork,
    slow_child_target,
    slow_hash,
    slow_merkle_root,
)
from tests.framework.slow_ranges import (
    slow_anchor_node,
    slow_coin_leaf,
    slow_history_root,
    slow_state_root,
)
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer


class Known(NamedTuple):
    """What the model is given. `transfers` in bytes by wid; `faulty` transfers by wid with the
    error that they give whatever the chain; `forged` coins by id."""

    genesis: Coin
    coins: Collection[Coin]
    bodies: Mapping[bytes, Body]
    transfers: Mapping[bytes, bytes]
    forged: Collection[bytes] = ()
    faulty: Mapping[bytes, str] = {}


class Broken(Exception):
    """A rule was broken; the text is its name."""


class NotYet(Exception):
    """A listed coin or transfer is not known."""


@dataclass(eq=False)
class ModelAnchor:
    """An anchor that counts."""

    coin: Coin
    body: Body
    chain: list[ModelAnchor]
    """Its ancestors, genesis first."""
    n_total: int = 0
    target: int = 0
    votes: dict[bytes, Coin] = field(default_factory=dict)
    children: list[ModelAnchor] = field(default_factory=list)
    sub: int = 0

    @property
    def height(self) -> int:
        return self.coin.height

    @property
    def id(self) -> bytes:
        return self.coin.id


@dataclass
class ModelMemory:
    """What models of one network can tell one another, for it never changes, by anchor."""

    state_roots: dict[bytes, bytes] = field(default_factory=dict)
    """After it."""
    child_targets: dict[bytes, int] = field(default_factory=dict)
    passed: set[bytes] = field(default_factory=set)
    """Those whose bodies have passed §5.2."""


class CoinStory(NamedTuple):
    """What the main chain did with a coin.

    `kind` as in the store's table, `place` its index in the body's list or the outputs.
    """

    kind: int
    height: int
    value: int
    txid: bytes
    place: int
    spent_height: int
    spent_by: bytes
    position: int


@dataclass
class State:
    """What follows from the main chain."""

    main: list[bytes]
    coin_set: dict[bytes, SlowMember]
    stories: dict[bytes, CoinStory]
    owners: dict[tuple[bytes, bytes], tuple[int, int]]
    """Value and height of every coin ever created, by lock and id."""
    places: dict[bytes, tuple[bytes, int, int]]
    """Wid, height and index of each transfer, by txid."""
    leaves: list[bytes]
    """The leaf of each position."""
    pool: int

    @property
    def supply(self) -> int:
        return sum(member.value for member in self.coin_set.values())

    def state_root(self) -> bytes:
        return slow_state_root(self.leaves, self.supply, self.pool)


def work(target: int) -> int:
    return 2**256 // (target + 1)


class Model:
    """What counts is worked out by the constructor, what wins when it is first asked for."""

    def __init__(
        self,
        network: Network,
        known: Known,
        *,
        root: bytes | None = None,
        memory: ModelMemory | None = None,
        now_ms: int | None = None,
    ) -> None:
        """`root`: an anchor below which the main chain cannot change any more. `now_ms`: what the
        clock shows, None for a time at which nothing is too new."""
        self._root = root
        self._now_ms = now_ms
        self._memory = ModelMemory() if memory is None else memory
        self.network = network
        self.known = known
        self.by_id: dict[bytes, Coin] = {coin.id: coin for coin in known.coins}
        self.bound: dict[bytes, list[Coin]] = {}
        for coin in self.by_id.values():
            self.bound.setdefault(coin.parent, []).append(coin)
        genesis = ModelAnchor(known.genesis, known.bodies[known.genesis.id], [])
        genesis.target = network.target0
        self.genesis = genesis
        self.anchors: dict[bytes, ModelAnchor] = {genesis.id: genesis}
        self.invalid: dict[bytes, str] = {}
        """Anchors that break a rule of §5.2 by themselves, with its name."""
        self.dead: dict[bytes, str] = {}
        """Anchors that the choice came to and that fail §5.3, with the rule: once it is made."""
        self._grow(genesis)
        self._weigh()

    @property
    def tip(self) -> ModelAnchor:
        """The anchor that wins."""
        return self._chosen[0]

    @property
    def state(self) -> State:
        """The state after the tip."""
        return self._chosen[1]

    @cached_property
    def _chosen(self) -> tuple[ModelAnchor, State]:
        while True:
            tip = self._descend(self.anchors[self._root] if self._root else self.genesis)
            try:
                return tip, self._replay(tip)
            except _AnchorBroken as broken:
                self.dead[broken.anchor.id] = broken.name

    # Which anchors count: §5.2

    def _grow(self, anchor: ModelAnchor) -> None:
        waiting = [anchor]
        while waiting:
            parent = waiting.pop()
            for coin in self.bound.get(parent.id, ()):
                if not self._passes(coin, parent):
                    continue
                parent.votes[coin.id] = coin
                if int.from_bytes(coin.id, "big") > coin.header.target // self._k:
                    continue
                body = self.known.bodies.get(coin.id)
                if body is None:
                    continue
                if coin.id not in self._memory.passed:
                    try:
                        self.check_body(coin, body, parent)
                    except NotYet:
                        continue
                    except Broken as broken:
                        self.invalid[coin.id] = str(broken)
                        continue
                    self._memory.passed.add(coin.id)
                child = self._child(coin, body, parent)
                parent.children.append(child)
                self.anchors[child.id] = child
                waiting.append(child)

    @property
    def _k(self) -> int:
        return self.network.coins_per_epoch

    def _child(self, coin: Coin, body: Body, parent: ModelAnchor) -> ModelAnchor:
        child = ModelAnchor(coin, body, [*parent.chain, parent])
        child.n_total = parent.n_total + len(body.fresh) + len(body.uncles) + 1
        targets = self._memory.child_targets
        if child.id not in targets:
            targets[child.id] = self._child_target(child)
        child.target = targets[child.id]
        return child

    def _child_target(self, anchor: ModelAnchor) -> int:
        network, first = self.network, [*anchor.chain, anchor][1]
        if network.tau_ms == 0:
            return network.target0
        slow = SlowNetwork(
            network.target0, network.max_target, network.epoch_ms, self._k, network.tau_ms
        )
        elapsed_ms = anchor.coin.header.time - first.coin.header.time
        return slow_child_target(slow, elapsed_ms, anchor.n_total - first.n_total)

    def is_too_new(self, coin: Coin, limits: int = 1) -> bool:
        """Return whether a coin is more than so many FUTURE_LIMIT ahead of the clock."""
        if self._now_ms is None:
            return False
        return coin.header.time > self._now_ms + limits * self.network.future_limit_ms

    def alone(self, coin: Coin) -> str | None:
        """Return the rule of §3.3 that a coin breaks by itself, but for the mix."""
        header = coin.header
        if header.version != 1:
            return "BAD_VERSION"
        if header.chain_id != self.network.chain_id:
            return "WRONG_CHAIN"
        if int.from_bytes(coin.id, "big") > header.target:
            return "HIGH_HASH"
        return None

    def against(self, coin: Coin, parent: ModelAnchor) -> str | None:
        """Return the rule of §3.3 that a coin breaks against the anchor that it is bound to."""
        header = coin.header
        if header.height != parent.height + 1:
            return "BAD_HEIGHT"
        if header.n_total != parent.n_total:
            return "BAD_N_TOTAL"
        if header.target != parent.target:
            return "BAD_TARGET"
        if header.time <= parent.coin.header.time:
            return "TIME_NOT_AFTER_PARENT"
        return None

    def _passes(self, coin: Coin, parent: ModelAnchor) -> bool:
        return (
            self.alone(coin) is None
            and self.against(coin, parent) is None
            and coin.id not in self.known.forged
            and not self.is_too_new(coin)
        )

    def check_body(self, anchor: Coin, body: Body, parent: ModelAnchor) -> None:
        """Check a body by §5.2. Raises `Broken`, and `NotYet` where something is not known."""
        chain = [*parent.chain, parent]
        most = 16 * self._k
        if len(body.fresh) > most or len(body.uncles) > most:
            raise Broken("TOO_MANY_COINS")
        limit = self.network.max_body_size
        if len(body.transfers) > limit // 1024:
            raise Broken("TOO_MANY_TRANSFERS")
        if sum(len(self.known.transfers.get(wid, b"")) for wid in body.transfers) > limit:
            raise Broken("BODY_TOO_LARGE")
        if any(wid not in self.known.transfers for wid in body.transfers):
            raise NotYet
        for coin_id in (*body.fresh, *body.uncles):
            if coin_id not in self.by_id:
                raise NotYet
        for ids in (body.fresh, body.uncles):
            if list(ids) != sorted(set(ids)):
                raise Broken("BAD_ORDER")
        if body.history_root != slow_history_root([self._node_of(step) for step in chain]):
            raise Broken("BAD_HISTORY_ROOT")
        included = {step.id for step in chain}
        for step in chain:
            included.update(step.body.fresh, step.body.uncles)
        for coin_id in body.fresh:
            self._check_fresh(self.by_id[coin_id], anchor, parent, included)
        for coin_id in body.uncles:
            self._check_uncle(self.by_id[coin_id], anchor, body, chain, included)
        if any(coin_id in self.known.forged for coin_id in (*body.fresh, *body.uncles)):
            raise Broken("BAD_MIX")

    def _node_of(self, anchor: ModelAnchor) -> bytes:
        header, body = anchor.coin.header, anchor.body
        listed = len(body.fresh) + len(body.uncles)
        target = header.target if anchor.chain else 0
        return slow_anchor_node(anchor.id, target, self._k, listed, header.time)

    def _check_listed(self, coin: Coin, anchor: Coin, included: set[bytes]) -> None:
        if coin.id in included:
            raise Broken("ALREADY_INCLUDED")
        if coin.header.time > anchor.header.time + self.network.future_limit_ms:
            raise Broken("LISTED_TOO_NEW")

    def _check_fresh(
        self, coin: Coin, anchor: Coin, parent: ModelAnchor, included: set[bytes]
    ) -> None:
        self._check_listed(coin, anchor, included)
        if coin.parent != parent.id:
            raise Broken("FRESH_WRONG_PARENT")
        broken = self.alone(coin) or self.against(coin, parent)
        if broken:
            raise Broken(broken)

    def _check_uncle(
        self,
        coin: Coin,
        anchor: Coin,
        body: Body,
        chain: Sequence[ModelAnchor],
        included: set[bytes],
    ) -> None:
        self._check_listed(coin, anchor, included)
        j = anchor.height - coin.height
        if 1 <= coin.height <= len(chain) and chain[coin.height - 1].id == coin.parent:
            if not 1 <= j <= self.network.window:
                raise Broken("UNCLE_OUT_OF_WINDOW")
            broken = self.alone(coin) or self.against(coin, chain[coin.height - 1])
            if broken:
                raise Broken(broken)
            return
        targets = [step.coin.header.target for step in chain] + [anchor.header.target]
        parent = self.by_id.get(coin.parent)
        if (
            parent is None
            or (parent.id not in included and parent.id not in body.uncles)
            or parent.id in {step.id for step in chain}
            or parent.height >= len(targets)
            or int.from_bytes(parent.id, "big") > targets[parent.height] // self._k
        ):
            raise Broken("UNCLE_BAD_ANCESTRY")
        if coin.height != parent.height + 1:
            raise Broken("BAD_HEIGHT")
        if not 0 <= j <= self.network.window:
            raise Broken("UNCLE_OUT_OF_WINDOW")
        if coin.header.time <= parent.header.time:
            raise Broken("TIME_NOT_AFTER_PARENT")
        if int.from_bytes(coin.id, "big") > targets[coin.height]:
            raise Broken("UNCLE_HIGH_HASH")
        broken = self.alone(coin)
        if broken:
            raise Broken(broken)

    # Which of them wins: §6

    def _weigh(self) -> None:
        for anchor in sorted(self.anchors.values(), key=lambda step: -step.height):
            votes = sum(work(coin.header.target) for coin in anchor.votes.values())
            anchor.sub = votes + sum(child.sub for child in anchor.children)

    def score(self, anchor: ModelAnchor) -> int:
        """score(X) of §6."""
        plain = self.plain(anchor.body.fresh)
        return 2 * anchor.sub + sum(work(self.by_id[coin_id].header.target) for coin_id in plain)

    def plain(self, coins: Iterable[bytes]) -> list[bytes]:
        """Return those of some coins that are not of anchor grade."""
        return [
            coin_id
            for coin_id in coins
            if int.from_bytes(coin_id, "big") > self.by_id[coin_id].header.target // self._k
        ]

    def confirmations(self, lowest: int, passed_over: Collection[bytes]) -> dict[int, int]:
        """Return the confirmations of each height of the main chain above one, if nothing is known
        of what lies below that (docs/decisions/confirmations.md). `passed_over`: rivals that
        nothing leads through."""
        chain = [*self.tip.chain, self.tip]
        found: dict[int, int] = {}
        least = votes = sum(len(step.votes) for step in chain[lowest:])
        for step, parent in zip(chain[lowest + 1 :], chain[lowest:], strict=False):
            votes -= len(parent.votes)
            could_list = min(16 * self._k, len(self.plain(parent.votes)))
            left_out = max(0, could_list - len(self.plain(step.body.fresh)))
            trailing = [
                (self.score(step) - self.score(rival)) // (2 * work(rival.target))
                for rival in parent.children
                if rival is not step and rival.id not in passed_over
            ]
            least = min([least, votes - left_out, *trailing])
            found[step.height] = max(0, least)
        return found

    def _descend(self, step: ModelAnchor) -> ModelAnchor:
        while alive := [child for child in step.children if child.id not in self.dead]:
            best = max(self.score(child) for child in alive)
            step = min(
                (child for child in alive if self.score(child) == best),
                key=lambda child: child.id,
            )
        return step

    def broken_by(self, anchor_id: bytes) -> str | None:
        """Return the rule that an anchor breaks, None where it breaks none by itself."""
        if anchor_id in self.invalid:
            return self.invalid[anchor_id]
        anchor = self.anchors.get(anchor_id)
        if anchor is None:
            return None
        try:
            self._replay(anchor)
        except _AnchorBroken as broken:
            if broken.anchor is anchor:
                return broken.name
        return None

    # What it comes to: §5.3, §5.4, §8.3

    def _replay(self, tip: ModelAnchor) -> State:
        chain = [*tip.chain, tip]
        state = State([chain[0].id], {}, {}, {}, {}, [], 0)
        for anchor in chain[1:]:
            try:
                self._connect(anchor, state)
            except Broken as broken:
                raise _AnchorBroken(anchor, str(broken)) from None
        return state

    def _connect(self, anchor: ModelAnchor, state: State) -> None:
        body = anchor.body
        if body.state_root != self._root_before(anchor, state):
            raise Broken("BAD_STATE_ROOT")
        raws = [self.known.transfers[wid] for wid in body.transfers]
        sized = [self._decode(wid, raw) for wid, raw in zip(body.transfers, raws, strict=True)]
        size = sum(len(raw) for raw in raws) + sum(
            1024 * len(one.transfer.outputs) for one in sized if one is not None
        )
        if size > self.network.max_body_size:
            raise Broken("BODY_TOO_LARGE")
        fees = 0
        for index, (wid, one) in enumerate(zip(body.transfers, sized, strict=True)):
            fault = self.known.faulty.get(wid)
            if fault is not None and not fault.startswith("late "):
                raise Broken(fault)
            assert one is not None
            self._transfer(one, anchor.height, state)
            if fault is not None:
                raise Broken(fault.removeprefix("late "))
            state.places[one.txid] = (wid, anchor.height, index)
            fees += one.transfer.fee
        self._mint(anchor, fees, state)
        state.main.append(anchor.id)

    def _decode(self, wid: bytes, raw: bytes) -> SizedTransfer | None:
        if self.known.faulty.get(wid) == "NON_CANONICAL":
            return None
        return SizedTransfer.from_bytes(raw)

    def _root_before(self, anchor: ModelAnchor, state: State) -> bytes:
        parent_id = anchor.chain[-1].id
        roots = self._memory.state_roots
        if parent_id not in roots:
            roots[parent_id] = state.state_root()
        return roots[parent_id]

    def _transfer(self, sized: SizedTransfer, height: int, state: State) -> None:
        transfer = sized.transfer
        if transfer.lock_height > height:
            raise Broken("LOCKED_UNTIL_HEIGHT")
        spent = []
        for entry in transfer.inputs:
            member = state.coin_set.get(entry.coin_id)
            if member is None:
                was_there = entry.coin_id in state.stories
                raise Broken("COIN_SPENT" if was_there else "COIN_UNKNOWN")
            spent.append(member)
        for member in spent:
            if member.minted and height - member.height < self.network.maturity:
                raise Broken("IMMATURE_COIN")
        for entry, member in zip(transfer.inputs, spent, strict=True):
            if slow_hash("lock", entry.condition + entry.salt) != member.lock:
                raise Broken("LOCK_MISMATCH")
        given = sum(output.value for output in transfer.outputs) + transfer.fee
        if sum(member.value for member in spent) != given:
            raise Broken("FEE_MISMATCH")
        for member in spent:
            del state.coin_set[member.coin_id]
            story = state.stories[member.coin_id]
            state.leaves[story.position] = bytes(32)
            state.stories[member.coin_id] = story._replace(spent_height=height, spent_by=sized.txid)
        for index, output in enumerate(transfer.outputs):
            coin_id = slow_hash("output", sized.txid + index.to_bytes(4, "big"))
            story = CoinStory(5, height, output.value, sized.txid, index, 0, b"", len(state.leaves))
            self._create(
                SlowMember(coin_id, output.value, output.lock, height, False), story, state
            )

    def _mint(self, anchor: ModelAnchor, fees: int, state: State) -> None:
        subsidy = self.network.subsidy
        mints = [(anchor.coin, 1, subsidy, 0)]
        for index, coin_id in enumerate(anchor.body.fresh):
            mints.append((self.by_id[coin_id], 2, subsidy, index))
        ids = [step.id for step in anchor.chain]
        for index, coin_id in enumerate(anchor.body.uncles):
            coin = self.by_id[coin_id]
            if coin.height <= len(ids) and ids[coin.height - 1] == coin.parent:
                j = anchor.height - coin.height
                mints.append((coin, 3, subsidy * max(16 - j, 1) // 16, index))
            else:
                mints.append((coin, 4, subsidy // 4, index))
        pool = state.pool + fees
        state.pool = pool - pool // 4
        for coin, kind, value, index in mints:
            paid = value + (pool // 4 if kind == 1 else 0)
            story = CoinStory(kind, anchor.height, paid, b"", index, 0, b"", len(state.leaves))
            member = SlowMember(coin.id, paid, coin.header.lock, anchor.height, True)
            self._create(member, story, state)

    def _create(self, member: SlowMember, story: CoinStory, state: State) -> None:
        state.leaves.append(
            slow_coin_leaf(
                member.coin_id, member.value, member.lock, member.height, int(member.minted)
            )
        )
        state.coin_set[member.coin_id] = member
        state.stories[member.coin_id] = story
        state.owners[member.lock, member.coin_id] = (member.value, member.height)


class _AnchorBroken(Exception):
    def __init__(self, anchor: ModelAnchor, name: str) -> None:
        super().__init__(name)
        self.anchor = anchor
        self.name = name


def slow_body_root(body: Body) -> bytes:
    """The body root of Protocol §5.1."""
    lists = (body.fresh, body.uncles, body.transfers)
    roots = b"".join(slow_merkle_root(ids) for ids in lists)
    return slow_hash("body", roots + body.state_root + body.history_root)
