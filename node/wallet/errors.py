"""What can go wrong with a wallet. No message holds a secret.

WalletError
├── NoSuchWallet             no wallet of that name
├── WalletClosed             the wallet is there, but closed
├── WalletExists             a wallet of that name is there already
├── BadWalletName            a name that no wallet may have
├── WalletLocked             it needs the spend key: unlock the wallet
├── WatchOnly                the wallet has no spend key at all
├── KeystoreError
│   ├── KeystoreCorrupt      the file is damaged, or of another version
│   ├── WrongPassphrase      the file is sound, the passphrase does not open it
│   ├── EmptyPassphrase      no passphrase, and that was not asked for
│   └── OtherNetworkWallet   a wallet of another network
├── StoreDamaged             the file of what the wallet knows is damaged
├── StoreUnavailable         that file cannot be read or written at present
├── NoSuchAccount            an account that the wallet does not have
├── NoSuchCoin               a coin that the wallet does not have, or cannot spend
├── NoSuchTransfer           a transfer that the wallet did not make, or that is settled
├── SpendingError
│   ├── BadPayment           an amount, payee, memo or fee that makes no transfer
│   ├── InsufficientFunds    the coins do not suffice
│   ├── TooManyCoins         it would take more coins than one transfer holds: consolidate
│   └── NothingToDo          a sweep or consolidation that no coin is worth
├── ContractError            a condition shared with others that is malformed or does not apply
├── SigningError             an unsigned file that is malformed, lies, or lacks signatures
├── RequestError             a payment URI that is malformed
├── ReceiptError             a receipt that is malformed or does not prove what it says
└── TransferRefused          the node did not take the transfer; `rule` names why
"""

from __future__ import annotations


class WalletError(Exception):
    """Something a wallet cannot do. The message is one line, fit for its user."""


class NoSuchWallet(WalletError):
    """There is no wallet of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no wallet is named {name!r}")


class WalletClosed(WalletError):
    """The wallet is there, but closed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the wallet {name!r} is closed: open it first")


class WalletExists(WalletError):
    """A wallet of that name is there already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a wallet named {name!r} is there already")


class BadWalletName(WalletError):
    """The name is none that a wallet may have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} cannot name a wallet: expected 1 to 64 letters, digits, - or _")


class WalletLocked(WalletError):
    """The spend key is needed and the wallet is locked."""

    def __init__(self) -> None:
        super().__init__("the wallet is locked: unlock it with its passphrase")


class WatchOnly(WalletError):
    """The spend key is needed and the wallet never had it."""

    def __init__(self) -> None:
        super().__init__("the wallet is watch-only: sign where the spend key is")


class KeystoreError(WalletError):
    """A wallet's file cannot be used."""


class KeystoreCorrupt(KeystoreError):
    """The file is damaged, cut, or of another version."""


class WrongPassphrase(KeystoreError):
    """The file is sound, but the passphrase does not open it."""

    def __init__(self) -> None:
        super().__init__("the passphrase is wrong")


class EmptyPassphrase(KeystoreError):
    """No passphrase was given, and to have none was not asked for."""

    def __init__(self) -> None:
        super().__init__("the passphrase is empty: choose one, or ask for none explicitly")


class OtherNetworkWallet(KeystoreError):
    """The file is a wallet of another network."""


class StoreDamaged(WalletError):
    """The file of what the wallet knows is damaged. It can be deleted: the chain has it all."""


class StoreUnavailable(WalletError):
    """The file of what the wallet knows cannot be read or written at present: a full disk."""


class NoSuchAccount(WalletError):
    """The wallet has no such account."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the wallet has no account {index}")


class NoSuchCoin(WalletError):
    """The wallet does not have the coin, or cannot spend it."""


class NoSuchTransfer(WalletError):
    """The wallet made no such transfer, or it is settled."""


class SpendingError(WalletError):
    """No transfer can be made as asked."""


class BadPayment(SpendingError):
    """An amount, payee, memo or fee is none."""


class InsufficientFunds(SpendingError):
    """The coins that can be spent do not suffice. Amounts in grains."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"the transfer takes {needed} grains, {available} can be spent")
        self.needed = needed
        self.available = available


class TooManyCoins(SpendingError):
    """The coins are so small that one transfer does not hold enough of them."""

    def __init__(self, needed: int, most: int) -> None:
        super().__init__(
            f"the transfer takes {needed} grains, one of the largest coins holds {most}: "
            "consolidate the wallet first"
        )
        self.needed = needed
        self.most = most


class NothingToDo(SpendingError):
    """No coin is worth spending for it."""


class ContractError(WalletError):
    """A condition shared with others is malformed, or does not apply."""


class SigningError(WalletError):
    """An unsigned transfer is malformed, lies about its coins, or lacks signatures."""


class PaymentRequestError(WalletError):
    """A payment URI is malformed."""


class ReceiptError(WalletError):
    """A receipt is malformed, or does not prove what it says."""


class TransferRefused(WalletError):
    """The node did not take a transfer. `rule` is the rule's or the policy's name."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(why)
        self.rule = rule
