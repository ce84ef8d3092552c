"""A chain manager and the wallets on it, without peers and miner, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio
import trio.testing

from tests.framework.forge import BACKEND
from tests.framework.wallets import CHEAP
from unchained.node.base.clock import Clock, TrioClock
from unchained.node.base.runner import InlineRunner, Runner
from unchained.node.chain.results import Package, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import REG, Network
from unchained.node.crypto.pow import compute_mix
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.wallet.manager import WalletManager
from unchained.storage.kv import KeyValueStore
from unchained.storage.memory import MemoryStore

_first_nonces = itertools.count(step=1 << 32)


class CapturedLog:
    """Keeps everything that is logged, rendered, in `lines`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def logger(self) -> structlog.typing.FilteringBoundLogger:
        """Return a logger that keeps what it is given, at every level."""
        bound: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            self,
            processors=[structlog.processors.KeyValueRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger("debug"),
        )
        return bound

    def __getattr__(self, name: str) -> Callable[[str], None]:
        return self.lines.append


class WalletNode:
    """A node that has nothing but a chain and wallets."""

    def __init__(
        self,
        network: Network,
        directory: Path,
        store: KeyValueStore,
        runner: Runner | None = None,
    ) -> None:
        self.network = network
        self.directory = directory
        self.store = store
        self.captured = CapturedLog()
        self._runner = runner or InlineRunner()
        self.clock: Clock
        self.chain: ChainService
        self.wallets: WalletManager
        # Nonces of its own, or two nodes that grow one chain would find the same anchor.
        self._nonce = next(_first_nonces)
        self.started_at_ms = network.birth_ms + 1_000_000
        """What the clock says when it is started."""
        self.mined: list[Package] = []
        """What `mine` has made, to be handed to other nodes."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WalletNode]:
        """Run the chain and the wallets inside the block; both are opened anew each time."""
        inline = InlineRunner()
        self.clock = TrioClock(self.started_at_ms)
        self.chain = await ChainService.open(
            self.store,
            self.network,
            clock=self.clock,
            writer=inline,
            verifier=inline,
            verifiers=1,
            backend=BACKEND,
            log=self.captured.logger(),
        )
        self.wallets = WalletManager(
            self.directory,
            WalletLink(self.chain, self.store, self.chain, clock=self.clock, runner=self._runner),
            clock=self.clock,
            runner=self._runner,
            log=self.captured.logger(),
            cost=CHEAP,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self.chain.run)
            await nursery.start(self.wallets.run)
            yield self
            nursery.cancel_scope.cancel()

    async def settle(self) -> None:
        """Wait until nothing goes on."""
        await trio.testing.wait_all_tasks_blocked()

    async def caught_up(self) -> None:
        """Wait until every open wallet has read the whole chain, in real time."""
        with trio.fail_after(60):
            while True:
                height = self.chain.status.value.height
                found = await self.wallets.wallets()
                if all(one.info is None or one.info.height == height for one in found):
                    return
                await trio.sleep(0.005)

    async def mine(self, count: int = 1, wallet: str | None = None) -> None:
        """Grow the chain by anchors that pay a wallet, or nobody."""
        payout = _nobody if wallet is None else self.wallets.wallet(wallet).payout().lock_for
        for _ in range(count):
            template = await self.chain.template()
            time_ms = max(self.clock.now_ms(), template.parent_time + 1)
            anchor = self._anchor(template, payout(template.parent, time_ms), time_ms)
            self.mined.append(Package(anchor, template.body, {}, {}))
            await self.take(self.mined[-1])
        await self.settle()

    async def hear(self, packages: list[Package]) -> None:
        """Take in anchors that another node has mined."""
        for package in packages:
            await self.take(package)
        await self.settle()

    async def take(self, package: Package) -> None:
        """Take in one anchor, and wait for nothing else."""
        await self.chain.submit_coin(ProvenCoin(package.anchor))
        await self.chain.submit_package(package)

    def _anchor(self, template: Any, lock: Lock, time_ms: int) -> Coin:
        while True:
            self._nonce += 1
            header = template.header(lock=lock, time=time_ms, nonce=self._nonce)
            mix = compute_mix(BACKEND, header.to_bytes(), self.network.mem_kib)
            coin = Coin.assemble(header, mix)
            if int.from_bytes(coin.id, "big") <= self.network.grade_target(template.target):
                return coin


def _nobody(parent: CoinId, time_ms: int) -> Lock:
    return Lock(bytes(32))


def wallet_node(directory: Path, network: Network = REG) -> WalletNode:
    """Return a node, not yet running, whose chain outlives its runs."""
    return WalletNode(network, directory, MemoryStore())
