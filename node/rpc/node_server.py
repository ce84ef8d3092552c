"""One node's RPC server, put together from the parts that the composition root hands in."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.miner.errors import SettingError
from unchained.node.base.clock import Clock
from unchained.node.base.counted import Counted
from unchained.node.base.fanout import Watch
from unchained.node.base.os_errors import os_error_line
from unchained.node.base.runner import Runner
from unchained.node.chain.coin_proofs import CoinProofs
from unchained.node.chain.results import TransferIntake
from unchained.node.chain.service import ChainService
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.policy import PolicyError
from unchained.node.crypto.accounts import MnemonicError
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.mining.epoch_manager import Payout
from unchained.node.mining.own_miner import OwnMiner
from unchained.node.mining.payout import PayoutError
from unchained.node.peers.manager import PeerManager
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
from unchained.node.rpc.http.criterion import ReadinessSource
from unchained.node.rpc.http.event_log import EventLog
from unchained.node.rpc.http.readiness import SyncTargets
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.server import Server
from unchained.node.rpc.http.sessions import Sessions
from unchained.node.rpc.http.tokens import TOKENS_FILE, TokenBook
from unchained.node.rpc.http.wallet_event_log import WalletEventLog
from unchained.node.rpc.http.web_site import WebPage
from unchained.node.rpc.methods.chain import ChainRoom
from unchained.node.rpc.methods.coin import CoinRoom
from unchained.node.rpc.methods.contracts import ContractRoom
from unchained.node.rpc.methods.db import DbRoom
from unchained.node.rpc.methods.debug import DebugRoom, TaskSource, TraceSource
from unchained.node.rpc.methods.events import EventRoom
from unchained.node.rpc.methods.exporter import Exporter
from unchained.node.rpc.methods.invoice import InvoiceRoom
from unchained.node.rpc.methods.keeping import KeepingRoom
from unchained.node.rpc.methods.mempool import MempoolRoom
from unchained.node.rpc.methods.miner import MinerRoom
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.node.rpc.methods.net import NetRoom
from unchained.node.rpc.methods.node import Control, NodeRoom
from unchained.node.rpc.methods.payment import PaymentRoom
from unchained.node.rpc.methods.proofs import ProofRoom
from unchained.node.rpc.methods.series import SeriesRoom, SeriesSource
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.node.rpc.methods.token import TokenRoom
from unchained.node.rpc.methods.transfer import TransferRoom
from unchained.node.rpc.methods.tree import TreeRoom
from unchained.node.rpc.methods.verification import VerificationRoom
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.rpc.methods.wallet_history import HistoryRoom
from unchained.node.rpc.methods.wallet_page import WalletPageRoom
from unchained.node.rpc.web.site import Site
from unchained.node.transport.contract import Transport
from unchained.node.wallet.errors import InsufficientFundsError, TransferRefusedError, WalletError
from unchained.node.wallet.manager import WalletManager
from unchained.storage.errors import StoreClosedError, StoreError
from unchained.storage.kv import KeyValueStore


class NetworkView(Protocol):
    """A node's network, as its operator sees it."""

    @property
    def transport(self) -> Transport:
        """What carries it."""

    @property
    def peers(self) -> PeerManager:
        """Who is connected, known and banned."""

    @property
    def sync(self) -> SyncTargets:
        """How far it has to go."""

    def statistics(self) -> msgspec.Struct:
        """Return a snapshot of every part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParts:
    """What the methods of one node work on. `intake` takes transfers that are made here. `miner`
    is None where the node does not mine itself, `network` where it is alone. `payout` says whom it
    mines to; `synced` whether its chain is level with that of its peers. `series` remembers its
    last day; `pages` are shown beside the methods."""

    chain: ChainService
    intake: TransferIntake
    store: KeyValueStore
    data_dir: Path
    clock: Clock
    runner: Runner
    backend: ProofOfWork
    log: FilteringBoundLogger
    control: Control
    miner: OwnMiner | None
    payout: Payout
    synced: Watch[bool]
    readiness: ReadinessSource
    network: NetworkView | None
    wallets: WalletManager
    series: SeriesSource
    tasks: TaskSource
    traces: TraceSource
    pages: Sequence[WebPage] = ()
    notifier: Counted | None = None


def node_server(parts: ServerParts, settings: RpcSettings) -> Server:
    """Return the server with every method that this node can answer."""
    chain, clock = parts.chain, parts.clock
    reader = StoreReader(parts.store, parts.runner)
    proofs = CoinProofs(chain.network)
    exporter = Exporter(parts.store, chain.network, parts.data_dir, parts.runner)
    miner, network = parts.miner, parts.network
    peers = None if network is None else network.peers
    counted: dict[str, Counted] = {
        "chain": chain,
        "store": parts.store,
        **parts.control.parts.by_name(),
    }
    if network is not None:
        counted["network"] = network
    if miner is not None:
        counted["miner"] = miner.pool
        counted["epochs"] = miner.epochs
    mining = MiningRoom(
        chain,
        pool=None if miner is None else miner.pool,
        payout=parts.payout,
        synced=parts.synced,
        backend=parts.backend,
        runner=parts.runner,
    )
    node = NodeRoom(
        chain,
        genesis_of(chain.network).id,
        parts.control,
        clock,
        readiness=parts.readiness,
        miner=miner,
        peers=peers,
    )
    sessions = Sessions()
    site = None
    if settings.page != "off":
        site = Site(
            settings.page,
            clock,
            parts.runner,
            chain.network,
            sessions,
            wallet_page=settings.wallet_page,
        )
    tokens = TokenBook(parts.data_dir / TOKENS_FILE, clock)
    parts.wallets.tell_of_names(tokens)
    rooms: list[object] = [
        node,
        ChainRoom(chain, reader, exporter, clock),
        TreeRoom(chain, reader),
        EventRoom(chain, reader),
        CoinRoom(chain.network, chain.queries, reader, proofs),
        VerificationRoom(chain.network, reader, proofs, parts.backend, parts.runner),
        TransferRoom(chain, parts.intake, clock),
        MempoolRoom(chain, reader, clock),
        mining,
        MinerRoom(chain, miner=miner, readiness=parts.readiness),
        DebugRoom(counted, parts.tasks, parts.traces),
        NetRoom(network, clock),
        WalletRoom(parts.wallets, chain.queries),
        PaymentRoom(parts.wallets),
        WalletPageRoom(site),
        TokenRoom(tokens, parts.wallets, parts.runner),
        ProofRoom(parts.wallets),
        KeepingRoom(parts.wallets),
        ContractRoom(parts.wallets),
        DbRoom(parts.store, parts.runner),
        HistoryRoom(parts.wallets, chain.queries),
        InvoiceRoom(parts.wallets, chain.queries, clock),
        SeriesRoom(parts.series),
    ]
    counted["wallets"] = parts.wallets
    if parts.notifier is not None:
        counted["notifier"] = parts.notifier
    server = Server(
        registry(*rooms, version=importlib.metadata.version("unchained"), runner=parts.runner),
        settings=settings,
        runner=parts.runner,
        log=parts.log,
        readiness=parts.readiness,
        pages=parts.pages,
        events=EventLog(chain, reader),
        wallet_events=WalletEventLog(parts.wallets),
        site=site,
        translations=TRANSLATIONS,
        tokens=tokens,
        sessions=sessions,
    )
    counted["rpc"] = server
    return server


def _policy(error: PolicyError) -> RefusedError:
    expected: Mapping[str, object] = {
        "expected": plain(error.expected),
        "actual": plain(error.actual),
    }
    return RefusedError(short(error.in_words()), error=error.name, **expected)


def _wallet(error: WalletError) -> RpcError:
    text = short(str(error))
    if isinstance(error, TransferRefusedError):
        return RefusedError(text, error=error.rule)
    if isinstance(error, InsufficientFundsError):
        needed, available = Amount(error.needed), Amount(error.available)
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
    (OSError, lambda error: UnavailableError(short(os_error_line(error)), error="SYSTEM_REFUSED")),
)
"""How the failures of the node's rooms are answered for."""
