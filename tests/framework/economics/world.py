"""A network of miners in virtual time, of which a coin costs microseconds: what an attack pays.

What is the shipping node's: the tree and its choice (`AnchorTree`), the next body
(`build_template`), every check of coins and anchors but the mix (`check_coin_alone`,
`check_coin_in_context`, `count_anchor`), targets (`child_context`) and what anchors mint. What is
the harness': time, messages, who finds a coin when, and ids, which are drawn instead of hashed. A
draw below a target is what a hash is taken for anywhere, so nothing else follows from it. There
are no transfers, no states and no disks here: `scripts/simulate` has those.
"""

from __future__ import annotations

import heapq
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import inf
from random import Random
from typing import Any, Final, Protocol, cast

import msgspec

from tests.framework.economics.scores import Choice, shipping
from unchained.node.chain.branch import Archive, Branch
from unchained.node.chain.template import Template, build_template
from unchained.node.chain.tree import AnchorNode, AnchorTree, Validation
from unchained.node.consensus.coins import check_coin_alone, check_coin_in_context
from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.genesis import Genesis, genesis_of
from unchained.node.consensus.mints import Mint
from unchained.node.consensus.params import MAIN, Network
from unchained.node.consensus.transition import body_root, count_anchor
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import ZERO32, CoinId, Lock

KEPT_ANCHORS: Final = 32
"""Heights below the tip that a view keeps, where an experiment asks for no more. A branch that
forks lower cannot be followed: `World.too_deep` counts those, and is to be 0."""

FORGOTTEN_BELOW: Final = 24
"""Heights below the lowest view's root from which on coins are forgotten."""


def steady(network: Network = MAIN) -> Network:
    """Return the network without retarget: the hash power is what its target is made for."""
    return msgspec.structs.replace(network, tau_ms=0)


class Find(msgspec.Struct, eq=False):
    """A coin that somebody has found, and its body if it is of anchor grade.

    What is judged of it is judged once: it follows from the coin's own chain alone.
    """

    coin: Coin
    miner: int
    body: Body | None = None
    validation: Validation | None = None
    mints: Sequence[Mint] = ()
    is_dead: bool = False
    """Whether it is an anchor that fails §5.3."""


class _NoMempool:
    def select(self, size: int) -> list[bytes]:
        return []


class _Commitments:
    """The ledger as a template asks it: a history, no state and an empty pool."""

    pool = 0

    def __init__(self, view: View) -> None:
        self._view = view

    def state_root(self) -> bytes:
        return ZERO32

    @property
    def history(self) -> Any:
        return self._view.tip.context.history


class View:
    """What one node knows: to the product a `ChainCore`, an archive and a body's contents."""

    def __init__(self, world: World, kept: int = KEPT_ANCHORS) -> None:
        self.world = world
        self.network = world.network
        self.tree = AnchorTree(
            world.genesis.coin, Validation.of_genesis(world.genesis, world.network)
        )
        self.mempool = _NoMempool()
        self.ledger = _Commitments(self)
        self.archive = self
        self.kept = kept
        self.on_final: Callable[[AnchorNode], None] | None = None
        """Told of each anchor that leaves the tree for good at its root."""

    # What the product reads

    @property
    def tip(self) -> AnchorNode:
        return self.tree.tip

    def branch_of(self, tip: AnchorNode) -> Branch:
        return Branch(self.tree, tip, cast(Archive, self))

    def coin(self, coin_id: CoinId) -> Coin | None:
        found = self.world.finds.get(coin_id)
        return self.world.genesis.coin if found is None else found.coin

    def main_id(self, height: int) -> CoinId | None:
        assert height == 0, "the window of uncles lies in the tree"
        return self.world.genesis.coin.id

    def inclusion_height(self, coin_id: CoinId) -> int | None:
        return None

    def encoded_length(self, wid: bytes) -> int | None:
        return None

    def hold_listed(self, body: Body) -> tuple[()]:
        return ()

    # Growing

    def knows(self, coin_id: CoinId) -> bool:
        """Return whether the view has a coin, as long as its parent is in the tree."""
        found = self.world.finds.get(coin_id)
        parent = None if found is None else self.tree.get(found.coin.parent)
        return parent is not None and coin_id in parent.bound

    def has(self, find: Find) -> bool:
        """Return whether the view has a coin, and the anchor that it is."""
        parent = self.tree.get(find.coin.parent)
        has_come = find.validation is None or self.tree.get(find.coin.id) is not None
        return parent is not None and find.coin.id in parent.bound and has_come

    def add(self, find: Find) -> bool:
        """Take a coin with its body, and first what it needs, as a node would ask for it."""
        coin = find.coin
        parent = self.tree.get(coin.parent)
        if parent is None:
            above = self.world.finds.get(coin.parent)
            if above is None or above.coin.height <= self.tree.root.height:
                self.world.too_deep += find.body is not None
                return False
            self.add(above)
            parent = self.tree.get(coin.parent)
            if parent is None:
                return False
        if self.has(find):
            return False
        if find.body is not None:
            for listed in (*find.body.fresh, *find.body.uncles):
                self.add(self.world.finds[CoinId(listed)])
        self.tree.add_vote(parent, coin.id)
        if find.validation is not None:
            node = self.tree.add_anchor(coin)
            self.tree.count_in(node, find.validation)
            if find.is_dead:
                self.tree.mark_dead(node)
        return True

    def move_to(self, goal: AnchorNode) -> list[AnchorNode]:
        """Make an anchor the tip; return what that undid, lowest first."""
        tree = self.tree
        if goal is tree.tip:
            return []
        fork = tree.fork_point(goal)
        undone = tree.path(fork, tree.tip)
        while tree.tip is not fork:
            parent = tree.tip.parent
            assert parent is not None
            tree.set_tip(parent)
        for step in tree.path(fork, goal):
            tree.set_tip(step)
        while tree.tip.height - tree.root.height > self.kept:
            if self.on_final is not None:
                self.on_final(tree.root)
            tree.advance_root()
        return undone

    def template(self) -> Template:
        """Return the next body, by the product."""
        return build_template(self, self.world.now_ms)  # type: ignore[arg-type]


