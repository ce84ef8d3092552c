"""One node's RPC server, put together from the parts that the composition root hands in."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.miner.errors import SettingError
from unchained.miner.pool import MiningPool
from unchained.node.base.clock import Clock
from unchained.node.base.runner import Runner
from unchained.node.chain.mempool.mempool import PolicyError
from unchained.node.chain.service import ChainService
from unchained.node.consensus.genesis import genesis_of
from unchained.node.crypto.accounts import MnemonicError
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.mining.control import MiningControl
from unchained.node.mining.mined_coins import MinedCoinsStatistics
from unchained.node.mining.payout import PayoutError
from unchained.node.rpc.core.dispatcher import Translation
from unchained.node.rpc.core.errors import (
    InvalidParamsError,
    NotReadyError,
    RefusedError,
    RpcError,
    UnavailableError,
    WalletRefusedError,
    plain,
    short,
)
from unchained.node.rpc.core.openrpc import registry
from unchained.node.rpc.core.values import Amount
from unchained.node.rpc.http.event_log import EventLog
from unchained.node.rpc.http.readiness import ReadinessCheck
from unchained.node.rpc.http.server import RpcSettings, Server
from unchained.node.rpc.methods.chain import ChainRoom
from unchained.node.rpc.methods.coin import CoinRoom
from unchained.node.rpc.methods.exporter import Exporter
from unchained.node.rpc.methods.mempool import MempoolRoom
from unchained.node.rpc.methods.miner import EpochCounts, MinerRoom
from unchained.node.rpc.methods.mining import LockOf, MiningRoom
from unchained.node.rpc.methods.net import NetRoom
from unchained.node.rpc.methods.node import Control, DebugRoom, NodeRoom
from unchained.node.rpc.methods.payment import PaymentRoom
from unchained.node.rpc.methods.reading import Reading
from unchained.node.rpc.methods.transfer import TransferRoom
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.wallet.errors import InsufficientFundsError, TransferRefusedError, WalletError
from unchained.node.wallet.manager import WalletManager
from unchained.storage.errors import StoreClosedError, StoreError
from unchained.storage.kv import KeyValueStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the methods of one node work on. `pool`, `mining`, `epochs`, `harvest` and `own_lock`
    are None where the node does not mine itself, `peers` (how many there are) and `net` where it
    has no network, `wallets` where it keeps none."""

    chain: ChainService
    store: KeyValueStore
    data_dir: Path
    clock: Clock
    runner: Runner
    backend: ProofOfWork
    log: FilteringBoundLogger
    control: Control
    pool: MiningPool | None
    mining: MiningControl | None
    epochs: Callable[[], EpochCounts] | None
    harvest: Callable[[], MinedCoinsStatistics] | None
    own_lock: LockOf | None
    synced: Callable[[], bool]
    peers: Callable[[], int] | None
    net: NetRoom | None
    wallets: WalletManager | None


def node_server(parts: Parts, settings: RpcSettings) -> Server:
    """Return the server with every method that this node can answer."""
    chain, clock = parts.chain, parts.clock
    reading = Reading(parts.store, parts.runner)
    exporter = Exporter(parts.store, chain.network, parts.data_dir, parts.runner)
    readiness = ReadinessCheck(chain, parts.data_dir, clock, synced=parts.synced, peers=parts.peers)
    statistics: dict[str, Callable[[], object]] = {
        "chain": chain.statistics,
        "store": parts.store.statistics,
        **parts.control.statistics,
    }
    if parts.pool is not None:
        statistics["miner"] = parts.pool.statistics
    if parts.epochs is not None:
        statistics["epochs"] = parts.epochs
    mining = MiningRoom(
        chain,
        pool=parts.pool,
        own_lock=parts.own_lock,
        synced=parts.synced,
        backend=parts.backend,
        runner=parts.runner,
        clock=clock,
    )
    node = NodeRoom(
        chain,
        genesis_of(chain.network).id,
        parts.control,
        clock,
        readiness=readiness,
        rate=_rate_of(parts.pool),
        mining=_mining_of(parts.pool, parts.epochs),
        peers=parts.peers,
    )
    rooms: list[object] = [
        node,
        ChainRoom(chain, reading, exporter, clock),
        CoinRoom(chain, reading),
        TransferRoom(chain, clock),
        MempoolRoom(chain, reading, clock),
        mining,
        MinerRoom(chain, control=parts.mining, epochs=parts.epochs, harvest=parts.harvest),
        DebugRoom(statistics),
    ]
    if parts.net is not None:
        rooms.append(parts.net)
    if parts.wallets is not None:
        rooms += [WalletRoom(parts.wallets, chain), PaymentRoom(parts.wallets)]
        statistics["wallets"] = parts.wallets.statistics
    server = Server(
        registry(*rooms, version=importlib.metadata.version("unchained")),
        settings=settings,
        runner=parts.runner,
        log=parts.log,
        readiness=readiness,
        events=EventLog(chain, reading).open,
        translations=TRANSLATIONS,
    )
    statistics["rpc"] = server.statistics
    return server


def _rate_of(pool: MiningPool | None) -> Callable[[], float]:
    return (lambda: 0.0) if pool is None else (lambda: pool.statistics().rate)


def _mining_of(
    pool: MiningPool | None, epochs: Callable[[], EpochCounts] | None
) -> Callable[[], bool]:
    if pool is None or epochs is None:
        return lambda: False
    return lambda: epochs().mining and not pool.statistics().paused


def _policy(error: PolicyError) -> RefusedError:
    expected: Mapping[str, object] = {
        "expected": plain(error.expected),
        "actual": plain(error.actual),
    }
    return RefusedError(short(str(error)), error=error.name, **expected)


def _wallet(error: WalletError) -> RpcError:
    text = short(str(error))
    if isinstance(error, TransferRefusedError):
        return RefusedError(text, error=error.rule)
    if isinstance(error, InsufficientFundsError):
        needed, available = Amount(error.needed), Amount(error.available)
        text = f"the transfer takes {needed.unc()} UNC, {available.unc()} UNC can be spent"
        return WalletRefusedError(text, error=error.word, needed=needed, available=available)
    return WalletRefusedError(text, error=error.word)


TRANSLATIONS: Final[tuple[Translation, ...]] = (
    (PolicyError, _policy),
    (WalletError, _wallet),
    (PayoutError, lambda error: InvalidParamsError(short(str(error)))),
    (MnemonicError, lambda error: InvalidParamsError(short(str(error)), error="BAD_MNEMONIC")),
    (SettingError, lambda error: InvalidParamsError(short(str(error)))),
    (StoreClosedError, lambda _: NotReadyError("the node is stopping")),
    (trio.ClosedResourceError, lambda _: NotReadyError("the node is stopping")),
    (StoreError, lambda error: UnavailableError(short(str(error)), error="STORE_FAILED")),
)
"""How the failures of the node's rooms are answered for."""
