"""Whole nodes by the dozen in one process, in virtual time: chain, relay, sync, peers, miner.

Mining is a Poisson process whose events really solve the tiny proofs of a network made for it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import structlog
import trio

from tests.framework.async_tests import reseed_scheduler
from tests.framework.chains import in_writer
from tests.framework.simulation.link_model import LinkModel
from tests.framework.simulation.memory_network import MemoryNetwork, MemoryTransport
from unchained.miner.jobs import Job, Solution
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.chain.template import build_template
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.consensus.params import REG, Network
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.mining.epoch_manager import EpochManager, Payout
from unchained.node.mining.mined_coins import MinedCoins
from unchained.node.peers.dialler import PeerSettings
from unchained.node.peers.reputation import PeerLimits
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.sync.node_network import NodeNetwork
from unchained.node.sync.service import SyncSettings
from unchained.node.transport.contract import Transport
from unchained.storage.memory import MemoryDisk, MemoryStore

SIM: Network = msgspec.structs.replace(REG, epoch_ms=8_000, future_limit_ms=8_000)
"""REG with epochs of eight seconds: 4 coins each, proofs of 8 KiB, one hash in four is a coin."""

BACKEND = default_backend()
EPOCH_S = SIM.epoch_ms / 1000
COINS_PER_S = SIM.coins_per_epoch / EPOCH_S


def solve(header: CoinHeader, network: Network, grade: bool | None = None) -> Coin:
    """Return a coin with this header and the first nonce that makes one, from the header's on.

    `grade` asks for one of anchor grade, or for one that is not.
    """
    nonce = header.nonce
    while True:
        header = msgspec.structs.replace(header, nonce=nonce)
        coin = Coin.assemble(header, compute_mix(BACKEND, header.to_bytes(), network.mem_kib))
        fits = int.from_bytes(coin.id, "big") <= header.target
        if fits and grade in (None, is_anchor_grade(coin, network)):
            return coin
        nonce += 1


def lengthen(
    core: ChainCore, count: int, *, plain: int = 1, step_ms: int = 500, lock: bytes = b"long"
) -> list[Coin]:
    """Mine anchors on the tip at once, each after `plain` other coins; return them."""
    anchors = []
    now_ms = 2**62
    fixed = Lock(lock.ljust(32, b".")[:32])
    for _ in range(count):
        for at in range(plain):
            template = build_template(core, core.tip.context.time)
            time_ms = template.parent_time + 1 + at
            coin = solve(template.header(lock=fixed, time=time_ms), core.network, False)
            core.submit_proven_coin(ProvenCoin(coin), now_ms)
        template = build_template(core, core.tip.context.time)
        header = template.header(lock=fixed, time=template.parent_time + step_ms)
        anchor = solve(header, core.network, True)
        core.submit_proven_coin(ProvenCoin(anchor), now_ms)
        core.submit_proven_anchor(ProvenAnchor(Package(anchor, template.body, {}, {})))
        anchors.append(anchor)
    return anchors


class SimMiner:
    """A miner that finds coins at random times; it keeps to the job of the moment."""

    def __init__(self, rng: random.Random, coins_per_s: float) -> None:
        self._rng = rng
        self.coins_per_s = coins_per_s
        self._job: Job | None = None
        self._send, self.solutions = trio.open_memory_channel[Solution](64)
        self.paused = False
        self._nonce = 0

    def set_job(self, job: Job | None) -> None:
        self._job = job

    async def run(self) -> None:
        while True:
            await trio.sleep(self._rng.expovariate(self.coins_per_s))
            job = self._job
            if job is None or self.paused:
                continue
            self._find(job, None)

    def find(self, *, grade: bool) -> None:
        """Find a coin on the job of the moment at once; it is of anchor grade, or it is not."""
        assert self._job is not None
        self._find(self._job, grade)

    def _find(self, job: Job, grade: bool | None) -> None:
        header = CoinHeader.from_bytes(job.header_prefix + self._nonce.to_bytes(8, "big"))
        coin = solve(header, msgspec.structs.replace(SIM, mem_kib=job.mem_kib), grade)
        self._nonce = coin.header.nonce + 1
        with suppress(trio.WouldBlock):
            self._send.send_nowait(Solution(job.number, coin.raw[:166], coin.mix, coin.id, 0))


class SimPayout:
    def __init__(self, name: str) -> None:
        self._lock = Lock(name.encode().ljust(32, b".")[:32])

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        return self._lock


class SimNode:
    """One whole node. `disk` outlives a restart."""

    chain: ChainService
    transport: MemoryTransport
    network: NodeNetwork
    store: MemoryStore
    epochs: EpochManager
    miner: SimMiner

    def __init__(self, net: SimNet, number: int, name: str, ip: str, coins_per_s: float) -> None:
        self.net = net
        self.number = number
        self.name = name
        self.ip = ip
        self.coins_per_s = coins_per_s
        self.disk = MemoryDisk()
        self.payout: Payout = SimPayout(name)
        self.bootstrap: tuple[str, ...] = ()
        self.limits = PeerLimits(outbound=4, inbound=32)
        self.sync_settings = SyncSettings()
        self.clock_offset_ms = 0
        self.starts = 0
        self._scope: trio.CancelScope | None = None
        self._stopped = trio.Event()

    @property
    def id(self) -> Any:
        return self.transport.id

    @property
    def tip(self) -> CoinId:
        return self.chain.status.value.tip

    @property
    def height(self) -> int:
        return self.chain.status.value.height

    async def core(self, work: Callable[[ChainCore], Any]) -> Any:
        return await in_writer(self.chain, work)

    async def start(self) -> None:
        assert self.net.nursery is not None
        self._stopped = trio.Event()
        await self.net.nursery.start(self._run)

    async def stop(self) -> None:
        assert self._scope is not None
        self._scope.cancel()
        await self._stopped.wait()

    async def _run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self.starts += 1
        log = structlog.get_logger().bind(node=self.name)
        rng = random.Random(f"{self.net.seed} {self.name} {self.starts}")
        clock = TrioClock(self.net.start_ms + self.clock_offset_ms + int(trio.current_time() * 1e3))
        store = self.store = MemoryStore(self.disk)
        inline = InlineRunner()
        try:
            self.chain = await ChainService.open(
                store,
                self.net.params,
                clock=clock,
                writer=inline,
                verifier=inline,
                verifiers=1,
                backend=BACKEND,
                log=log,
            )
            self.transport = MemoryTransport(self.net.weather, self.name, self.ip, log)
            self.network = NodeNetwork(
                self.chain,
                self.transport,
                store,
                peer_settings=PeerSettings(
                    bootstrap=self.bootstrap,
                    limits=self.limits,
                    status_s=EPOCH_S / 2,
                    clock_bound_ms=self.net.params.future_limit_ms // 2,
                ),
                sync_settings=self.sync_settings,
                clock=clock,
                rng=rng,
                writer=inline,
                log=log,
            )
            self.miner = SimMiner(rng, self.coins_per_s or 1.0)
            self.epochs = EpochManager(
                self.chain,
                self.miner,
                self.payout,
                clock=clock,
                may_mine=self.network.synced,
                mined=MinedCoins(self.chain),
                log=log,
            )
            # As services stop: what uses the chain is gone before the chain is.
            async with trio.open_nursery() as below:
                await below.start(self._run_chain)
                with trio.CancelScope() as self._scope:
                    async with trio.open_nursery() as nursery:
                        await nursery.start(self._run_network)
                        if self.coins_per_s:
                            nursery.start_soon(self.epochs.run)
                            nursery.start_soon(self.miner.run)
                        task_status.started()
                below.cancel_scope.cancel()
        finally:
            store.close()
            self._stopped.set()

    async def _run_chain(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await self.chain.run(task_status=task_status)

    async def _run_network(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await self.network.run(task_status=task_status)


class SimNet:
    """Nodes in one weather."""

    def __init__(self, seed: int, *, model: LinkModel | None = None, params: Network = SIM) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.params = params
        self.weather = MemoryNetwork(seed, model)
        self.start_ms = params.birth_ms + 1_000_000
        self.nodes: list[SimNode] = []
        self.nursery: trio.Nursery | None = None

    def node(
        self, *, share: float = 0.0, name: str | None = None, ip: str | None = None
    ) -> SimNode:
        """Return a node that mines a share of the network's coins, not started yet."""
        number = len(self.nodes)
        # One public /16 for each, as in the wild.
        ip = ip or f"{20 + number // 200}.{1 + number % 200}.0.1"
        node = SimNode(self, number, name or f"node {number}", ip, share * COINS_PER_S)
        self.nodes.append(node)
        return node

    def transport(self, name: str, ip: str) -> MemoryTransport:
        """Return a bare transport in the same weather: for hostile peers."""
        return MemoryTransport(self.weather, name, ip, structlog.get_logger().bind(node=name))

    async def grow(self, count: int, *, miners: int | None = None) -> list[SimNode]:
        """Start nodes that find each other through the first ones."""
        miners = count if miners is None else miners
        new = [self.node(share=1 / miners if n < miners else 0.0) for n in range(count)]
        for node in new:
            known = [other for other in self.nodes[:3] if other is not node and other.starts]
            node.bootstrap = tuple(other.transport.address for other in known)
            await node.start()
        return new

    async def run_transport(self, transport: Transport) -> None:
        """Run a bare transport until the end."""
        assert self.nursery is not None
        await self.nursery.start(transport.run)

    def tips(self, nodes: Sequence[SimNode] | None = None) -> set[CoinId]:
        """Return the different tips."""
        return {node.tip for node in nodes or self.nodes}

    async def until(
        self, wanted: Callable[[], bool], what: str, within_s: float, step_s: float = 0.5
    ) -> float:
        """Wait for a condition in virtual time; return how long it took. Fails by name."""
        began = trio.current_time()
        while not wanted():
            if trio.current_time() - began > within_s:
                raise AssertionError(
                    f"seed {self.seed}: not {what} within {within_s} s: {self.show()}"
                )
            await trio.sleep(step_s)
        return trio.current_time() - began

    async def mingle(self, nodes: Sequence[SimNode], peers: int = 4) -> None:
        """Wait until every node has so many peers."""
        least = min(peers, len(nodes) - 1)
        await self.until(
            lambda: min(len(node.transport.peers()) for node in nodes) >= least, "mingled", 300
        )

    async def agree(self, nodes: Sequence[SimNode] | None = None, within_s: float = 60.0) -> float:
        """Wait until all nodes have one tip."""
        return await self.until(lambda: len(self.tips(nodes)) == 1, "of one mind", within_s)

    def show(self) -> str:
        return "; ".join(
            f"{node.name}: {node.height} {node.tip.hex()[:6]} {len(node.transport.peers())} peers"
            f"{'' if node.network.synced.value else ' behind'}"
            for node in self.nodes
            if node.starts
        )

    def pause_mining(self) -> None:
        for node in self.nodes:
            node.miner.paused = True

    def resume_mining(self) -> None:
        for node in self.nodes:
            node.miner.paused = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SimNet]:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            await nursery.start(self.weather.run)
            yield self
            nursery.cancel_scope.cancel()

    def part(self, *groups: Iterable[SimNode]) -> None:
        """Let nothing pass between groups of nodes."""
        self.weather.partition([[node.id for node in group] for group in groups])


@asynccontextmanager
async def simulate(
    seed: int, *, expected: Collection[str] = (), **options: Any
) -> AsyncIterator[SimNet]:
    """Give a test a network in virtual time; the seed is printed, errors in the log fail, but for
    the `expected` events."""
    errors: list[Any] = []

    def note(_logger: Any, _name: str, event: Any) -> Any:
        if event["event"] not in expected:
            errors.append(structlog.processors.format_exc_info(_logger, _name, event))
        raise structlog.DropEvent

    reseed_scheduler(seed)
    structlog.configure(processors=[note], wrapper_class=structlog.make_filtering_bound_logger(40))
    try:
        async with SimNet(seed, **options).running() as net:
            yield net
    finally:
        structlog.reset_defaults()
    for event in errors:
        trace = event.pop("exception", "")
        print(event, trace, sep="\n")
    assert not errors