class Undone(msgspec.Struct, frozen=True):
    """A reorganisation of one node: anchors undone, and the votes that the lowest of them had."""

    depth: int
    votes: int


class Miner:
    """An honest node that mines: verifies what comes, follows the product's choice, tells all."""

    choice: Choice = staticmethod(shipping)
    verifies = True
    """Whether it takes its time to verify a coin before it takes it, where the world says so."""

    def __init__(self, world: World, index: int, kept: int = KEPT_ANCHORS) -> None:
        self.world = world
        self.index = index
        self.lock = Lock(index.to_bytes(32, "big"))
        self.view = View(world, kept)
        self.coins_found = 0
        self._verifying: set[Find] = set()
        self._busy_until = 0.0

    def found(self, number: int) -> None:
        """Have tried a hash."""
        find = self.world.mine(self.view, self, number)
        if find is not None:
            self.receive(find)
            self.world.tell(self.index, find)

    def body(self, template: Template) -> Body:
        """Return what an anchor of this miner lists."""
        return template.body

    def hear(self, find: Find) -> None:
        """Be told of a coin: it waits its turn to be verified, behind what it needs of others."""
        world = self.world
        if not self.verifies or world.verification == 0:
            self.receive(find)
            return
        if find in self._verifying or self.view.has(find):
            return
        self._verifying.add(find)
        above = world.finds.get(find.coin.parent)
        if above is not None and above.coin.height > self.view.tree.root.height:
            self.hear(above)
        if find.body is not None:
            for listed in (*find.body.fresh, *find.body.uncles):
                self.hear(world.finds[CoinId(listed)])
        # Of an anchor whose coin was there before, no more than the body is new.
        self.verify(not self.view.knows(find.coin.id))
        world.at(self._busy_until, self._verified, find)

    def verify(self, coins: int) -> None:
        """Be busy with so many coins more, forged ones or others."""
        free_at = max(self._busy_until, self.world.now)
        self._busy_until = free_at + coins * self.world.verification

    def _verified(self, find: Find) -> None:
        self._verifying.discard(find)
        self.receive(find)

    def receive(self, find: Find) -> None:
        """Take what another found and this one has verified, or what it has found itself."""
        if self.view.add(find):
            self.follow()
            if self.world.relays and find.miner != self.index:
                self.world.tell(self.index, find)

    def follow(self) -> None:
        """Make the winner of the product's choice the tip."""
        best = self.choice(self.view.tree)
        if best is not self.view.tip:
            undone = self.view.move_to(best)
            if undone:
                self.world.undone.append(Undone(len(undone), sum(one.votes for one in undone)))


class Attacker(Miner):
    """A miner with a policy of its own: it takes for true what it hears."""

    verifies = False


class Links(Protocol):
    """What befalls messages on their way."""

    def arrival(self, sender: int, receiver: int, now: float, delay: float) -> float:
        """Return when a message comes."""


