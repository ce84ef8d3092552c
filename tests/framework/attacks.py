"""What attacks on whole simulated nodes are made of.

A bare peer with coins and bodies of its own, and the few reads and levers that the tests need: they
touch the parts of a node here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio

from tests.framework.forge import Forged
from tests.framework.simulation.memory_network import MemoryTransport
from tests.framework.simulation.simnet import BACKEND, SimNet, SimNode, SimPayout, solve
from unchained.miner.jobs import Job, Solution
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.template import Template
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import EXPIRY_MS
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import NONCE_OFFSET, Coin, CoinHeader
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.types import CoinId, Lock, Wid
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.node.transport.contract import PeerId, ServeLimits, TopicLimits, Verdict
from unchained.node.wire import limits
from unchained.node.wire import messages as wire
from unchained.node.wire.limits import name_of
from unchained.storage import schema

LOCK = Lock(b"attacker".ljust(32, b"."))

NOT_YET = {"UNKNOWN_PARENT", "BODY_MISSING"}
"""Rules that say: later."""


class Attacker:
    """A bare transport that serves the coins and bodies that it holds, and gossips what it likes.

    `claim` has it name a tip of its own in `status`, and serve that chain's headers.
    """

    def __init__(self, net: SimNet, ip: str = "66.6.0.6", name: str = "attacker") -> None:
        self.net = net
        self.genesis = genesis_of(net.params).id
        self.transport: MemoryTransport = net.transport(name, ip)
        self.coins: dict[bytes, Coin] = {}
        self.bodies: dict[bytes, Body] = {}
        self.transfers: dict[bytes, bytes] = {}
        self.asked: list[str] = []
        self._chain: list[tuple[Coin, Body]] = []
        for topic in limits.TOPICS:
            self.transport.subscribe(
                self._name(topic.name), self._validate, TopicLimits(max_size=1 << 20)
            )
        for exchange in limits.EXCHANGES:
            self.transport.serve(
                self._name(exchange.name),
                self._answerer(exchange.name),
                ServeLimits(1 << 20, 64, 64),
            )

    def _name(self, kind: str) -> str:
        return name_of(self.genesis, kind)

    async def _validate(self, _peer: PeerId, _data: bytes) -> Verdict:
        return Verdict.IGNORE

    def _answerer(self, name: str) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        answer = getattr(self, f"_{name}", None)

        async def serve(_peer: PeerId, payload: bytes) -> bytes:
            self.asked.append(name)
            if answer is None:
                return wire.refusal(wire.Code.NOT_FOUND)
            return bytes(answer(payload))

        return serve

    def _status(self, _payload: bytes) -> bytes:
        tip, height, work = self.genesis, 0, bytes(32)
        if self._chain:
            tip, height, work = self._chain[-1][0].id, self._chain[-1][0].height, b"\xff" * 32
        status = wire.Status(self.genesis, tip, height, work, 1, now_ms(self.net))
        return wire.STATUS_EXCHANGE.answer(status)

    def _headers(self, payload: bytes) -> bytes:
        request = wire.HEADERS_EXCHANGE.decode_request(payload)
        assert isinstance(request, wire.HeadersRequest)
        places = {coin.id: at + 1 for at, (coin, _) in enumerate(self._chain)}
        start = next((places[CoinId(i)] for i in request.locator if i in places), 0)
        found = (AnchorHeader.of(coin, body) for coin, body in self._chain[start:])
        return wire.HEADERS_EXCHANGE.answer(tuple(found))

    def _bodies(self, payload: bytes) -> bytes:
        ids: Any = wire.BODIES_EXCHANGE.decode_request(payload)
        found = ((self.bodies[i],) if i in self.bodies else () for i in ids)
        return wire.BODIES_EXCHANGE.answer(tuple(found))

    def _coins(self, payload: bytes) -> bytes:
        ids: Any = wire.COINS_EXCHANGE.decode_request(payload)
        return wire.COINS_EXCHANGE.answer(
            tuple(self.coins[i].raw if i in self.coins else b"" for i in ids)
        )

    def _transfers(self, payload: bytes) -> bytes:
        ids: Any = wire.TRANSFERS_EXCHANGE.decode_request(payload)
        return wire.TRANSFERS_EXCHANGE.answer(tuple(self.transfers.get(i, b"") for i in ids))

    async def join(self, nodes: Sequence[SimNode]) -> None:
        """Run, and become a peer of nodes."""
        await self.net.run_transport(self.transport)
        for node in nodes:
            await self.transport.connect(node.transport.address)
        await trio.sleep(2)

    def hold(self, *coins: Coin, body: Body | None = None) -> None:
        """Serve coins, and the body of the last."""
        self.coins.update((coin.id, coin) for coin in coins)
        if body is not None:
            self.bodies[coins[-1].id] = body

    async def gossip_coins(self, *coins: Coin) -> None:
        """Gossip coins, one after the other."""
        for coin in coins:
            await self.transport.publish(self._name("coin"), coin.raw)

    async def announce_anchor(self, coin: Coin, body: Body) -> None:
        """Announce an anchor, and serve its body."""
        self.hold(coin, body=body)
        announcement = AnchorHeader.of(coin, body).to_bytes()
        await self.transport.publish(self._name("anchor"), announcement)

    def claim(self, chain: Sequence[tuple[Coin, Body]]) -> None:
        """Say that a chain, from height 1 on, is the heaviest of all."""
        for coin, body in chain:
            self.hold(coin, body=body)
        self._chain = list(chain)

    def is_banned_by(self, node: SimNode) -> bool:
        """Return whether a node has banned it."""
        bans = node.network.peers.reputation.active_bans()
        return any(ban.group == self.transport.ip for ban in bans)


def assert_nobody_honest_was_banned(net: SimNet) -> None:
    """Check that no node has banned another."""
    honest = {node.ip for node in net.nodes}
    for node in net.nodes:
        assert not honest & {ban.group for ban in node.network.peers.reputation.active_bans()}


# Clocks


def now_ms(net: SimNet) -> int:
    """Return what right clocks show, in ms."""
    return net.start_ms + int(trio.current_time() * 1000)


def step_clock(node: SimNode, by_ms: int) -> None:
    """Set the clock of a running node forward, or back."""
    clock: Any = node.epochs._clock
    clock._origin_ms += by_ms


def clock_ms(node: SimNode) -> int:
    """Return what a running node's clock shows, in ms."""
    return node.epochs._clock.now_ms()


