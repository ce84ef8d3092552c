"""Which classes hold the node's methods; each is described by its class alone."""

from __future__ import annotations

from typing import Final

from unchained.node.rpc.chain_methods import ChainRoom
from unchained.node.rpc.coin_methods import CoinRoom
from unchained.node.rpc.mempool_methods import MempoolRoom
from unchained.node.rpc.miner_methods import MinerRoom
from unchained.node.rpc.mining_methods import MiningRoom
from unchained.node.rpc.net_methods import NetRoom
from unchained.node.rpc.node_methods import DebugRoom, NodeRoom
from unchained.node.rpc.payment_methods import PaymentRoom
from unchained.node.rpc.transfer_methods import TransferRoom
from unchained.node.rpc.wallet_methods import WalletRoom

ROOMS: Final[tuple[type, ...]] = (
    NodeRoom,
    ChainRoom,
    CoinRoom,
    TransferRoom,
    MempoolRoom,
    MinerRoom,
    MiningRoom,
    NetRoom,
    WalletRoom,
    PaymentRoom,
    DebugRoom,
)
"""Every room of the node's RPC, in no particular order. The composition root makes instances."""
