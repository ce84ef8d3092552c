"""Whom mined coins pay: an address from the settings, or a wallet of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from unchained.node.base.terminal_text import ends
from unchained.node.consensus.params import Network
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.addresses import PayeeError, address_lock, decode_address
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.wallet.errors import WalletError
from unchained.node.wallet.keystore import (
    DEFAULT_WALLET,
    Keystore,
    new_secret,
    wallet_path,
)
from unchained.node.wallet.new_wallet import save_new

MINING_WALLET: Final = "mining"
"""The wallet that a node makes for what it mines before it has a default wallet."""


class PayoutError(Exception):
    """Mined coins cannot be paid as the settings say, or to a wallet of the node."""


class FixedPayout:
    """Pays one lock, as an address says: linkable (Protocol §9)."""

    def __init__(self, lock: Lock, payee: str = "a lock") -> None:
        self._lock = lock
        self.payee = payee
        """Whom it pays, for people."""

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        """Return the lock."""
        return self._lock


class Accounts(Protocol):
    """The wallets whose accounts can be paid."""

    def account(self, name: str) -> WatchAccount | None:
        """Return the first account of a wallet, None if there is no such wallet."""

    def name_of(self, account: WatchAccount) -> str | None:
        """Return the name of the open wallet whose first account that is, None if none is."""

    def is_deleted(self, name: str) -> bool:
        """Return whether the last wallet of that name was deleted."""


class AccountPayout:
    """Pays an account under a new lock for each time: unlinkable until spent (Protocol §9).

    That is the account of the default wallet, as soon as there is one, and as long as there is
    none the last one that it was, whatever its wallet is called by then: at first `account`. With
    None it pays nobody until then. In place of the account of a wallet that was deleted that of
    the wallet `mining` is paid, if there is one.
    """

    def __init__(
        self, account: WatchAccount | None, wallets: Accounts, name: str = MINING_WALLET
    ) -> None:
        """`name` is that of the account's wallet, empty where there is no account."""
        self._account = account
        self._wallets = wallets
        self._name = name

    @property
    def payee(self) -> str:
        """Whom it pays, for people."""
        self._follow()
        if self._account is None:
            return "nobody"
        is_gone = self._wallets.is_deleted(self._name)
        return f"{'the deleted ' if is_gone else ''}wallet {self._name}"

    def _follow(self) -> None:
        default = self._wallets.account(DEFAULT_WALLET)
        if default is not None:
            self._account, self._name = default, DEFAULT_WALLET
            return
        if self._account is None:
            return
        called = self._wallets.name_of(self._account)
        if called is not None:
            self._name = called
        elif self._wallets.is_deleted(self._name):
            # where there is none, the words of the deleted one bring back what it is paid
            mining = self._wallets.account(MINING_WALLET)
            if mining is not None:
                self._account, self._name = mining, MINING_WALLET

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        """Return the mining lock of a parent and a time. Raises `PayoutError` if there is no
        account."""
        self._follow()
        if self._account is None:
            raise PayoutError("this node mines to nobody: name an address, or create a wallet")
        return self._account.mining_lock(parent, time_ms)


def payout_to(address: str, network: Network) -> FixedPayout:
    """Return what pays an address. Raises `PayoutError`."""
    try:
        return FixedPayout(address_lock(decode_address(network, address)), address)
    except PayeeError as error:
        raise PayoutError(f"payout {ends(address, 90, 24, 6)}: {error}") from None


def wallet_account(directory: Path, network: Network) -> tuple[WatchAccount | None, str]:
    """Return the first account of the default wallet of a directory of wallets, else of
    the wallet `mining`, and that wallet's name; if there is neither, None and an empty name.

    Raises `PayoutError` for a wallet that cannot be read.
    """
    for name in (DEFAULT_WALLET, MINING_WALLET):
        path = wallet_path(directory, name)
        try:
            keystore = Keystore.load(path, network)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PayoutError(f"{path}: {error.strerror}") from None
        except WalletError as error:
            raise PayoutError(f"payout: {path.parent}: {error}") from None
        return keystore.accounts[0].account(network.chain_id), name
    return None, ""


def new_mining_wallet(directory: Path, network: Network, birth: int) -> WatchAccount:
    """Make the wallet `mining`, without a passphrase, and return its account.

    Anyone who has its file has its coins. Raises `PayoutError`.
    """
    keystore = Keystore.create(network, new_secret(), "", birth=birth, allow_empty=True)
    try:
        save_new(keystore, directory, MINING_WALLET)
    except OSError as error:
        raise PayoutError(f"{directory}: {error.strerror}") from None
    except WalletError as error:
        raise PayoutError(f"payout: {error}") from None
    return keystore.accounts[0].account(network.chain_id)