# What a node knows


async def template_of(node: SimNode) -> Template:
    """Return what a node would mine on."""
    return await node.chain.template()


async def knows(node: SimNode, coin_id: CoinId) -> bool:
    """Return whether a node knows a coin."""
    found: bool = await node.core(lambda core: core.knows_coin(coin_id))
    return found


async def counts(node: SimNode, anchor_id: CoinId) -> bool:
    """Return whether an anchor above the tree's root counts (Protocol §6), dead or not."""
    found: bool = await node.core(lambda core: anchor_id in core.tree.scores())
    return found


async def votes_for(node: SimNode, anchor_id: CoinId) -> set[CoinId]:
    """Return the coins that a node counts as votes for an anchor."""

    def bound(core: ChainCore) -> set[CoinId]:
        found = core.tree.get(anchor_id)
        return set() if found is None else set(found.bound)

    votes: set[CoinId] = await node.core(bound)
    return votes


async def scores_of(node: SimNode) -> dict[CoinId, int]:
    """Return score(X) of every anchor that counts (Protocol §6)."""
    scores: dict[CoinId, int] = await node.core(lambda core: core.tree.scores())
    return scores


async def main_chain(node: SimNode) -> list[tuple[Coin, Body]]:
    """Return a node's main chain from height 1 on."""

    def steps(core: ChainCore) -> list[tuple[Coin, Body]]:
        found = [core.tree.main_at(height) for height in range(1, core.tip.height + 1)]
        return [(step.coin, step.validated.body) for step in found if step is not None]

    chain: list[tuple[Coin, Body]] = await node.core(steps)
    return chain


