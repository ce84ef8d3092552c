"""What hostile nodes have in common: a peer's place in the network, and a chain of their own.

A policy sees at once whatever any honest node has accepted, finds coins at a rate of its own, and
says what it likes. Each kind of policy is a class with one method, `act`, called at each find.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from tests.framework.attacks import Attacker
from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.simulation.simnet import solve
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.template import Template, build_template
from unchained.node.chain.tree import AnchorMark, AnchorNode
from unchained.node.consensus.coins import COIN_VERSION, is_anchor_grade
from unchained.node.consensus.transition import body_root
from unchained.node.crypto.keys import SpendKey
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.conditions import KeyCondition, lock_of
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import ZERO32, CoinId, Lock
from unchained.node.transport.contract import TransportError
from unchained.storage.memory import MemoryStore

if TYPE_CHECKING:
    from tests.framework.simulation.simulation import Simulation

LATE_MS: Final = 2**62
"""A clock under which nothing is too new: a policy trusts its own."""
ENTRANCES: Final = 3
"""Honest nodes that a hostile one connects to."""


class Policy:
    """One hostile node, or the many names under which it comes back when it is banned."""

    def __init__(self, simulation: Simulation, name: str, ip: str, share: float) -> None:
        """`share` of the coins that the others find together."""
        self.note: Callable[[], None] = lambda: None
        self.simulation = simulation
        self.name = name
        self.ip = ip
        self.share = share
        self.rng = random.Random(f"{simulation.seed} {name}")
        self.randomness = SeededRandomness(f"{simulation.seed} {name}")
        self.keys = [SpendKey.from_seed(self.rng.randbytes(32)) for _ in range(2)]
        self.conditions = [KeyCondition(key.key_hash).to_bytes() for key in self.keys]
        self.locks: list[Lock] = [lock_of(condition, ZERO32) for condition in self.conditions]
        """What it mines to, in turn by chance."""
        self.core = ChainCore(MemoryStore(), simulation.scenario.network, lambda: 0, LATE_MS)
        """The chain as the policy sees it, with what it keeps to itself."""
        self.peer: Attacker
        self._names = 0
        self._learnt = 0
        self._waiting: list[CoinId] = []

    def new_peer(self) -> Attacker:
        """Return a peer with a new name and address."""
        self._names += 1
        return Attacker(self.simulation.net, self._next_ip(), f"{self.name} as {self._names}")

    def _next_ip(self) -> str:
        """Return an address of the policy's network that none of its names has had."""
        network, host = self.ip.rsplit(".", 2)[0], int(self.ip.rsplit(".", 1)[1])
        turn, place = divmod(self._names, 250)
        return f"{network}.{place}.{host + turn}"

    async def run(self, note: Callable[[], None]) -> None:
        """Act until cancelled; `note` is called for each deed, if somebody hears of it."""
        self.note = note
        await self._enter()
        rate = self.share * self.simulation.scenario.coins_per_s
        while True:
            await trio.sleep(self.rng.expovariate(rate))
            if not self.peer.transport.peers():
                await self._enter()
            self.learn()
            await self.act()

    async def act(self) -> None:
        """Do what the policy does when it may find a coin; say `did_it` where it is hostile."""
        raise NotImplementedError

    def did_it(self) -> None:
        """Note that it has done what it is there for, if anybody was there to hear of it."""
        if self.peer.transport.peers():
            self.note()

    async def _enter(self) -> None:
        self.peer = self.new_peer()
        await self.simulation.net.run_transport(self.peer.transport)
        up = [node for node in self.simulation.nodes if node.is_up]
        for node in self.rng.sample(up, min(ENTRANCES, len(up))):
            with suppress(TransportError):
                await self.peer.transport.connect(node.transport.address)

    # Its chain

    def now_ms(self) -> int:
        """Return what right clocks show."""
        return self.simulation.net.start_ms + int(trio.current_time() * 1000)

    def learn(self) -> None:
        """Take in what honest nodes have accepted since the last time."""
        news = list(self.simulation.coins)[self._learnt :]
        self._learnt += len(news)
        waiting, self._waiting = [*self._waiting, *news], []
        for coin_id in waiting:
            coin, body = self.simulation.coins[coin_id], self.simulation.bodies.get(coin_id)
            grade = is_anchor_grade(coin, self.core.network)
            if (grade and body is None) or not self.take(coin, body):
                self._waiting.append(coin_id)

    def take(self, coin: Coin, body: Body | None = None) -> bool:
        """Take in a coin, and the body if it is an anchor; tell whether that could be done."""
        known = self.simulation.coins
        try:
            self.core.submit_proven_coin(ProvenCoin(coin), LATE_MS)
            if body is not None and is_anchor_grade(coin, self.core.network):
                ids = map(CoinId, (*body.fresh, *body.uncles))
                listed = {coin_id: known[coin_id] for coin_id in ids if coin_id in known}
                package = Package(coin, body, listed, self.simulation.transfers_of(body))
                self.core.submit_proven_anchor(ProvenAnchor(package))
        except ProtocolError:
            return False
        return True

    def template(self) -> Template:
        """Return what would be mined on the policy's tip."""
        return build_template(self.core, self.now_ms())

    def mine(
        self,
        template: Template | None = None,
        *,
        time_ms: int | None = None,
        grade: bool | None = None,
    ) -> tuple[Coin, Body]:
        """Find a coin on a template, the present one unless given."""
        found = template or self.template()
        at = max(self.now_ms(), found.least_time) if time_ms is None else time_ms
        header = found.header(
            lock=self.rng.choice(self.locks), time=at, nonce=self.rng.getrandbits(60)
        )
        return solve(header, self.core.network, grade), found.body

    def vote(self, anchor: AnchorNode, **fields: Any) -> Coin:
        """Find a coin that is bound to an anchor, and no anchor itself."""
        context, network = anchor.context, self.core.network
        header = CoinHeader(
            network.chain_id,
            COIN_VERSION,
            anchor.id,
            anchor.height + 1,
            fields.get("time", max(self.now_ms(), context.time + 1)),
            context.child_n_total,
            context.child_target,
            self.locks[0],
            ZERO32,
            self.rng.getrandbits(60),
        )
        return solve(header, network, False)

    def solved(self, header: CoinHeader) -> Coin:
        """Find a coin with any header, but for its nonce."""
        return solve(header, self.core.network)

    @staticmethod
    def root_of(body: Body) -> bytes:
        """Return what a header commits to."""
        return body_root(body)

    async def tell_body(self, body: Body) -> None:
        """Find an anchor on the policy's tip with any body, and announce it; vote for it where it
        turns out to be dead: it goes on counting."""
        template = msgspec.structs.replace(self.template(), body=body, body_root=body_root(body))
        coin, _ = self.mine(template, grade=True)
        await self.tell(coin, body)
        self.take(coin, body)
        node = self.core.tree.get(coin.id)
        if node is not None and AnchorMark.DEAD in node.marks:
            await self.tell(self.vote(node))

    async def tell(self, coin: Coin, body: Body | None = None) -> None:
        """Gossip a coin, or announce an anchor and serve its body."""
        with suppress(TransportError):
            if body is not None and is_anchor_grade(coin, self.core.network):
                await self.peer.gossip_coins(coin)
                await self.peer.announce_anchor(coin, body)
            else:
                self.peer.hold(coin)
                await self.peer.gossip_coins(coin)

    async def say(self, topic: str, data: bytes) -> None:
        """Gossip any bytes."""
        with suppress(TransportError):
            await self.peer.transport.publish(self.peer._name(topic), data)
