"""The wallets of one node: made, restored, rescanned, and what they send.

Callers ask the manager for a wallet by its name, from any task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from unchained.node.consensus.policy import MIN_FEE_RATE
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.wallet.contracts import Contract
from unchained.node.wallet.errors import SigningError, TransferRefusedError
from unchained.node.wallet.keystore import (
    Keystore,
    SpendSecret,
    new_secret,
    save_new,
    wallet_names,
)
from unchained.node.wallet.receipts import make_receipt
from unchained.node.wallet.records import Outgoing, Payee, ScanProgress
from unchained.node.wallet.spender import Fee, Prepared
from unchained.node.wallet.unsigned import Unsigned
from unchained.node.wallet.wallet import Wallet, WalletInfo, WatchExport
from unchained.node.wallet.wallet_follower import WalletFollower


class WalletStatus(msgspec.Struct, frozen=True):
    """One wallet of a directory. `info` and `progress` None while it is closed; `failure` says
    why it is not followed."""

    name: str
    info: WalletInfo | None
    progress: ScanProgress | None
    failure: str


class WalletManager(WalletFollower):
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
        `MnemonicError`, `WalletExistsError`, `BadWalletNameError`, `EmptyPassphraseError`, OSError.
        """
        if birth is None:
            # a reorganisation may yet bring a payment below the present tip
            new = max(self._link.tip.height - self.network.max_reorg, 0)
            birth = 0 if mnemonic is not None else new

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
                cost=self._cost,
                allow_empty=allow_empty,
                randomness=self._randomness,
            )
            save_new(keystore, self._directory, name)
            return secret.mnemonic()

        words = await self._runner.run(make)
        await self.open(name)
        return words

    async def import_watch(self, name: str, text: str) -> None:
        """Make a watch-only wallet of another one's exported view, and open it.

        Raises `KeystoreCorruptError`, `WalletExistsError`, `BadWalletNameError`, OSError.
        """
        exported = WatchExport.from_text(text, self.network)
        keystore = Keystore.watch(self.network, exported.accounts, exported.birth)
        await self._runner.run(save_new, keystore, self._directory, name)
        await self.open(name)

    async def wallets(self) -> list[WalletStatus]:
        """Return the wallets of the directory, open or not."""
        names = await self._runner.run(wallet_names, self._directory)
        found = []
        for name in sorted({*names, *self._open}):
            entry = self._open.get(name)
            found.append(
                WalletStatus(
                    name,
                    None if entry is None else entry.wallet.info(),
                    None if entry is None else entry.progress,
                    "" if entry is None else entry.failure,
                )
            )
        return found

    async def rescan(self, name: str, height: int = 0) -> None:
        """Read the chain again from a height on; `wallets` shows how far it is."""
        await self.call(name, lambda wallet: wallet.rescan(height))
        self._wake.set()

    async def cancel_rescan(self, name: str) -> None:
        """Give up reading again; what has been found stays."""
        await self.call(name, Wallet.cancel_rescan)

    # Sending

    def fee(self, rate: int | None = None, target: int | None = None) -> Fee:
        """Return a fee as asked for, or at what the mempool takes at present."""
        least = max(MIN_FEE_RATE, math.ceil(self._link.tip.min_fee_rate))
        return Fee(least if rate is None else rate, target)

    async def send(
        self,
        name: str,
        payees: Sequence[Payee],
        fee: Fee | None = None,
        *,
        account: int = 0,
        coins: Sequence[bytes] | None = None,
    ) -> Outgoing:
        """Pay, and return the transfer that the node has taken.

        Cancelled before that, it may still be sent later. Raises `SpendingError`,
        `WalletLockedError`, `WatchOnlyError`, `TransferRefusedError` (then the coins are free
        again).
        """
        chosen = fee or self.fee()
        return await self._dispatch(
            name,
            lambda wallet: wallet.spender.pay(payees, chosen, account=account, coins=coins),
        )

    async def sweep(
        self, name: str, to: str, fee: Fee | None = None, *, account: int = 0, memo: bytes = b""
    ) -> list[Outgoing]:
        """Pay all of an account's coins to one payee, in as many transfers as it takes."""
        chosen = fee or self.fee()
        prepared = await self.call(
            name, lambda wallet: wallet.spender.sweep(to, chosen, account=account, memo=memo)
        )
        return [await self._send_prepared(name, step) for step in prepared]

    async def consolidate(
        self, name: str, fee: Fee | None = None, *, account: int = 0, below: int | None = None
    ) -> list[Outgoing]:
        """Join an account's coins, the smallest first, into few."""
        chosen = fee or self.fee()
        prepared = await self.call(
            name, lambda wallet: wallet.spender.consolidate(chosen, account=account, below=below)
        )
        return [await self._send_prepared(name, step) for step in prepared]

    async def bump_fee(self, name: str, txid: bytes, fee: Fee) -> Outgoing:
        """Replace a waiting transfer by one that pays more."""
        return await self._dispatch(name, lambda wallet: wallet.spender.bump(txid, fee))

    async def abandon(self, name: str, txid: bytes) -> None:
        """Take the coins of a waiting transfer back."""
        await self.call(name, lambda wallet: wallet.abandon(txid))

    async def claim(
        self, name: str, lock: bytes, fee: Fee | None = None, *, preimage: bytes | None = None
    ) -> Outgoing:
        """Take what a hash-time-lock holds, by its preimage."""
        chosen = fee or self.fee()
        return await self._dispatch(
            name, lambda wallet: wallet.claim(lock, chosen, preimage=preimage)
        )

    async def refund(self, name: str, lock: bytes, fee: Fee | None = None) -> Outgoing:
        """Take back what a hash-time-lock holds, once its height is reached."""
        chosen = fee or self.fee()
        return await self._dispatch(name, lambda wallet: wallet.refund(lock, chosen))

    async def add_contract(
        self, name: str, contract: Contract, *, label: str = "", preimage: bytes | None = None
    ) -> None:
        """Watch a contract from here on."""
        now_ms = self._clock.now_ms()
        await self.call(
            name,
            lambda wallet: wallet.add_contract(contract, now_ms, label=label, preimage=preimage),
        )

    async def broadcast(self, name: str, files: Sequence[bytes]) -> Outgoing:
        """Send a transfer from files that signers have handed back: copies are merged.

        Raises `SigningError`, `TransferRefusedError`.
        """

        now_ms = self._clock.now_ms()

        def record(wallet: Wallet) -> tuple[ProvenTransfer, Outgoing]:
            if not files:
                raise SigningError("no file to send")
            first, *others = (Unsigned.from_file(raw, self.network) for raw in files)
            proven = first.merge(others).finish(self.network)
            return proven, wallet.record(proven, now_ms)

        return await self._submit(name, *await self.call(name, record))

    async def _dispatch(self, name: str, make: Callable[[Wallet], Prepared]) -> Outgoing:
        """Make, sign and note a transfer in one piece of work, then send it."""
        now_ms = self._clock.now_ms()

        def work(wallet: Wallet) -> tuple[ProvenTransfer, Outgoing]:
            prepared = make(wallet)
            proven = wallet.finish(prepared)
            outgoing = wallet.record(
                proven,
                now_ms,
                payees=prepared.payees,
                change=prepared.change,
                replaces=prepared.replaces,
            )
            return proven, outgoing

        return await self._submit(name, *await self.call(name, work))

    async def _send_prepared(self, name: str, prepared: Prepared) -> Outgoing:
        return await self._dispatch(name, lambda _wallet: prepared)

    async def _submit(self, name: str, proven: ProvenTransfer, outgoing: Outgoing) -> Outgoing:
        try:
            await self._link.submit(proven)
        except TransferRefusedError:
            self.refused += 1
            await self.call(name, lambda wallet: wallet.store.forget_outgoing(outgoing.txid))
            raise
        self.sent += 1
        self._log.info(
            "wallet.sent",
            wallet=name,
            txid=outgoing.txid.hex(),
            fee=outgoing.fee,
            size=outgoing.size,
        )
        return outgoing

    async def receipt(self, name: str, txid: bytes, *, anchors: int = 64) -> bytes:
        """Return a file that proves a transfer to anyone without a node.

        Raises `ReceiptError` if the transfer is not on the chain.
        """
        self._entry(name)

        def make() -> bytes:
            with self._link.snapshot() as view:
                return make_receipt(view, self.network, txid, anchors=anchors)

        return await self._runner.run(make)
