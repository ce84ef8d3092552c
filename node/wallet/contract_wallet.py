"""A contract looked at as a wallet of its own: what it has, what came and went, where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec

from unchained.node.base.number_words import number_of
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.conditions import HashTimeLockCondition, MultisigCondition
from unchained.node.primitives.transfer import Transfer
from unchained.node.primitives.types import KeyHash
from unchained.node.wallet.records import Balance, WalletCoin, WatchedContract
from unchained.node.wallet.wallet import Wallet
from unchained.storage import schema
from unchained.storage.kv import Snapshot


class ContractEntry(msgspec.Struct, frozen=True, gc=False):
    """What a transfer, or a coin mined to the lock, did to a contract. Grains; `height` None while
    it waits. `key` is the transfer's txid, or the minted coin's id."""

    key: bytes
    minted: bool
    height: int | None
    time_ms: int
    received: int
    sent: int


class ContractWallet(msgspec.Struct, frozen=True):
    """A contract, what it has, and where it stands in words. `own_keys` of its keys are the
    wallet's."""

    watched: WatchedContract
    balance: Balance
    own_keys: tuple[KeyHash, ...]
    status: str


def contract_wallet(wallet: Wallet, view: Snapshot, lock: bytes) -> ContractWallet:
    """Return a contract of a wallet as it is on a snapshot of the chain's store.

    Raises `ContractError` for one that the wallet is not party to.
    """
    watched = wallet.contract(lock)
    terms = watched.contract.terms
    mine = {wallet.account(index).key_hash for index in wallet.info().accounts}
    if isinstance(terms, MultisigCondition):
        parties: Collection[KeyHash] = terms.key_hashes
    elif isinstance(terms, HashTimeLockCondition):
        parties = (terms.claim_key_hash, terms.refund_key_hash)
    else:
        parties = (terms.key_hash,)
    own = tuple(key for key in parties if key in mine)
    balance = _balance(watched.coins, wallet.spender.mature_below)
    status = _Status(wallet, view, watched, balance, own).text()
    return ContractWallet(watched, balance, own, status)


def contract_history(wallet: Wallet, lock: bytes) -> list[ContractEntry]:
    """Return what happened to a contract's coins: what waits first, then the latest.

    Raises `ContractError` for one that the wallet is not party to.
    """
    found: dict[bytes, ContractEntry] = {}

    def note(key: bytes, coin: WalletCoin, height: int | None, received: int, sent: int) -> None:
        known = found.get(key) or ContractEntry(
            key, not coin.txid and not sent, height, _time_of(wallet, key, coin), 0, 0
        )
        found[key] = msgspec.structs.replace(
            known, received=known.received + received, sent=known.sent + sent
        )

    for coin in wallet.contract(lock).coins:
        note(coin.txid or coin.coin_id, coin, coin.height, coin.value, 0)
        if coin.spent_height is not None:
            note(coin.spent_by, coin, coin.spent_height, 0, coin.value)
        else:
            for txid in _waiting_spenders(wallet, coin.coin_id):
                note(txid, coin, None, 0, coin.value)
    return sorted(
        found.values(),
        key=lambda entry: (entry.height is not None, -(entry.height or 0), entry.key),
    )


def _time_of(wallet: Wallet, key: bytes, coin: WalletCoin) -> int:
    """Return when the anchor of a transfer or of a minted coin was mined, or when the transfer came
    that waits."""
    rows = wallet.store.rows("SELECT time_ms FROM transfers WHERE txid = ?", key)
    time_ms: int = rows[0][0] if rows else coin.time_ms
    return time_ms


def _balance(coins: Collection[WalletCoin], mature_below: int) -> Balance:
    here = [coin for coin in coins if coin.height is not None and coin.spent_height is None]
    leaving = sum(coin.value for coin in here if coin.leaving)
    immature = sum(
        coin.value
        for coin in here
        if not coin.leaving and not coin.txid and (coin.height or 0) >= mature_below
    )
    total = sum(coin.value for coin in here)
    pending = sum(coin.value for coin in coins if coin.height is None and not coin.leaving)
    return Balance(total - leaving - immature, 0, immature, leaving, pending)


