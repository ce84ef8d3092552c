"""Which classes hold the node's methods; each is described by its class alone."""

from __future__ import annotations

from typing import Final

from unchained.node.rpc.methods.chain import ChainRoom
from unchained.node.rpc.methods.coin import CoinRoom
from unchained.node.rpc.methods.contracts import ContractRoom
from unchained.node.rpc.methods.db import DbRoom
from unchained.node.rpc.methods.debug import DebugRoom
from unchained.node.rpc.methods.events import EventRoom
from unchained.node.rpc.methods.invoice import InvoiceRoom
from unchained.node.rpc.methods.keeping import KeepingRoom
from unchained.node.rpc.methods.mempool import MempoolRoom
from unchained.node.rpc.methods.miner import MinerRoom
from unchained.node.rpc.methods.mining import MiningRoom
from unchained.node.rpc.methods.net import NetRoom
from unchained.node.rpc.methods.node import NodeRoom
from unchained.node.rpc.methods.payment import PaymentRoom
from unchained.node.rpc.methods.proofs import ProofRoom
from unchained.node.rpc.methods.series import SeriesRoom
from unchained.node.rpc.methods.token import TokenRoom
from unchained.node.rpc.methods.transfer import TransferRoom
from unchained.node.rpc.methods.tree import TreeRoom
from unchained.node.rpc.methods.verification import VerificationRoom
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.rpc.methods.wallet_history import HistoryRoom
from unchained.node.rpc.methods.wallet_page import WalletPageRoom

ROOMS: Final[tuple[type, ...]] = (
    NodeRoom,
    ChainRoom,
    TreeRoom,
    EventRoom,
    CoinRoom,
    VerificationRoom,
    TransferRoom,
    MempoolRoom,
    MinerRoom,
    MiningRoom,
    NetRoom,
    WalletRoom,
    PaymentRoom,
    WalletPageRoom,
    TokenRoom,
    ProofRoom,
    KeepingRoom,
    ContractRoom,
    DbRoom,
    HistoryRoom,
    InvoiceRoom,
    SeriesRoom,
    DebugRoom,
)
"""Every room of the node's RPC, in no particular order. The composition root makes instances."""
