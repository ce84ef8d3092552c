"""Files as the product writes them, to begin with: of a wallet that has mined and paid, and rows of
stores in which chains with payments and reorganisations lie. The same each time."""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cache
from typing import Final, NamedTuple

from tests.framework.programs.network import nodes_of
from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.wallets import CHEAP, ProvenWalletChain, Purse
from tests.fuzz.programs import written
from unchained.node.chain.coin_proofs import CoinProofs
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.params import REG
from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.ban_list import BanList
from unchained.node.primitives.types import CoinId
from unchained.node.transport.identity import Identity
from unchained.node.wallet.backup import Backup
from unchained.node.wallet.contracts import multisig
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import Keystore, new_secret
from unchained.node.wallet.payee_book import PayeeBook
from unchained.node.wallet.proofs import prove_payment, prove_reserve, sign_message
from unchained.node.wallet.records import Payee
from unchained.node.wallet.wallet import Wallet
from unchained.storage import schema
from unchained.storage.kv import Batch, Snapshot
from unchained.storage.memory import MemoryStore

ROWS_OF_A_TABLE: Final = 6
"""Rows of one table, each of another length or with another beginning."""

_CHAINS: Final = ("connected", "mempool", "reorganised", "uncles")
_UNC: Final = 10**8


class MadeFiles(NamedTuple):
    """What a wallet writes; `unsigned` are transfers with no, one and all signatures."""

    keys: bytes
    watched: bytes
    backup: bytes
    unsigned: tuple[bytes, ...]
    receipts: tuple[bytes, ...]
    message: bytes
    reserve: bytes
    contract: str


class _Prover:
    """Proves coins, as a node does for its wallets."""

    def __init__(self) -> None:
        self._proofs = CoinProofs(REG)

    def prove_coin(self, view: Snapshot, coin_id: CoinId) -> CoinProof | None:
        return self._proofs.prove(view, coin_id)


def _wallet(name: str) -> Wallet:
    randomness = SeededRandomness(f"made files {name}")
    keystore = Keystore.create(
        REG, new_secret(randomness), "pass", accounts=2, cost=CHEAP, randomness=randomness
    )
    wallet = Wallet(name, REG, keystore, None, randomness)
    wallet.unlock("pass")
    return wallet


@cache
def made_files() -> MadeFiles:
    """Mine, pay, and write every kind of file."""
    chain, wallet, other = ProvenWalletChain(), _wallet("a"), _wallet("b")
    purse = Purse(chain, wallet)
    contract = multisig(REG, 2, [wallet.address(), other.address()], SeededRandomness("contract"))
    for one in (wallet, other):
        one.add_contract(contract, chain.now_ms)
    chain.grow(6, purse.mine_to)
    purse.sync()
    PayeeBook(wallet.store, REG).add("bakery", other.paycode())
    wallet.label("contract", contract.lock, "shared")
    paid = purse.pay(other.paycode(), _UNC, b"rent")
    purse.pay(contract.to_text(), 2 * _UNC)
    chain.grow(2, purse.mine_to)
    purse.sync()
    Purse(chain, other).sync()
    to_several = [Payee(other.paycode(), _UNC, b"bread"), Payee(other.address(), 5_000, b"")]
    plain = wallet.spender.pay(to_several, Fee(1)).unsigned
    shared = wallet.spender.from_contract(contract, Fee(1)).unsigned
    half = wallet.sign(shared)
    with chain.snapshot() as view:
        receipts = (
            prove_payment(wallet, view, paid.txid),
            prove_payment(wallet, view, paid.txid, anchors=1),
            prove_payment(other, view, paid.txid, anchors=1),
        )
        reserve = prove_reserve(wallet, view, _Prover(), _UNC, b"challenge").to_file()
    return MadeFiles(
        wallet.keystore.to_bytes(),
        Keystore.watch(REG, wallet.keystore.accounts).to_bytes(),
        Backup.of(wallet).to_file(),
        tuple(
            unsigned.to_file()
            for unsigned in (plain, wallet.sign(plain), shared, half, other.sign(half))
        ),
        receipts,
        sign_message(wallet, "Grüße".encode()).to_file(),
        reserve,
        contract.to_text(),
    )


@cache
def made_rows() -> dict[str, tuple[tuple[bytes, bytes], ...]]:
    """Return keys and values that nodes have written, some of each table, by its name."""
    found: dict[str, dict[tuple[int, bytes], tuple[bytes, bytes]]] = defaultdict(dict)
    stores = [node.core.store for name in _CHAINS for node in nodes_of(written()[name])]
    for store in (_peers(), *stores):
        for table in schema.TABLES:
            rows = found[table.name]
            for key, value in store.items(table.start, table.stop):
                if len(rows) < ROWS_OF_A_TABLE:
                    rows.setdefault((len(value), value[:2]), (key, value))
    return {name: tuple(rows.values()) for name, rows in found.items()}


def _peers() -> MemoryStore:
    """Return a store with what a node keeps of others."""
    store, batch, now_ms = MemoryStore(), Batch(), REG.birth_ms
    book, bans = AddressBook(store, random.Random(1)), BanList(store)
    for number in range(1, 4):
        peer = Identity.from_seed(bytes([number]) * 32).peer
        book.add(f"/ip4/203.0.{number}.7/tcp/4011/p2p/{peer}", "6.6.6.6", now_ms)
    bans.add("203.0.9.0/24", "sent what breaks a rule", now_ms)
    book.pending(batch)
    bans.pending(batch)
    store.write(batch, sync=True)
    return store