class World:
    """Miners by share of the hash power, a queue of messages, one source of chance."""

    def __init__(self, network: Network, seed: int, shares: Sequence[float], ease: int = 1) -> None:
        """`ease`: how many times target0 the easiest target is that is mined at."""
        self.network = network
        self.genesis: Genesis = genesis_of(network)
        self.rng = Random(seed)
        self.now = 0.0
        """Milliseconds since genesis."""
        self.finds: dict[CoinId, Find] = {}
        self.miners: list[Miner] = []
        self.delays: list[list[float]] = []
        self.undone: list[Undone] = []
        self.links: Links | None = None
        self.relays = False
        """Whether honest nodes pass on what they hear: needed where somebody tells only some."""
        self.verification = 0.0
        """Milliseconds that an honest node takes to verify a coin."""
        self.too_deep = 0
        self.coins = 0
        self._by_height: dict[int, list[CoinId]] = {}
        self._forgotten = 0
        self.happened = 0
        """Deliveries and tries so far."""
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._events = 0
        self.draw = self._draw
        """What says who has tried next; an experiment may load its dice."""
        self._cumulative = list(accumulate(shares))
        """By miner, the power of all up to it."""
        self._most = network.target0 * ease
        self._bits = self._most.bit_length() - 1
        assert self._most == 1 << self._bits, "a draw is so many bits"
        self._tries_per_ms = network.coins_per_epoch * ease / network.epoch_ms

    # Time

    @property
    def now_ms(self) -> int:
        """The time by every node's clock, ms."""
        return self.network.birth_ms + int(self.now)

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something at a time, what was asked for first first."""
        self._events += 1
        heapq.heappush(self._queue, (time, self._events, action, arguments))

    def run(self, going: Callable[[], bool]) -> None:
        """Let miners try and messages come for as long as it is going."""
        rng, queue, miners = self.rng, self._queue, self.miners
        while going():
            # Waiting has no memory: what comes first is settled anew after each find.
            due = self.now + rng.expovariate(self._tries_per_ms)
            while queue and queue[0][0] <= due:
                self.now, _, action, arguments = heapq.heappop(queue)
                self.happened += 1
                action(*arguments)
                if not going():
                    return
            self.now = due
            self.happened += 1
            who, number = self.draw()
            miners[who].found(number)

    def _draw(self) -> tuple[int, int]:
        """Return who has tried next, by power, and the hash."""
        at = bisect(self._cumulative, self.rng.random() * self._cumulative[-1])
        return min(at, len(self.miners) - 1), self.rng.getrandbits(self._bits)

    # Messages

    def tell(self, sender: int, find: Find) -> None:
        """Send to all others that are not infinitely far, each at the delay from the sender."""
        together: dict[float, list[Miner]] = {}
        now, links = self.now, self.links
        for miner, delay in zip(self.miners, self.delays[sender], strict=True):
            if miner.index != sender and delay < inf:
                due = now + delay
                if links is not None:
                    due = links.arrival(sender, miner.index, now, delay)
                together.setdefault(due, []).append(miner)
        for due, receivers in together.items():
            self.send(receivers, find, due - now)

    def send(self, receivers: Sequence[Miner], find: Find, delay: float) -> None:
        """Send to some."""
        if delay <= 0:
            self._deliver(receivers, find)
        else:
            self.at(self.now + delay, self._deliver, receivers, find)

    def tell_half(self, sender: int, find: Find) -> None:
        """Send to every other miner but the sender, for them to pass on."""
        half = [miner for miner in self.miners[::2] if miner.index != sender]
        self.send(half, find, self.delays[sender][0])

    @staticmethod
    def _deliver(receivers: Sequence[Miner], find: Find) -> None:
        for miner in receivers:
            miner.hear(find)

    # Coins

    def mine(self, view: View, miner: Miner, number: int) -> Find | None:
        """Return the coin, if the draw is one, on the view's tip."""
        tip = view.tip
        context = tip.context
        if number > context.child_target:
            return None
        body = None
        if number <= self.network.grade_target(context.child_target):
            template = view.template()
            body = miner.body(template)
            time = max(self.now_ms, template.least_time)
            header = template.header(lock=miner.lock, time=time, nonce=self.coins)
            if body is not template.body:
                header = msgspec.structs.replace(header, body_root=body_root(body))
        else:
            # A body that is never published; nobody can tell which it was.
            header = self._header(context, miner.lock)
        coin = Coin(header, ZERO32, b"", CoinId(number.to_bytes(32, "big")))
        find = Find(coin, miner.index, body)
        self._judge(find, view, tip)
        self.coins += 1
        miner.coins_found += 1
        self.finds[coin.id] = find
        self._by_height.setdefault(coin.height, []).append(coin.id)
        return find

    def _header(self, context: AnchorContext, lock: Lock) -> CoinHeader:
        return CoinHeader(
            self.network.chain_id,
            1,
            context.id,
            context.height + 1,
            max(self.now_ms, context.time + 1),
            context.child_n_total,
            context.child_target,
            lock,
            ZERO32,
            self.coins,
        )

    def _judge(self, find: Find, view: View, parent: AnchorNode) -> None:
        """Have the product check a coin, and the anchor that it is."""
        coin, network = find.coin, self.network
        check_coin_alone(coin, network)
        check_coin_in_context(
            coin, parent.context, network, tip_height=parent.height, now_ms=self.now_ms
        )
        if find.body is not None:
            branch = view.branch_of(parent)
            find.mints = count_anchor(coin, find.body, view, branch, network)
            find.validation = Validation.of_child(coin, find.body, parent.context, network)

    def forget(self) -> None:
        """Let go of coins that no view can ask for any more."""
        lowest = min(miner.view.tree.root.height for miner in self.miners) - FORGOTTEN_BELOW
        while self._forgotten < lowest:
            for coin_id in self._by_height.pop(self._forgotten, ()):
                del self.finds[coin_id]
            self._forgotten += 1