async def has_transfer(node: SimNode, wid: Wid) -> bool:
    """Return whether a node has the bytes of a transfer."""
    found: bool = await node.core(lambda core: core.transfer_bytes(wid) is not None)
    return found


async def unspent_of(node: SimNode, lock: bytes) -> list[tuple[CoinId, int]]:
    """Return id and value of the unspent coins under a lock."""

    def scan(core: ChainCore) -> list[tuple[CoinId, int]]:
        return [
            (CoinId(coin_id), coin.value)
            for coin_id, coin in schema.UNSPENT.scan(core.store)
            if coin.lock == lock
        ]

    found: list[tuple[CoinId, int]] = await node.core(scan)
    return found


async def take_in(
    node: SimNode, items: Sequence[Coin | Forged], *, tries: int = 8
) -> dict[CoinId, str]:
    """Submit coins, and the bodies of anchors, as if they came from nowhere.

    What has to wait is submitted again. Returns the rules that the others break, by id.
    """
    broken: dict[CoinId, str] = {}
    waiting = list(items)
    for _ in range(tries):
        left: list[Coin | Forged] = []
        for item in waiting:
            try:
                if isinstance(item, Coin):
                    await node.chain.submit_coin(item)
                else:
                    await node.chain.submit_package(item.package())
            except ProtocolError as error:
                if error.name in NOT_YET:
                    left.append(item)
                else:
                    broken[item.id] = error.name
        # Those that were held are validated meanwhile.
        await trio.sleep(0.1)
        waiting = left
        if not waiting:
            break
    assert not waiting, f"never validated: {[item.id.hex() for item in waiting]}"
    return broken


# Mining by hand


def job_of(node: SimNode) -> Job | None:
    """Return what a node's miner is at work on."""
    return node.miner._job


def header_of(job: Job) -> CoinHeader:
    """Return the header that a job searches nonces for."""
    return CoinHeader.from_bytes(job.header_prefix + bytes(8))


async def hand_in(node: SimNode, job: Job, network: Network, *, anchor: bool) -> Coin:
    """Solve a job, to a coin of anchor grade or not, and give that to the node; return it."""
    coin = solve(header_of(job), network, anchor)
    header = coin.raw[: NONCE_OFFSET + 8]
    await node.miner._send.send(Solution(job.number, header, coin.mix, coin.id, 0))
    return coin


def mining_room(node: SimNode) -> MiningRoom:
    """Return the RPC methods by which miners elsewhere get work from a node, and hand it in."""
    return MiningRoom(
        node.chain,
        pool=None,
        payout=SimPayout("miner elsewhere"),
        synced=Watch(True),
        backend=BACKEND,
        runner=InlineRunner(),
        clock=node.epochs._clock,
    )


# Transfers that leave the mempool


async def limit_mempool(node: SimNode, most_bytes: int) -> None:
    """Let a node's mempool hold no more than so many bytes."""

    def limit(core: ChainCore) -> None:
        core.mempool._capacity = most_bytes

    await node.core(limit)


async def expire_transfers(node: SimNode) -> None:
    """Let a node drop its transfers as if they had waited for 72 hours."""
    late_ms = clock_ms(node) + EXPIRY_MS + 1
    await node.core(lambda core: core.expire_transfers(late_ms))


# Reorganisations


def fail_where_refused(core: ChainCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a reorganisation that is left to the operator fail the test, there and then: the choice
    would be made again and again if what was refused is still to be chosen."""

    def refuse(*_args: object) -> None:
        raise AssertionError("a reorganisation was left to the operator")

    monkeypatch.setattr(core._main, "refuse", refuse)
