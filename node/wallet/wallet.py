"""One wallet: its keys, what it knows, and what can be done with it.

Methods block, and may be called from any thread; none of them touches the network. A wallet that
is locked, or that only watches, does all but sign.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.addresses import Paycode, encode_address, encode_paycode
from unchained.node.crypto.keys import SpendKey
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import KeyHash, Txid
from unchained.node.wallet.contract_spender import ALONE, ContractSpender, Race
from unchained.node.wallet.contracts import Contract
from unchained.node.wallet.errors import (
    ContractError,
    NothingKnownError,
    WalletLockedError,
    WatchOnlyError,
)
from unchained.node.wallet.event_records import EventRecords
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.further_accounts import FurtherAccounts
from unchained.node.wallet.history import EVERYTHING, HistoryBook, HistoryFilter
from unchained.node.wallet.invoices import InvoiceBook
from unchained.node.wallet.keystore import Keystore, SpendSecret, wallet_path
from unchained.node.wallet.limits import count
from unchained.node.wallet.link import RecentTransfers
from unchained.node.wallet.new_wallet import STORE_SUFFIX
from unchained.node.wallet.payee_book import PayeeBook
from unchained.node.wallet.plan import Prepared, payees_of, secrets_of
from unchained.node.wallet.recogniser import Recogniser
from unchained.node.wallet.records import (
    AccountRef,
    Balance,
    HistoryEntry,
    Outgoing,
    OutgoingNote,
    Payee,
    ScanProgress,
    WalletInfo,
    WatchedContract,
)
from unchained.node.wallet.resealing import PresentKeys
from unchained.node.wallet.scanner import Scanner, ScanStep
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.summary import Summary, summarize
from unchained.node.wallet.unsigned import Unsigned, UnsignedPayee
from unchained.node.wallet.wallet_payout import WalletPayout
from unchained.node.wallet.wallet_store import WalletStore
from unchained.node.wallet.watch_export import WatchExport
from unchained.storage.kv import Reader


class Wallet:
    """An open wallet. Close it: it holds a file."""

    def __init__(
        self,
        name: str,
        network: Network,
        keystore: Keystore,
        path: Path | None,
        randomness: Randomness = SYSTEM,
    ) -> None:
        """Take a keystore and open what belongs to it; `path` None keeps everything in memory."""
        self.name = name
        self.network = network
        self.keystore = keystore
        self._path = path
        self.randomness = randomness
        self._secret: SpendSecret | None = None
        first = keystore.accounts[0]
        self.store = WalletStore(
            None if path is None else path.with_suffix(STORE_SUFFIX),
            network_id=genesis_of(network).id,
            owner=first.key_hash,
            seed=first.view_seed,
            randomness=randomness,
        )
        try:
            self.events = EventRecords(self.store, randomness)
            self.history_book = HistoryBook(self.store, self.events)
            self.invoices = InvoiceBook(self.store, self.events, randomness)
            self._load_keys()
        except BaseException:  # nobody else could close it, and end its journal
            self.store.close()
            raise

    @classmethod
    def open(
        cls, directory: Path, name: str, network: Network, randomness: Randomness = SYSTEM
    ) -> Wallet:
        """Open a wallet, locked. Raises OSError, a `KeystoreError`, `StoreDamagedError`."""
        path = wallet_path(directory, name)
        keystore = Keystore.load(path, network)
        with told_as_damage():
            return cls(name, network, keystore, path, randomness)

    def close(self) -> None:
        """Lock the wallet and close its file."""
        self.lock()
        self.store.close()

    def _load_keys(self) -> None:
        self._further = FurtherAccounts(self.keystore, self.store)
        watched = {
            keys.index: keys.account(self.network.chain_id) for keys in self._further.watched()
        }
        contracts = self._contracts()
        self._accounts = {keys.index: watched[keys.index] for keys in self._further.shown()}
        self._recogniser = Recogniser(watched, {c.lock: c.salt for c in contracts})
        hashes = {digest: bytes(c.lock) for c in contracts if (digest := c.preimage_hash)}
        self._scanner = Scanner(
            self.store, self.network, self._recogniser, birth=self.keystore.birth, hashes=hashes
        )
        self.spender = ContractSpender(
            self.store, self.network, self._accounts, randomness=self.randomness
        )

    def info(self) -> WalletInfo:
        """Return what the wallet is."""
        last = self.store.last_anchor()
        return WalletInfo(
            self.name,
            self.network.name,
            self.keystore.watch_only,
            self.locked,
            self.keystore.has_passphrase,
            self.keystore.has_bip39_passphrase,
            self.keystore.birth,
            tuple(self._accounts),
            self._further.found(),
            None if last is None else last[0],
        )

    # Keys

    @property
    def locked(self) -> bool:
        """Whether the wallet cannot sign."""
        return self._secret is None

    def open_secret(self, passphrase: str) -> SpendSecret:
        """Return what `hold_secret` takes; takes a second, by design.

        Raises `WrongPassphraseError`, `WatchOnlyError`, `KeystoreCorruptError`.
        """
        return self.keystore.unlock(passphrase)

    def hold_secret(self, secret: SpendSecret) -> None:
        """Let the wallet sign until it is locked."""
        self._secret = secret

    def unlock(self, passphrase: str) -> None:
        """Let the wallet sign until it is locked; takes a second, by design.

        Raises `WrongPassphraseError`, `WatchOnlyError`, `KeystoreCorruptError`.
        """
        self.hold_secret(self.open_secret(passphrase))

    def lock(self) -> None:
        """Drop every secret that spends."""
        self._secret = None

    def check_signs(self) -> None:
        """Check that the wallet can be unlocked to sign. Raises `WatchOnlyError`."""
        if self.keystore.watch_only:
            raise WatchOnlyError

    def _unlocked(self) -> SpendSecret:
        self.check_signs()
        if self._secret is None:
            raise WalletLockedError
        return self._secret

    def present_keys(self) -> PresentKeys:
        """Return what is sealed anew by a `Resealing`."""
        return PresentKeys(self.keystore, self._further.shown(), self.randomness)

    def replace_keys(self, before: PresentKeys, keystore: Keystore) -> bool:
        """Put keys that were sealed anew in the place of those `before`; False, and nothing is
        done, if they are not what the wallet has any more. Coins that a new account had before
        take a rescan. Raises OSError."""
        if self.present_keys() != before:
            return False
        if self._path is not None:
            keystore.save(self._path)
        self.keystore = keystore
        self._load_keys()
        return True

    def account(self, which: AccountRef = 0) -> WatchAccount:
        """Return an account without its spend key. Raises `NoSuchAccountError`."""
        return self._accounts[self.account_index(which)]

    def account_index(self, which: AccountRef) -> int:
        """Return the number of an account that is told by its number or its name. Raises
        `NoSuchAccountError`."""
        return self.spender.account_index(which)

    def address(self, account: AccountRef = 0) -> str:
        """Return an account's address: short, but payments to it can be linked."""
        return encode_address(self.network, self.account(account).key_hash)

    def paycode(self, account: AccountRef = 0) -> str:
        """Return an account's paycode: payments to it cannot be linked."""
        keys = self.account(account)
        return encode_paycode(Paycode(self.network.chain_id, keys.key_hash, keys.view.public_key))

    def payout(self, account: AccountRef = 0) -> WalletPayout:
        """Return what mines to an account; needs no passphrase."""
        return WalletPayout(self.account(account))

    def export_watch(self) -> str:
        """Return what a watch-only copy of this wallet is made of."""
        keystore, shown = self.keystore, self._further.shown()
        further = tuple(keys for keys in keystore.further if keys.index > shown[-1].index)
        return WatchExport(self.network.chain_id, keystore.birth, shown, further).to_text()

    # The chain

    def advance(self, view: Reader, recent: RecentTransfers | None = None) -> ScanStep:
        """Take in one chunk of what a snapshot of the chain's store has and the wallet has not
        yet seen; the `recent` are not decoded again. Raises `StoreDamagedError`, `StoreError`."""
        before = self._further.found()
        # together: where coins lead to further accounts is found once, as they come
        with self.store.transaction():
            step = self._scanner.advance(view, recent)
            has_more = bool(step.touched) and self._further.note(step.touched)
            if has_more:
                # coins of accounts that are watched only from here on may lie below
                self._scanner.rescan(self.keystore.birth)
        if has_more or self._further.found() != before:
            self._load_keys()
        if has_more:
            step = msgspec.structs.replace(step, progress=self._scanner.progress(view), more=True)
        return step

    def note_changes(self, now_ms: int) -> int:
        """Work out what has happened to history and invoices, and log it; return how many entries
        came to the log."""
        before = self.events.last
        with self.store.transaction():
            self.history_book.note(now_ms)
            self.invoices.note(now_ms)
        return self.events.last - before

    def catch_up(self, view: Reader, now_ms: int = 0) -> ScanProgress:
        """Take in all of a snapshot."""
        while (step := self.advance(view)).more:
            pass
        self.note_changes(now_ms)
        return step.progress

    def progress(self, view: Reader) -> ScanProgress:
        """Return how far the wallet has followed the chain."""
        return self._scanner.progress(view)

    def rescan(self, height: int = 0) -> None:
        """Read the chain again from a height on, while following it."""
        self._scanner.rescan(height)

    def cancel_rescan(self) -> None:
        """Give up reading again; what has been found stays."""
        self._scanner.cancel_rescan()

    def balance(self, account: AccountRef | None = None) -> Balance:
        """Return what an account has, or all of them."""
        index = None if account is None else self.account_index(account)
        return self.store.balance(index, self.spender.mature_below)

    def history(
        self,
        limit: int = 100,
        offset: int = 0,
        *,
        wanted: HistoryFilter = EVERYTHING,
        after: bytes | None = None,
    ) -> list[HistoryEntry]:
        """Return what touched the wallet, what waits first, then from the tip down. Raises
        `NothingKnownError` for an `after` that is not there."""
        self.history_book.note(0)
        return self.history_book.page(wanted, limit, offset=offset, after=after)

    # Signing and sending

    def _key_for(self, key_hash: KeyHash) -> SpendKey | None:
        secret = self._unlocked()
        for index, account in self._accounts.items():
            if account.key_hash == key_hash:
                return secret.account(self.network.chain_id, index).spend
        return None

    def spend_key(self, account: AccountRef) -> SpendKey:
        """Return the key that signs for an account. Raises `WalletLockedError`, `WatchOnlyError`,
        `NoSuchAccountError`."""
        key = self._key_for(self.account(account).key_hash)
        assert key is not None, "it is an account of the wallet"
        return key

    def sign(self, unsigned: Unsigned) -> Unsigned:
        """Add the signatures that the wallet's keys can give, for whoever asks: what it takes out
        of the wallet counts against his limit until it is known when it was sent. Who has a limit
        spends no frozen coin. Raises `WalletLockedError`, `WatchOnlyError`,
        `SpendingLimitError`, `TooManySignedError`, `NoSuchCoinError`."""
        self._unlocked()
        count(unsigned, self.store, self._recogniser, handed_out=True)
        return unsigned.sign(self._key_for, self.randomness)

    def finish(self, prepared: Prepared) -> ProvenTransfer:
        """Sign a transfer that is about to be sent. Raises `WalletLockedError`, `WatchOnlyError`,
        `SpendingLimitError`, `SigningError`."""
        self._unlocked()
        count(prepared.unsigned, self.store, self._recogniser, replaces=prepared.replaces)
        return prepared.unsigned.sign(self._key_for, self.randomness).finish(self.network)

    def summary(self, unsigned: Unsigned) -> Summary:
        """Work out what signing a transfer means, without a chain. Raises `SigningError`."""
        found = self._recogniser.transfer(SizedTransfer.of(unsigned.transfer()), None, 0).found
        accounts = () if self.keystore.watch_only else self._accounts.values()
        own = {account.key_hash for account in accounts}
        names = PayeeBook(self.store, self.network).names()
        labels = {
            contract: self.store.label("contract", contract.lock) for contract in self._contracts()
        }
        return summarize(unsigned, self.network, found, own, labels, names)

    def record(
        self,
        transfer: ProvenTransfer | SizedTransfer,
        now_ms: int,
        *,
        payees: Sequence[Payee] = (),
        proven_payees: Sequence[UnsignedPayee] = (),
        change: int | None = None,
        replaces: bytes = b"",
    ) -> Outgoing:
        """Note a transfer that is about to be sent: its coins are taken from here on.

        `payees` are all whom it pays, in order; `proven_payees` some of them, by their outputs'
        indexes.
        """
        sized = transfer.sized if isinstance(transfer, ProvenTransfer) else transfer
        finds = self._recogniser.transfer(sized, None, now_ms)
        note = OutgoingNote(tuple(payees), change, secrets_of(proven_payees))
        return self.store.put_outgoing(sized, note, finds, now_ms, replaces=replaces)

    def payees_in(self, unsigned: Unsigned) -> tuple[Payee, ...]:
        """Return whom a transfer pays as its file names and proves it, and as the address book
        calls them; what comes back to the wallet is left out, unless the file names it as a
        payment. Raises `SigningError` where an output does not pay whom the file names."""
        transfer = unsigned.transfer()
        names = PayeeBook(self.store, self.network).names()
        named = {
            paid.index: Payee(
                paid.payee,
                unsigned.outputs[paid.index].value,
                unsigned.memo_of(paid, self.network),
                names.get(paid.payee, ""),
            )
            for paid in unsigned.payees
        }
        found = self._recogniser.transfer(SizedTransfer.of(transfer), None, 0).found
        return payees_of(transfer, named, {coin.index for coin in found} - named.keys())

    def keep_payees(self, unsigned: Unsigned) -> None:
        """Keep whom a transfer pays that may be sent by somebody else: the chain shows locks alone.
        Raises `SigningError`."""
        sized = SizedTransfer.of(unsigned.transfer())
        if self.touches(sized):
            note = OutgoingNote(self.payees_in(unsigned), None, secrets_of(unsigned.payees))
            self.store.keep_payees(sized.txid, note)

    def touches(self, transfer: SizedTransfer) -> bool:
        """Return whether a transfer spends a coin of the wallet or brings it one."""
        finds = self._recogniser.transfer(transfer, None, 0)
        return bool(finds.found or self.store.known_coins(finds.spends))

    def abandon(self, txid: bytes) -> tuple[Txid, ...]:
        """Take the coins of a waiting transfer back. It may still be included if a node has it.

        Returns the waiting transfers of the wallet that spend what it would have brought back, and
        so cannot come either, by txid. Raises `NoSuchTransferError`.
        """
        with self.store.transaction():
            self.store.abandon(txid)
            expected = self.store.expected()
            self.store.settle()
            return tuple(sorted(expected - self.store.expected()))

    def label(self, kind: str, key: bytes, text: str) -> None:
        """Label a coin, a transfer or a contract of the wallet; an empty text takes the label away.

        Raises `NothingKnownError`.
        """
        with self.store.transaction():
            if text and not self.store.knows(kind, key):
                raise NothingKnownError(kind, key)
            self.store.set_label(kind, key, text)

    # Contracts

    def _contracts(self) -> list[Contract]:
        return [Contract(self.network.chain_id, row[1], row[2]) for row in self.store.contracts()]

    def add_contract(
        self, contract: Contract, now_ms: int, *, label: str = "", preimage: bytes | None = None
    ) -> None:
        """Watch a contract from here on; coins that it has already take a rescan.

        Raises `ContractError` for one of another network, or a preimage that does not fit it.
        """
        if contract.chain_id != self.network.chain_id:
            raise ContractError(f"the contract is of another network, expected {self.network.name}")
        if preimage is not None:
            contract.check_preimage(preimage)
        lock = contract.lock
        with self.store.transaction():
            self.store.put_contract(lock, contract.condition, contract.salt, now_ms)
            if preimage is not None:
                self.store.put_preimage(lock, preimage)
            if label:
                self.store.set_label("contract", lock, label)
        self._load_keys()

    def contracts(self) -> list[WatchedContract]:
        """Return the contracts that the wallet is party to, with their coins; a preimage that is
        known of one is known of every other with its hash."""
        rows = self.store.contracts()
        known = {hashlib.sha256(preimage).digest(): preimage for *_, preimage in rows if preimage}
        return [
            WatchedContract(
                contract := Contract(self.network.chain_id, condition, salt),
                tuple(self.store.coins_at(lock)),
                known.get(contract.preimage_hash or b""),
                *self.store.contract_label(lock),
            )
            for lock, condition, salt, _ in rows
        ]

    def contract(self, lock: bytes) -> WatchedContract:
        """Return one contract by its lock. Raises `ContractError`."""
        for watched in self.contracts():
            if watched.contract.lock == lock:
                return watched
        raise ContractError(f"the wallet is party to no contract {lock.hex()}")

    @told_as_damage()
    def claim(
        self,
        lock: bytes,
        fee: Fee,
        *,
        preimage: bytes | None = None,
        coins: Sequence[bytes] | None = None,
        race: Race = ALONE,
    ) -> Prepared:
        """Take what a hash-time-lock holds, by its preimage: the one given, or the one known.

        Of what is raised see `ContractSpender.claim`.
        """
        watched = self.contract(lock)
        known = preimage if preimage is not None else watched.preimage
        return self.spender.claim(watched.contract, fee, known, named=coins, race=race)

    def refund(
        self, lock: bytes, fee: Fee, *, coins: Sequence[bytes] | None = None, tip_height: int = 0
    ) -> Prepared:
        """Take back what a hash-time-lock holds, once its height is reached. Raises what
        `ContractSpender.from_contract` does."""
        watched = self.contract(lock)
        if watched.contract.preimage_hash is None:
            raise ContractError("only a hash-time-lock can be refunded")
        return self.spender.from_contract(watched.contract, fee, named=coins, tip_height=tip_height)

    def __repr__(self) -> str:
        return f"<Wallet {self.name}>"
