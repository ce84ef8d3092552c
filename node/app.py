"""The composition root: the only place that knows all parts of a node and joins them.

Stages start in ascending order and stop in descending order, so that mining ends before the
chain does, and the chain before the store under it is closed.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import psutil
import trio
from structlog.typing import FilteringBoundLogger

from unchained.miner.errors import WorkerFailure
from unchained.miner.jobs import PoolStatistics
from unchained.miner.machine import auto_workers
from unchained.miner.pool import MiningPool
from unchained.node.base.config import MiningConfig, NetworkConfig, RpcConfig, Settings
from unchained.node.base.fanout import Watch
from unchained.node.base.runtime import Clock, ThreadRunner
from unchained.node.base.services import Service
from unchained.node.chain.service import ChainService
from unchained.node.chain.status import ChainStatus, ManagerStatistics
from unchained.node.consensus.params import NETWORKS, REG, Network
from unchained.node.crypto.pow import default_backend
from unchained.node.mining.control import ControlStatistics, MiningControl
from unchained.node.mining.epoch_manager import EpochManager, EpochStatistics, Payout
from unchained.node.mining.mined_coins import MinedCoins, MinedCoinsStatistics
from unchained.node.mining.payout import (
    MINING_WALLET,
    AccountPayout,
    FixedPayout,
    new_mining_wallet,
    payout_to,
    wallet_payout,
)
from unchained.node.rpc.http.gatekeeper import PasswordHash
from unchained.node.rpc.http.server import RpcSettings, Server
from unchained.node.rpc.methods.net import NetRoom
from unchained.node.rpc.methods.node import Control
from unchained.node.rpc.node_server import Parts, node_server
from unchained.node.wallet.keystore import DEFAULT_WALLET, WALLETS_NAME
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet_link import ManagerLink
from unchained.storage.kv import KeyValueStore
from unchained.storage.leveldb import LevelOptions
from unchained.storage.open import open_store

if TYPE_CHECKING:
    from unchained.node.sync.node_network import NetworkStatistics, NodeNetwork

PEER_KEY_NAME: Final = "peer-key"
"""File of the data directory with the key that peers know the node by."""

STAGE_STORE: Final = 0
STAGE_CHAIN: Final = 1
STAGE_NETWORK: Final = 2
STAGE_RPC: Final = 3
STAGE_MINING: Final = 4

REPORT_S: Final = 60.0
"""Seconds between summaries in the log."""

WALLET_THREADS: Final = 2
"""Wallets that are worked on at a time."""

RPC_THREADS: Final = 4
"""Reads, exports and the like that the RPC server has under way at a time."""


class NodeStatistics(msgspec.Struct, frozen=True):
    """A snapshot of every part; None where the node does not have it."""

    chain: ManagerStatistics
    status: ChainStatus
    epochs: EpochStatistics | None
    miner: PoolStatistics | None
    control: ControlStatistics | None
    harvest: MinedCoinsStatistics | None
    network: NetworkStatistics | None


class Node:
    """The parts of one node, joined. Made by `open_node`; `services` are what runs."""

    def __init__(
        self,
        *,
        network: Network,
        store: KeyValueStore,
        chain: ChainService,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.network = network
        self.store = store
        self.chain = chain
        self.may_mine: Watch[bool] = Watch(True)
        self.pool: MiningPool | None = None
        self.epochs: EpochManager | None = None
        self.control: MiningControl | None = None
        self.harvest: MinedCoins | None = None
        self.payout: Payout | None = None
        self.peers: NodeNetwork | None = None
        self.wallets: WalletManager | None = None
        self.rpc: Server | None = None
        self._clock = clock
        self._log = log

    def add_network(self, config: NetworkConfig, data_dir: Path) -> None:
        """Let the node join others. To be added before mining, which it tells when to wait.

        Raises `BadIdentity`, `CannotListen` or `BadAddress`.
        """
        # Only here: libp2p takes as much memory as all the rest, and a node may be alone.
        from unchained.node.peers.dialler import PeerSettings
        from unchained.node.peers.reputation import VISITORS_MAX, PeerLimits
        from unchained.node.sync.assumed_valid import assumed_valid
        from unchained.node.sync.node_network import NodeNetwork
        from unchained.node.sync.service import SyncSettings
        from unchained.node.transport.identity import Identity
        from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport

        transport = Libp2pTransport(
            HostConfig(
                listen=config.listen,
                announce=config.announce,
                max_connections=config.outbound + config.inbound + VISITORS_MAX,
            ),
            Identity.load_or_create(data_dir / PEER_KEY_NAME),
            self._log,
        )
        self.peers = NodeNetwork(
            self.chain,
            transport,
            self.store,
            peer_settings=PeerSettings(
                bootstrap=config.bootstrap,
                seeds=config.seeds,
                limits=PeerLimits(outbound=config.outbound, inbound=config.inbound),
            ),
            sync_settings=SyncSettings(
                assume_valid=assumed_valid(
                    self.network.name, config.assume_valid, verify_all=config.verify_all
                )
            ),
            clock=self._clock,
            rng=random.Random(secrets.token_bytes(32)),  # noqa: S311 - seeded from the system
            writer=ThreadRunner(1),
            log=self._log,
        )
        self.may_mine = self.peers.synced

    def add_mining(self, pool: MiningPool, payout: Payout, config: MiningConfig) -> None:
        """Let the node mine with a pool."""
        self.pool = pool
        self.payout = payout
        self.harvest = MinedCoins(self.chain)
        self.epochs = EpochManager(
            self.chain,
            pool,
            payout,
            clock=self._clock,
            may_mine=self.may_mine,
            mined=self.harvest,
            log=self._log,
        )
        self.control = MiningControl(
            pool,
            self.network,
            config,
            target=lambda: self.chain.status.value.target,
            found=lambda: 0 if self.epochs is None else self.epochs.statistics().coins_found,
            runner=ThreadRunner(1),
            log=self._log,
        )

    def add_wallets(self, data_dir: Path) -> None:
        """Let the node keep wallets, which follow its chain and send through it; from here on
        mining pays the default one, as soon as there is one."""
        self.wallets = WalletManager(
            data_dir / WALLETS_NAME,
            ManagerLink(self.chain, self.store),
            clock=self._clock,
            runner=ThreadRunner(WALLET_THREADS),
            log=self._log,
        )
        if isinstance(self.payout, AccountPayout):
            wallets = self.wallets
            self.payout.follow(lambda: wallets.account(DEFAULT_WALLET))

    def add_rpc(self, config: RpcConfig, data_dir: Path, control: Control) -> None:
        """Let the node be asked over HTTP. To be added last: it tells of all other parts."""
        host, _, port = config.listen.rpartition(":")
        self.rpc = node_server(
            Parts(
                chain=self.chain,
                store=self.store,
                data_dir=data_dir,
                clock=self._clock,
                runner=ThreadRunner(RPC_THREADS),
                backend=default_backend(),
                log=self._log,
                control=control,
                pool=self.pool,
                mining=self.control,
                epochs=None if self.epochs is None else self.epochs.statistics,
                harvest=None if self.harvest is None else self.harvest.statistics,
                own_lock=None if self.payout is None else self.payout.lock_for,
                synced=lambda: self.may_mine.value,
                peers=self._count_peers if self.peers is not None else None,
                net=None
                if self.peers is None
                else NetRoom(self.peers.transport, self.peers.peers, self._clock),
                wallets=self.wallets,
            ),
            RpcSettings(
                data_dir,
                host=host.strip("[]"),
                port=int(port),
                names=config.names,
                user=config.user or None,
                password=PasswordHash.parse(config.password_hash) if config.user else None,
                mining_token_file=(
                    Path(config.mining_token_file).expanduser()
                    if config.mining_token_file
                    else None
                ),
                open_read=config.open_read,
            ),
        )

    def _count_peers(self) -> int:
        return 0 if self.peers is None else self.peers.statistics().peers.greeted

    async def _serve_rpc(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        assert self.rpc is not None, "a service only where there is one"
        async with trio.open_nursery() as nursery:
            await nursery.start(self.rpc.serve)
            task_status.started()

    async def _run_network(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        assert self.peers is not None, "a service only where there is one"
        async with trio.open_nursery() as nursery:
            await nursery.start(self.peers.run)
            transport = self.peers.transport
            self._log.info("net.listening", peer=transport.id, addresses=transport.addresses())
            task_status.started()

    def services(self) -> Sequence[Service]:
        """Return what runs, by stages."""
        services = [
            Service("store", self._hold_store, STAGE_STORE),
            Service("chain", self.chain.run, STAGE_CHAIN),
            Service("report", self._report, STAGE_CHAIN, restartable=True),
        ]
        if self.peers is not None:
            services.append(Service("network", self._run_network, STAGE_NETWORK))
        if self.wallets is not None:
            services.append(Service("wallets", self.wallets.run, STAGE_NETWORK))
        if self.rpc is not None:
            services.append(Service("rpc", self._serve_rpc, STAGE_RPC))
        if self.pool is not None and self.epochs is not None:
            services += [
                Service("miner", self.pool.run, STAGE_MINING, restartable=True),
                Service("epochs", self.epochs.run, STAGE_MINING, restartable=True),
            ]
        if self.control is not None and self.harvest is not None:
            services += [
                Service("harvest", self.harvest.run, STAGE_MINING, restartable=True),
                Service("mining policy", self.control.run, STAGE_MINING, restartable=True),
            ]
        return services

    async def _hold_store(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the store open until cancelled, then close it."""
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.store.close)

    async def _report(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Log a summary from time to time."""
        task_status.started()
        while True:
            await trio.sleep(REPORT_S)
            statistics = self.statistics()
            self._log.info(
                "node.summary",
                height=statistics.status.height,
                coins=statistics.chain.coins,
                mempool=statistics.status.mempool.transfers,
                peers=0 if statistics.network is None else statistics.network.peers.greeted,
                hashrate=0.0 if statistics.miner is None else round(statistics.miner.rate, 1),
                resident_mib=psutil.Process().memory_info().rss >> 20,
            )

    def statistics(self) -> NodeStatistics:
        """Return a snapshot of every part."""
        return NodeStatistics(
            chain=self.chain.statistics(),
            status=self.chain.status.value,
            epochs=None if self.epochs is None else self.epochs.statistics(),
            miner=None if self.pool is None else self.pool.statistics(),
            control=None if self.control is None else self.control.statistics(),
            harvest=None if self.harvest is None else self.harvest.statistics(),
            network=None if self.peers is None else self.peers.statistics(),
        )


async def open_node(
    settings: Settings, data_dir: Path, *, clock: Clock, log: FilteringBoundLogger
) -> Node:
    """Open the store and the chain of a data directory and join the parts that run on them.

    Raises a `StoreError` or a `PayoutError`; then nothing is held.
    """
    config = settings.config
    network = NETWORKS[config.node.network]
    cores = len(os.sched_getaffinity(0))
    payout: FixedPayout | AccountPayout
    if config.mining.payout:
        payout, pays = payout_to(config.mining.payout, network), config.mining.payout
    else:
        payout, pays = wallet_payout(data_dir / WALLETS_NAME, network)
    options = LevelOptions(block_cache=config.storage.cache_mib << 20)
    store = await trio.to_thread.run_sync(
        lambda: open_store(data_dir, network, create=True, options=options)
    )
    try:
        chain = await ChainService.open(
            store,
            network,
            clock=clock,
            writer=ThreadRunner(1),
            verifier=ThreadRunner(cores),
            verifiers=cores,
            backend=default_backend(),
            log=log,
        )
        node = Node(network=network, store=store, chain=chain, clock=clock, log=log)
        if config.mining.enabled and not pays:
            birth = max(chain.status.value.height - network.max_reorg, 0)
            payout = await trio.to_thread.run_sync(
                new_mining_wallet, data_dir / WALLETS_NAME, network, birth
            )
            pays = MINING_WALLET
        node.payout = payout
        if config.network.listen or config.network.bootstrap or config.network.seeds:
            await trio.to_thread.run_sync(node.add_network, config.network, data_dir)
        # Protocol §10: reg mines on demand
        if config.mining.enabled and network is not REG:
            log.info("mining.payout", pays=pays)
            mining = config.mining
            workers = mining.workers
            if workers == "auto":
                workers = auto_workers(network.mem_kib, mining.affinity)
            pool = MiningPool(
                workers=workers,
                nice=mining.nice,
                affinity=mining.affinity or None,
                cpu_cap=mining.cpu_cap,
                huge_pages=mining.huge_pages,
                report=_reporter(log),
            )
            node.add_mining(pool, payout, mining)
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)
        raise
    status = chain.status.value
    log.info(
        "chain.opened",
        height=status.height,
        tip=status.tip.hex(),
        supply=status.supply,
        pool=status.pool,
    )
    return node


def _reporter(log: FilteringBoundLogger) -> Callable[[int, WorkerFailure, float], None]:
    def report(worker: int, why: WorkerFailure, delay_s: float) -> None:
        log.warning("miner.worker_lost", worker=worker, why=str(why), restart_in_s=delay_s)

    return report