def _waiting_spenders(wallet: Wallet, coin_id: bytes) -> list[bytes]:
    rows = wallet.store.rows(
        """SELECT uses.txid FROM uses JOIN waiting ON waiting.txid = uses.txid WHERE coin_id = ?""",
        coin_id,
    )
    return [txid for (txid,) in rows]


class _Status:
    """Puts into words where a contract stands."""

    def __init__(
        self,
        wallet: Wallet,
        view: Snapshot,
        watched: WatchedContract,
        balance: Balance,
        own: Collection[KeyHash],
    ) -> None:
        self._wallet = wallet
        self._view = view
        self._watched = watched
        self._balance = balance
        self._own = own

    def text(self) -> str:
        """Return the words; of a wallet that still reads the chain, how far they hold."""
        progress = self._wallet.progress(self._view)
        if progress.caught_up:
            return self._words()
        reached = max(progress.reached, 0)
        return (
            f"{self._words()}, as far as the wallet has read the chain: up to height {reached} of "
            f"{progress.tip_height}"
        )

    def _words(self) -> str:
        coins, balance = self._watched.coins, self._balance
        if not coins:
            return "nothing has been paid to it yet"
        spenders = dict.fromkeys(
            txid for coin in coins for txid in _waiting_spenders(self._wallet, coin.coin_id)
        )
        if spenders:
            return f"a transfer waits that takes {shortest(balance.leaving)} UNC: " + ", ".join(
                f"{self._kind(txid)} {txid.hex()}" for txid in spenders
            )
        if balance.on_chain:
            return f"holds {shortest(balance.on_chain)} UNC: {self._who_spends()}"
        if balance.pending:
            return f"a payment of {shortest(balance.pending)} UNC waits"
        last = max(coins, key=lambda coin: coin.spent_height or -1)
        if last.spent_height is None:
            return "nothing is left: what was paid to it is not on the chain any more"
        return f"spent at height {last.spent_height}: {self._kind(last.spent_by)} " + (
            last.spent_by.hex()
        )

    def _who_spends(self) -> str:
        terms = self._watched.contract.terms
        if isinstance(terms, MultisigCondition):
            return (
                f"{terms.threshold} of {len(terms.key_hashes)} keys spend it, this wallet has "
                f"{len(self._own)}"
            )
        assert isinstance(terms, HashTimeLockCondition), "no other condition is shared"
        claims = "this wallet" if terms.claim_key_hash in self._own else "the other side"
        refunds = "this wallet" if terms.refund_key_hash in self._own else "the other side"
        preimage = "known" if self._watched.preimage is not None else "not known here"
        left = terms.height - self._wallet.progress(self._view).tip_height - 1
        when = (
            f"from height {terms.height} on, {number_of(left, 'anchor')} from now"
            if left > 0
            else "now"
        )
        return (
            f"{claims} can claim it with the preimage, which is {preimage}; {refunds} can take it "
            f"back {when}"
        )

    def _kind(self, txid: bytes) -> str:
        """Return what a transfer that spends the contract is."""
        terms = self._watched.contract.terms
        if not isinstance(terms, HashTimeLockCondition):
            return "transfer"
        raw = self._raw(txid)
        if raw is None:
            return "transfer"
        hashes = {hashlib.sha256(one).digest() for one in Transfer.from_bytes(raw).preimages}
        return "claimed by" if terms.hash in hashes else "taken back by"

    def _raw(self, txid: bytes) -> bytes | None:
        waiting = self._wallet.store.rows("SELECT wid FROM waiting WHERE txid = ?", txid)
        place = schema.TXID.get(self._view, txid)
        wid = waiting[0][0] if waiting else None if place is None else place.wid
        return None if wid is None else schema.TRANSFER.get(self._view, wid)
