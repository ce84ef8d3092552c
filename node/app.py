"""The composition root: the only place that knows all parts of a node and joins them.

Stages start in ascending order and stop in descending order, so that mining ends before the
chain does, and the chain before the store under it is closed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import psutil
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.config import NetworkConfig
from unchained.node.base.fanout import Watch
from unchained.node.base.heap import SharedHeap
from unchained.node.base.node_threads import NodeThreads
from unchained.node.base.ports import (
    DEFAULT_PORTS,
    LONE_NETWORKS,
    machine_has_ipv6,
    places_to_listen,
)
from unchained.node.base.randomness import SYSTEM
from unchained.node.base.runner import ThreadRunner
from unchained.node.base.services import Service
from unchained.node.base.settings import Settings
from unchained.node.chain.results import TransferIntake
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import NETWORKS, REG, Network
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.pow import default_backend
from unchained.node.mining.own_miner import OwnMiner, make_miner
from unchained.node.mining.payout import (
    MINING_WALLET,
    AccountPayout,
    FixedPayout,
    PayoutError,
    new_mining_wallet,
    payout_to,
    wallet_account,
)
from unchained.node.notify.notifier import Notifier, notifier_of
from unchained.node.observe.day import Day
from unchained.node.observe.metrics_page import metrics_pages
from unchained.node.observe.node_observer import NodeObserver
from unchained.node.observe.node_statistics import NodeStatistics
from unchained.node.observe.task_trace import TraceRecorder
from unchained.node.observe.task_tree import TaskTree
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.rpc.http.readiness import ReadinessCheck
from unchained.node.rpc.http.rpc_settings import rpc_settings
from unchained.node.rpc.http.server import Server
from unchained.node.rpc.methods.node import Control
from unchained.node.rpc.node_server import ServerParts, node_server
from unchained.node.sync.alone import ALONE_S, say_alone
from unchained.node.wallet.keystore import WALLETS_NAME
from unchained.node.wallet.manager import WalletManager
from unchained.storage.errors import StoreMissingError
from unchained.storage.kv import KeyValueStore
from unchained.storage.leveldb import LevelOptions
from unchained.storage.open import open_store

if TYPE_CHECKING:
    from unchained.node.sync.node_network import NodeNetwork

STAGE_STORE: Final = 0
STAGE_CHAIN: Final = 1
STAGE_NETWORK: Final = 2
STAGE_RPC: Final = 3
STAGE_MINING: Final = 4

STALE_TIP_EPOCHS: Final = 15
"""Epochs without another tip after which one more peer is asked: by chance that never happens."""

REPORT_S: Final = 60.0
"""Seconds between summaries in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The parts of one node, joined by `build`; `services` are what runs. `peers` is None for a
    node that is alone, `mining` for one that does not mine, `notifier` for one that tells nobody,
    `rpc` for one that nobody asks."""

    network: Network
    store: KeyValueStore
    chain: ChainService
    peers: NodeNetwork | None
    wallets: WalletManager
    mining: OwnMiner | None
    notifier: Notifier | None
    rpc: Server | None
    observer: NodeObserver
    day: Day
    log: FilteringBoundLogger

    def services(self) -> Sequence[Service]:
        """Return what runs, by stages."""
        services = [
            Service("store", self._hold_store, STAGE_STORE),
            Service("chain", self.chain.run, STAGE_CHAIN),
            Service("report", self._report, STAGE_CHAIN, restartable=True),
        ]
        if self.peers is not None:
            run_network = partial(_run_network, self.peers, self.log)
            services.append(Service("network", run_network, STAGE_NETWORK))
        services.append(Service("wallets", self.wallets.run, STAGE_NETWORK))
        if self.notifier is not None:
            services.append(Service("notifier", self.notifier.run, STAGE_RPC, restartable=True))
        if self.rpc is not None:
            services.append(Service("series", self.day.run, STAGE_RPC, restartable=True))
            services.append(Service("rpc", partial(_serve_rpc, self.rpc), STAGE_RPC))
        mining = self.mining
        if mining is not None:
            services += [
                Service("miner", mining.pool.run, STAGE_MINING, restartable=True),
                Service("epochs", mining.epochs.run, STAGE_MINING, restartable=True),
                Service("harvest", mining.mined.run, STAGE_MINING, restartable=True),
                Service("mining policy", mining.control.run, STAGE_MINING, restartable=True),
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
            self.log.info(
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
        found, mining = self.observer.statistics(), self.mining
        if mining is None:
            return found
        return msgspec.structs.replace(found, payee=mining.payout.payee)


def _check_store(data_dir: Path, network: Network) -> None:
    """Raise what opening the store of a data directory raises, if there is one."""
    with suppress(StoreMissingError):
        open_store(data_dir, network, create=False).close()


async def build(
    settings: Settings,
    data_dir: Path,
    *,
    clock: Clock,
    log: FilteringBoundLogger,
    control: Control | None = None,
) -> Node:
    """Open the store and the chain of a data directory, and make the parts that run on them in
    the order in which they need each other. Without `control` over a process nobody can ask the
    node.

    Raises a `StoreError`, a `PayoutError`, `BadIdentityError`, `CannotListenError`,
    `CannotSecureError`, `BadAddressError`, `BadAsmapError`, `BadCommandError` or
    `NotifySecretError`; then nothing is held.
    """
    config = settings.config
    network = NETWORKS[config.node.network]
    cores = len(os.sched_getaffinity(0))
    chosen: FixedPayout | WatchAccount | None
    if config.mining.payout:
        chosen, pays = payout_to(config.mining.payout, network), config.mining.payout
    else:
        try:
            chosen, pays = await trio.to_thread.run_sync(
                wallet_account, data_dir / WALLETS_NAME, network
            )
        except PayoutError:
            # Where the chain is of another network as well, it is the directory that is wrong.
            await trio.to_thread.run_sync(_check_store, data_dir, network)
            raise
    options = LevelOptions(block_cache=config.storage.cache_mib << 20)
    store = await trio.to_thread.run_sync(
        lambda: open_store(data_dir, network, create=True, options=options)
    )
    threads = NodeThreads(cores)
    try:
        chain = await ChainService.open(
            store,
            network,
            clock=clock,
            writer=threads.writer,
            verifier=threads.verifier,
            verifiers=cores,
            backend=default_backend(),
            log=log,
            heap=SharedHeap(),
        )
        if config.mining.enabled and not pays:
            birth = max(chain.status.value.height - network.max_reorg, 0)
            chosen = await trio.to_thread.run_sync(
                new_mining_wallet, data_dir / WALLETS_NAME, network, birth
            )
            pays = MINING_WALLET
        peers = None
        may_be_alone = network.name in LONE_NETWORKS or config.mining.alone
        if config.network.listen or config.network.bootstrap or config.network.seeds:
            peers = await trio.to_thread.run_sync(
                make_network,
                config.network,
                data_dir,
                chain,
                store,
                clock,
                log,
                threads.peers,
                may_be_alone,
            )
        may_mine = Watch(may_be_alone) if peers is None else peers.synced
        intake: TransferIntake = chain if peers is None else peers.stem
        wallets = WalletManager(
            data_dir / WALLETS_NAME,
            WalletLink(chain, store, intake, clock=clock, runner=threads.wallets),
            clock=clock,
            runner=threads.wallets,
            log=log,
            randomness=SYSTEM,
        )
        payout = chosen if isinstance(chosen, FixedPayout) else AccountPayout(chosen, wallets, pays)
        mining = None
        # Protocol §10: reg mines on demand
        if config.mining.enabled and network is not REG:
            log.info("mining.payout", pays=pays)
            mining = make_miner(config.mining, chain, payout, clock, may_mine, log)
        notifier = await trio.to_thread.run_sync(
            notifier_of, config.notify, wallets, chain, store, may_mine, clock, threads.notices, log
        )
        readiness = ReadinessCheck(
            chain,
            data_dir,
            clock,
            synced=may_mine,
            peers=None if peers is None else peers.peers,
            sync=None if peers is None else peers.sync,
            store=store,
        )
        process = None if control is None else control.parts
        observer = NodeObserver(
            chain=chain,
            clock=clock,
            data_dir=data_dir,
            store=store,
            network=peers,
            wallets=wallets,
            epochs=None if mining is None else mining.epochs,
            miner=None if mining is None else mining.pool,
            control=None if mining is None else mining.control,
            harvest=None if mining is None else mining.mined,
            services=None if process is None else process.services,
            loop=None if process is None else process.loop,
            log=None if process is None else process.log,
            readiness=readiness,
            threads=threads.by_name(),
        )
        day = Day(observer, threads.rpc)
        rpc = None
        if config.rpc.enabled and control is not None:
            parts = ServerParts(
                chain=chain,
                intake=intake,
                store=store,
                data_dir=data_dir,
                clock=clock,
                runner=threads.rpc,
                backend=default_backend(),
                log=log,
                control=control,
                miner=mining,
                payout=payout,
                synced=may_mine,
                readiness=readiness,
                network=peers,
                wallets=wallets,
                notifier=notifier,
                series=day,
                tasks=TaskTree(observer, None if process is None else process.loop),
                traces=TraceRecorder(data_dir, threads.rpc),
                pages=metrics_pages(observer, threads.rpc, config.rpc.metrics),
            )
            # To look at every method takes a tenth of a second.
            rpc = observer.rpc = await trio.to_thread.run_sync(
                node_server, parts, rpc_settings(config.rpc, data_dir, network.name)
            )
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
    knows_others = peers is not None and peers.peers.knows_others
    say_alone(network, knows_others=knows_others, may_be_alone=may_be_alone, log=log)
    return Node(
        network=network,
        store=store,
        chain=chain,
        peers=peers,
        wallets=wallets,
        mining=mining,
        notifier=notifier,
        rpc=rpc,
        observer=observer,
        day=day,
        log=log,
    )


def make_network(
    config: NetworkConfig,
    data_dir: Path,
    chain: ChainService,
    store: KeyValueStore,
    clock: Clock,
    log: FilteringBoundLogger,
    runner: ThreadRunner,
    may_be_alone: bool,
) -> NodeNetwork:
    """Return what joins a node to others. Raises `BadIdentityError`, `CannotListenError`,
    `CannotSecureError`, `BadAddressError` or `BadAsmapError`."""
    # Only here: libp2p takes as much memory as all the rest, and a node may be alone.
    from unchained.node.peers.asmap import Asmap
    from unchained.node.peers.dialler import PeerSettings
    from unchained.node.peers.network_groups import NetworkGroups
    from unchained.node.peers.reputation import VISITORS_MAX, PeerLimits
    from unchained.node.peers.seeds import NoResolver
    from unchained.node.sync.assumed_valid import assumed_valid
    from unchained.node.sync.node_network import NodeNetwork
    from unchained.node.sync.service import SyncSettings
    from unchained.node.transport.identity import PEER_KEY_FILE, Identity
    from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport
    from unchained.node.transport.ways_in import onion_is_apart, ways_in_of

    network = chain.network.name
    transport = Libp2pTransport(
        HostConfig(
            listen=places_to_listen(
                config.listen,
                network,
                has_ipv6=machine_has_ipv6(),
                is_hidden=bool(config.proxy),
            ),
            announce=config.announce,
            auto_port=DEFAULT_PORTS[network].peers,
            max_connections=config.outbound + config.inbound + VISITORS_MAX,
            security=config.security,
            upload_kib=config.upload_kib,
            proxy=config.proxy,
            only=config.only,
            onion=bool(config.tor_control),
        ),
        Identity.load_or_create(data_dir / PEER_KEY_FILE),
        log,
        clock=clock,
    )
    return NodeNetwork(
        chain,
        transport,
        store,
        peer_settings=PeerSettings(
            bootstrap=config.bootstrap,
            seeds=config.seeds,
            limits=PeerLimits(outbound=config.outbound, inbound=config.inbound),
            groups=NetworkGroups(Asmap.load(Path(config.asmap)) if config.asmap else None),
            stale_tip_s=STALE_TIP_EPOCHS * chain.network.epoch_ms / 1000,
            loopback_is_home=network in LONE_NETWORKS,
            onion_is_apart=onion_is_apart(config),
        ),
        sync_settings=SyncSettings(
            assume_valid=assumed_valid(network, config.assume_valid, verify_all=config.verify_all),
            alone_s=ALONE_S if may_be_alone else None,
        ),
        clock=clock,
        rng=SYSTEM.generator(),
        writer=runner,
        log=log,
        resolver=NoResolver() if config.proxy else None,
        ways_in=ways_in_of(config, network, transport, data_dir, log),
    )


async def _serve_rpc(
    server: Server, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        task_status.started()


async def _run_network(
    network: NodeNetwork,
    log: FilteringBoundLogger,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        transport = network.transport
        log.info("net.listening", peer=transport.id, addresses=transport.addresses())
        task_status.started()
