"""The wallets of one node: made, restored, rescanned, and what they are party to and can prove.

Callers ask the manager for a wallet by its name, from any task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from unchained.node.crypto.accounts import WatchAccount
from unchained.node.primitives.types import Lock, Txid
from unchained.node.wallet.contract_spender import Race, driven_out, rivals_at
from unchained.node.wallet.contract_wallet import ContractWallet, contract_wallet
from unchained.node.wallet.contracts import Contract
from unchained.node.wallet.errors import (
    BadBirthError,
    ContractError,
    SpendingError,
    StoreDamagedError,
    TransferRefusedError,
    WalletError,
    WalletLockedError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import (
    Keystore,
    SpendSecret,
    new_secret,
    wallet_names,
)
from unchained.node.wallet.new_wallet import free_name, save_new
from unchained.node.wallet.open_wallet import OpenWallet
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.proofs import prove_payment, prove_reserve
from unchained.node.wallet.records import (
    AccountRef,
    Balance,
    Outgoing,
    ScanProgress,
    WalletInfo,
    WalletsStatistics,
)
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_sender import WalletSender
from unchained.node.wallet.watch_export import WatchExport

_REASONS_NOT_TO_BID: Final = (
    WalletLockedError,
    SpendingError,
    ContractError,
    TransferRefusedError,
)


class WalletStatus(msgspec.Struct, frozen=True):
    """One wallet of a directory. `info` and `progress` None while it is closed; `failure` says
    why it is not followed."""

    name: str
    info: WalletInfo | None
    progress: ScanProgress | None
    failure: str


class WalletManager(WalletSender):
    """The wallets of a directory. `run` has to run for them to follow the chain and to lock."""

    # Making

    async def create(
        self,
        name: str,
        passphrase: str,
        *,
        mnemonic: str | None = None,
        bip39_passphrase: str = "",
        birth: int | None = None,
        accounts: int = 1,
        allow_empty: bool = False,
    ) -> str:
        """Make a wallet, open it, locked, and return its mnemonic, to be written down.

        With a `mnemonic` that one is restored, from height `birth` on, 0 unless given. Raises
        `MnemonicError`, `WalletExistsError`, `FileInTheWayError`, `BadWalletNameError`,
        `EmptyPassphraseError`, `BadBirthError`, OSError.
        """
        if birth is None:
            # a reorganisation may yet bring a payment below the present tip
            new = max(self._link.tip.height - self.network.max_reorg, 0)
            birth = 0 if mnemonic is not None else new
        elif birth > self._link.tip.height:
            raise BadBirthError(birth, self._link.tip.height)

        def make() -> str:
            secret = (
                new_secret(self._randomness)
                if mnemonic is None
                else SpendSecret.of(mnemonic, bip39_passphrase)
            )
            keystore = Keystore.create(
                self.network,
                secret,
                passphrase,
                birth=birth,
                accounts=accounts,
                look_further=mnemonic is not None,
                cost=self._cost,
                allow_empty=allow_empty,
                randomness=self._randomness,
            )
            self._take_name(name, keystore if mnemonic is not None else None)
            save_new(keystore, self._directory, name, may_have_store=mnemonic is not None)
            return secret.mnemonic()

        words = await self.stretch(make)
        await self.open(name)
        return words

    async def check_new(self, name: str, birth: int = 0) -> None:
        """Check whether a wallet could be made or restored under a name, with no coins below a
        height, before anybody is asked for what is secret. Nothing is made. A `.db` that lies in
        its way is found only then, as it may be that of the wallet that is restored.

        Raises `WalletExistsError`, `BadWalletNameError`, `BadBirthError`.
        """
        if birth > self._link.tip.height:
            raise BadBirthError(birth, self._link.tip.height)
        await self._runner.run(free_name, self._directory, name)

    async def import_watch(self, name: str, text: str) -> None:
        """Make a watch-only wallet of another one's exported view, and open it.

        Raises `KeystoreCorruptError`, `WalletExistsError`, `FileInTheWayError`,
        `BadWalletNameError`, OSError.
        """
        exported = WatchExport.from_text(text, self.network)
        keystore = Keystore.watch(self.network, exported.accounts, exported.birth, exported.further)

        def make() -> None:
            self._take_name(name, keystore)
            save_new(keystore, self._directory, name, may_have_store=True)

        await self._runner.run(make)
        await self.open(name)

    async def wallets(self) -> list[WalletStatus]:
        """Return the wallets of the directory, open or not."""
        names = await self._runner.run(wallet_names, self._directory)
        found = []
        for name in sorted({*names, *self._open}):
            entry = self._open.get(name)
            found.append(
                WalletStatus(name, None, None, self._closed.get(name, ""))
                if entry is None
                else _status_of(entry)
            )
        return found

    def statistics(self) -> WalletsStatistics:
        """Return counts since the start, and what is open."""
        entries = self._open.values()
        return WalletsStatistics(
            len(entries),
            sum(not entry.wallet.locked for entry in entries),
            sum(entry.is_behind for entry in entries),
            min((e.progress.reached for e in entries if e.progress is not None), default=None),
            self._anchors,
            self._touched,
            self.sent,
            self._again,
            self.refused,
            self.changes.channel(),
        )

    def name_of(self, account: WatchAccount) -> str | None:
        """Return the name of the open wallet whose first account that is, None if none is."""
        return next(
            (
                name
                for name, entry in self._open.items()
                if entry.wallet.account().key_hash == account.key_hash
            ),
            None,
        )

    async def balance(self, name: str, account: AccountRef | None = None) -> Balance:
        """Return what an account has, or all of them, by all that the chain had as this was called.
        Raises `StoreDamagedError` where the wallet reads no more, and would tell an old sum."""
        return await self.look(name, lambda wallet: wallet.balance(account))

    async def rescan(self, name: str, height: int = 0) -> None:
        """Read the chain again from a height on; `wallets` shows how far it is."""
        await self._read_again(name, lambda wallet: wallet.rescan(height))

    async def cancel_rescan(self, name: str) -> None:
        """Give up reading again; what has been found stays."""
        await self._read_again(name, Wallet.cancel_rescan)

    async def _read_again(self, name: str, work: Callable[[Wallet], None]) -> None:
        """Do work by which a wallet has to read again, or no longer; how far it has come is what
        that makes it, before anybody can ask. One that was given up is tried again."""
        entry = await self._kept_up(name)

        def work_and_look(wallet: Wallet) -> None:
            work(wallet)
            with self._link.snapshot() as view:
                entry.progress = wallet.progress(view)

        await self._on(entry, work_and_look)
        entry.retry_at = -math.inf
        self._wake.set()

    # Contracts

    async def claim(
        self,
        name: str,
        lock: bytes,
        fee: Fee | None = None,
        *,
        preimage: bytes | None = None,
        coins: Sequence[bytes] | None = None,
    ) -> Outgoing:
        """Take what a hash-time-lock holds, by its preimage; near the height of the refund pay to
        be first. Its `warning` says how near that is."""
        return await self._on_present_chain(
            name, lambda entry: self._claim(entry, lock, fee, preimage, coins)
        )

    async def plan_claim(
        self,
        name: str,
        lock: bytes,
        fee: Fee | None = None,
        *,
        preimage: bytes | None = None,
        coins: Sequence[bytes] | None = None,
    ) -> Prepared:
        """Return what `claim` would send now. Raises what it does."""
        entry = await self._kept_up(name)
        await self._on(entry, Wallet.check_signs)
        return await self._on(entry, await self._claiming(entry, lock, fee, preimage, coins))

    async def _claim(
        self,
        entry: OpenWallet,
        lock: bytes,
        fee: Fee | None = None,
        preimage: bytes | None = None,
        coins: Sequence[bytes] | None = None,
    ) -> Outgoing:
        make = await self._claiming(entry, lock, fee, preimage, coins)
        return await self._send_one(entry, make)

    async def _claiming(
        self,
        entry: OpenWallet,
        lock: bytes,
        fee: Fee | None,
        preimage: bytes | None,
        coins: Sequence[bytes] | None,
    ) -> Callable[[Wallet], Prepared]:
        """Return what makes a claim against those who spend the same coins now."""
        chosen = fee or await self.fee()
        rivals = await self._on(entry, lambda wallet: rivals_at(wallet.store, lock, coins))
        bids = await self._link.waiting(dict.fromkeys(txid for _, txid in rivals.spends))
        race = Race(
            msgspec.structs.replace(rivals, bids=bids),
            await self._link.fee_rate(1),
            self._link.tip.height,
        )
        return lambda wallet: wallet.claim(lock, chosen, preimage=preimage, coins=coins, race=race)

    async def _tend(self, entry: OpenWallet) -> None:
        await super()._tend(entry)
        if not entry.failure:
            await self._bid_again(entry)

    def _driven_out(self, wallet: Wallet) -> list[tuple[Txid, Lock]]:
        return driven_out(wallet.store, self._link)

    async def _bid_again(self, entry: OpenWallet) -> None:
        """Make claims again that a refund has driven out of the mempool, for more, as far as the
        fee does not look like a mistake; that takes a wallet that is unlocked."""
        name = entry.wallet.name
        not_bid: dict[bytes, str] = {}
        try:
            for txid, lock in await self._on(entry, self._driven_out):
                try:
                    async with entry.sending:
                        await self._claim(entry, lock)
                except _REASONS_NOT_TO_BID as no:
                    not_bid[txid] = str(no)
                    if entry.not_bid.get(txid) != not_bid[txid]:
                        self._log.warning(
                            "wallet.not_bid_again", wallet=name, txid=txid.hex(), why=str(no)
                        )
        except StoreDamagedError:
            raise  # the wallet is followed no more
        except WalletError as error:
            self._log.warning("wallet.not_bid_again", wallet=name, why=str(error))
        entry.not_bid = not_bid

    async def refund(
        self,
        name: str,
        lock: bytes,
        fee: Fee | None = None,
        *,
        coins: Sequence[bytes] | None = None,
    ) -> Outgoing:
        """Take back what a hash-time-lock holds, once its height is reached."""
        chosen = fee or await self.fee()
        return await self._on_present_chain(
            name,
            lambda entry: self._send_one(
                entry,
                lambda wallet: wallet.refund(
                    lock, chosen, coins=coins, tip_height=self._link.tip.height
                ),
            ),
        )

    async def plan_refund(
        self,
        name: str,
        lock: bytes,
        fee: Fee | None = None,
        *,
        coins: Sequence[bytes] | None = None,
    ) -> Prepared:
        """Return what `refund` would send now. Raises what it does."""
        chosen = fee or await self.fee()

        def plan(wallet: Wallet) -> Prepared:
            wallet.check_signs()
            return wallet.refund(lock, chosen, coins=coins, tip_height=self._link.tip.height)

        return await self.call(name, plan)

    async def add_contract(
        self,
        name: str,
        contract: Contract,
        *,
        label: str = "",
        preimage: bytes | None = None,
        read_again: bool = False,
    ) -> None:
        """Watch a contract from here on; with `read_again` the chain is read again for what was
        paid to it before, from the wallet's birth on, unless the wallet watched it already."""
        now_ms = self._clock.now_ms()

        def work(wallet: Wallet) -> None:
            # together, or one that is watched would never be looked for
            with wallet.store.transaction():
                is_new = all(lock != contract.lock for lock, *_ in wallet.store.contracts())
                wallet.add_contract(contract, now_ms, label=label, preimage=preimage)
                if read_again and is_new:
                    wallet.rescan(wallet.keystore.birth)

        await self._read_again(name, work)

    async def contract(self, name: str, lock: bytes) -> ContractWallet:
        """Return a contract that a wallet is party to, with what it has and where it stands.

        Raises `ContractError`, `StoreDamagedError` where the wallet reads no more.
        """

        def work(wallet: Wallet) -> ContractWallet:
            with self._link.snapshot() as view:
                return contract_wallet(wallet, view, lock)

        return await self.look(name, work)

    # Proofs

    async def receipt(
        self, name: str, txid: bytes, *, anchors: int = 64, payees: Sequence[str] | None = None
    ) -> bytes:
        """Return a file that proves a transfer, and whom it pays, to anyone without a node.

        Raises `ReceiptError` if the transfer is not on the chain, `StoreDamagedError` where the
        wallet reads no more.
        """

        def work(wallet: Wallet) -> bytes:
            with self._link.snapshot() as view:
                return prove_payment(wallet, view, txid, anchors=anchors, payees=payees)

        return await self.look(name, work)

    async def prove_reserve(self, name: str, amount: int, message: bytes) -> bytes:
        """Return a file that shows that a wallet holds so many grains. Raises
        `ReserveProofError`, `WalletLockedError`, `WatchOnlyError`, `StoreDamagedError` where the
        wallet reads no more."""

        def work(wallet: Wallet) -> bytes:
            with self._link.snapshot() as view:
                return prove_reserve(wallet, view, self._link, amount, message).to_file()

        return await self.look(name, work)


def _status_of(entry: OpenWallet) -> WalletStatus:
    name = entry.wallet.name
    try:
        return WalletStatus(name, entry.wallet.info(), entry.progress, entry.failure)
    except WalletError as error:
        return WalletStatus(name, None, None, str(error))
