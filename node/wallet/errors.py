"""What can go wrong with a wallet. No message holds a secret.

WalletError
├── NoSuchWalletError             no wallet of that name
├── WalletClosedError             the wallet is there, but closed
├── WalletExistsError             a wallet of that name is there already
├── FileInTheWayError             a file of a wallet that is gone is there already
├── BadWalletNameError            a name that no wallet may have
├── WalletLockedError             it needs the spend key: unlock the wallet
├── WatchOnlyError                the wallet has no spend key at all
├── KeystoreError
│   ├── KeystoreCorruptError      the file is damaged, or of another version
│   ├── WrongPassphraseError      the file is sound, the passphrase does not open it
│   ├── EmptyPassphraseError      no passphrase, and that was not asked for
│   └── OtherNetworkWalletError   a wallet of another network
├── StoreDamagedError             the file of what the wallet knows is damaged
├── StoreUnavailableError         that file cannot be read or written at present
├── AccountLimitError             more accounts than a wallet can have
├── BadBirthError                 a height that the chain has not reached
├── NoSuchAccountError            an account that the wallet does not have
├── NoSuchCoinError               a coin that the wallet does not have, or cannot spend
├── NoSuchTransferError           a transfer that the wallet did not make, or that is settled
├── RequestReusedError            an id of a request under which something else was asked
├── StillWaitingError             a transfer that the mempool has cannot be abandoned
├── NothingKnownError             a label for what the wallet does not know
├── EventsForgottenError          entries of the log that are not kept any more, or never were
├── InvoiceError                  an invoice that is not there, there already, or paid
├── SpendingError
│   ├── UntoldError               any of these, told to whom may not know what there is
│   ├── BadPaymentError           an amount, payee, memo or fee that makes no transfer
│   │   └── LowFeeError           a fee with which no node relays the transfer
│   ├── HighFeeError              a fee so high that it looks like a mistake
│   ├── FeeAboveMaxError          a higher fee than whoever pays has agreed to
│   ├── InsufficientFundsError    the coins do not suffice
│   ├── SpendingLimitError        more than whoever asks may spend in a day
│   ├── TooManySignedError        more signatures that nobody has used than are counted
│   ├── ConsolidationNeededError  it would take more coins than one transfer holds: consolidate
│   └── NothingToDoError          a sweep or consolidation that no coin is worth
├── ContractError                 a condition shared with others that is malformed or does not apply
├── SigningError                  an unsigned file that is malformed, lies, or lacks signatures
├── PaymentRequestError           a payment URI that is malformed
├── ReceiptError                  a receipt that is malformed or does not prove what it says
├── SignedMessageError            a signed message that is malformed, altered, or somebody else's
├── ReserveProofError             a reserve proof that cannot be made or does not hold
├── PayeeBookError              a name that is none, or that is taken
├── NoSuchPayeeError              nobody in the address book is called so
├── UnconfirmedPayeeError         whoever had the backup in hand may have written the payee
├── BackupError                   a backup that cannot be made, or of which no wallet can be made
├── StillUnlockedError            a wallet that is to go and is unlocked
├── NotConfirmedError             a wallet that is to go, and nobody confirmed its name
└── TransferRefusedError          the node did not take the transfer; `rule` names why
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from unchained.node.primitives.amounts import shortest

DAMAGED_HINT: Final = (
    "move it away, with the -wal and -shm files beside it, and put back a backup, or rescan: the "
    "coins are found again, labels and contracts are not"
)
"""What a person can do who is told that a wallet's .db file is damaged."""


class WalletError(Exception):
    """Something a wallet cannot do. The message is one line, fit for its user; `word` is for
    programs."""

    word: str = "WALLET_ERROR"
    untold: ClassVar[str] = ""
    """The message where it may not tell what the wallet has, empty where it never does."""

    def without_amounts(self) -> WalletError:
        """Return what is told to whoever may spend and not know what the wallet has: a fee tells
        how many coins it takes."""
        return UntoldError(self) if self.untold else self


class NoSuchWalletError(WalletError):
    """There is no wallet of that name."""

    word = "NO_SUCH_WALLET"

    def __init__(self, name: str) -> None:
        super().__init__(f"no wallet is named {name!r}")


class WalletClosedError(WalletError):
    """The wallet is there, but closed."""

    word = "WALLET_CLOSED"

    def __init__(self, name: str, why: str = "open it first") -> None:
        super().__init__(f"the wallet {name!r} is closed: {why}")


class WalletExistsError(WalletError):
    """A wallet of that name is there already."""

    word = "WALLET_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"a wallet named {name!r} is there already")


class FileInTheWayError(WalletError):
    """A file that belongs to no wallet is where one of a new wallet has to be."""

    word = "FILE_IN_THE_WAY"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is there already, of a wallet whose keys are gone: move it away first"
        )


class BadWalletNameError(WalletError):
    """The name is none that a wallet may have."""

    word = "BAD_WALLET_NAME"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot name a wallet: expected 1 to 64 letters, digits, - or _, "
            "and no - at the beginning"
        )


class WalletLockedError(WalletError):
    """The spend key is needed and the wallet is locked."""

    word = "WALLET_LOCKED"

    def __init__(self) -> None:
        super().__init__("the wallet is locked: unlock it with its passphrase (empty if none)")


class WatchOnlyError(WalletError):
    """The spend key is needed and the wallet never had it."""

    word = "WATCH_ONLY"

    def __init__(self) -> None:
        super().__init__("the wallet is watch-only: sign where the spend key is")


class KeystoreError(WalletError):
    """A wallet's file cannot be used."""

    word = "KEYSTORE_ERROR"


class KeystoreCorruptError(KeystoreError):
    """The file is damaged, cut, or of another version."""

    word = "KEYSTORE_CORRUPT"


class WrongPassphraseError(KeystoreError):
    """The file is sound, but the passphrase does not open it."""

    word = "WRONG_PASSPHRASE"

    def __init__(self) -> None:
        super().__init__("the passphrase is wrong")


class EmptyPassphraseError(KeystoreError):
    """No passphrase was given, and to have none was not asked for."""

    word = "EMPTY_PASSPHRASE"

    def __init__(
        self, why: str = "the passphrase is empty: choose one, or ask for none explicitly"
    ) -> None:
        super().__init__(why)


class OtherNetworkWalletError(KeystoreError):
    """The file is a wallet of another network."""

    word = "OTHER_NETWORK_WALLET"


class StoreDamagedError(WalletError):
    """The file of what the wallet knows is damaged: see `DAMAGED_HINT`."""

    word = "STORE_DAMAGED"


class StoreUnavailableError(WalletError):
    """The file of what the wallet knows cannot be read or written at present: a full disk."""

    word = "STORE_UNAVAILABLE"


class BadBirthError(WalletError):
    """The chain has not reached the height from which a wallet is said to have coins."""

    word = "BAD_BIRTH"

    def __init__(self, birth: int, tip: int) -> None:
        super().__init__(
            f"birth {birth} is a height above the tip's {tip}: wait until the node has caught up, "
            "or name a lower one"
        )


class NoSuchAccountError(WalletError):
    """The wallet has no such account."""

    word = "NO_SUCH_ACCOUNT"

    def __init__(self, which: int | str) -> None:
        super().__init__(f"the wallet has no account {which!r}")


class AccountLimitError(WalletError):
    """A wallet cannot have so many accounts."""

    word = "ACCOUNT_LIMIT"

    def __init__(self, most: int) -> None:
        super().__init__(f"a wallet has 1 to {most} accounts")


class NoSuchCoinError(WalletError):
    """The wallet does not have the coin, or cannot spend it."""

    word = "NO_SUCH_COIN"


class NoSuchTransferError(WalletError):
    """The wallet made no such transfer, or it is settled."""

    word = "NO_SUCH_TRANSFER"


class RequestReusedError(WalletError):
    """Something else was asked under the same id before."""

    word = "REQUEST_REUSED"

    def __init__(self, request_id: str, txid: bytes) -> None:
        super().__init__(
            f"request {request_id!r} was made before with other parameters: it led to transfer "
            f"{txid.hex()}"
        )


class StillWaitingError(WalletError):
    """The mempool has the transfer: it cannot be abandoned."""

    word = "STILL_WAITING"

    def __init__(self, txid: bytes) -> None:
        super().__init__(
            f"the mempool still has transfer {txid.hex()} and will see it mined: replace it by "
            "one that pays more (`wallet bump-fee`)"
        )


class NothingKnownError(WalletError):
    """The wallet knows nothing of that id."""

    word = "NOTHING_KNOWN"

    def __init__(self, kind: str, key: bytes) -> None:
        super().__init__(f"the wallet knows no {kind} {key.hex()}")


class EventsForgottenError(WalletError):
    """The log does not reach back to what was asked for, or never came so far, or is another."""

    word = "EVENTS_GONE"

    def __init__(self, sequence: int, last: int, *, is_other_log: bool = False) -> None:
        why = f"does not go on after {sequence}, its last entry is {last}"
        if is_other_log:
            why = f"is another one than that of entry {sequence}"
        super().__init__(f"the wallet's log {why}: read the state anew, then follow from there")
        self.last = last


class InvoiceError(WalletError):
    """An invoice is not there, is there already, or cannot be changed any more."""

    word = "INVOICE_ERROR"


class SpendingError(WalletError):
    """No transfer can be made as asked."""

    word = "SPENDING_ERROR"


class UntoldError(SpendingError):
    """What was wrong, under the same word, said to whom may not know what there is."""

    def __init__(self, error: WalletError) -> None:
        super().__init__(error.untold)
        self.word = error.word


class BadPaymentError(SpendingError):
    """An amount, payee, memo or fee is none."""

    word = "BAD_PAYMENT"


class LowFeeError(BadPaymentError):
    """No node relays the transfer with that fee."""

    untold = "the fee is too low for nodes to relay the transfer"


class HighFeeError(SpendingError):
    """The fee looks like a mistake. Amounts in grains."""

    word = "HIGH_FEE"
    untold = "the fee looks like a mistake: allow_high_fee if it is meant"

    def __init__(self, fee: int, bound: str) -> None:
        super().__init__(
            f"a fee of {shortest(fee)} UNC is more than {bound} UNC: allow_high_fee if it is meant"
        )


class FeeAboveMaxError(SpendingError):
    """It takes a higher fee than whoever pays has agreed to. Amounts in grains."""

    word = "FEE_ABOVE_MAX"
    untold = "it takes a higher fee than was agreed to"

    def __init__(self, fee: int, most: int, joined: int = 0) -> None:
        out = f"; transfers that join coins for it are sent already: {joined}" if joined else ""
        super().__init__(
            f"it takes a fee of {shortest(fee)} UNC, more than the {shortest(most)} agreed to{out}"
        )
        self.fee, self.most = fee, most


class InsufficientFundsError(SpendingError):
    """The coins that can be spent do not suffice. Amounts in grains."""

    word = "INSUFFICIENT_FUNDS"
    untold = "the wallet's coins do not suffice for the transfer"

    def __init__(self, needed: int, available: int, waits: str = "") -> None:
        """`waits`: what else there is that cannot be spent at present, in words."""
        can = f"{shortest(available)} UNC can be spent{waits and f' ({waits})'}"
        super().__init__(f"the transfer takes {shortest(needed)} UNC, {can}")
        self.needed = needed
        self.available = available


class SpendingLimitError(SpendingError):
    """It is more than whoever asks may spend. Amounts in grains."""

    word = "SPENDING_LIMIT"

    def __init__(self, amount: int, spent: int, limit: int) -> None:
        super().__init__(
            f"the token may spend {shortest(limit)} UNC a day, has spent {shortest(spent)} UNC in "
            "the last 24 hours, counting what it has had signed and no anchor includes yet, and "
            f"this takes {shortest(amount)} UNC"
        )


class TooManySignedError(SpendingError):
    """Whoever asks has had so many transfers signed that no anchor has settled."""

    word = "TOO_MANY_SIGNED"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} transfers that were signed for the token have not settled yet: send them first"
        )


class ConsolidationNeededError(SpendingError):
    """The coins are so small that one transfer does not hold enough of them."""

    word = "TOO_MANY_COINS"
    untold = "the transfer takes more coins than one holds: consolidate the wallet first"

    def __init__(self, needed: int, most: int) -> None:
        super().__init__(
            f"the transfer takes {shortest(needed)} UNC, one of the largest coins holds "
            f"{shortest(most)} UNC: "
            "consolidate the wallet first"
        )
        self.needed = needed
        self.most = most


class NothingToDoError(SpendingError):
    """No coin is worth spending for it."""

    word = "NOTHING_TO_DO"


class ContractError(WalletError):
    """A condition shared with others is malformed, or does not apply."""

    word = "CONTRACT_ERROR"


class SigningError(WalletError):
    """An unsigned transfer is malformed, lies about its coins, or lacks signatures."""

    word = "SIGNING_ERROR"


class PaymentRequestError(WalletError):
    """A payment URI is malformed."""

    word = "REQUEST_ERROR"


class ReceiptError(WalletError):
    """A receipt is malformed, or does not prove what it says."""

    word = "RECEIPT_ERROR"


class SignedMessageError(WalletError):
    """A signed message is malformed, was altered, or is somebody else's."""

    word = "SIGNED_MESSAGE_ERROR"


class ReserveProofError(WalletError):
    """A reserve proof cannot be made, or does not prove what it says."""

    word = "RESERVE_PROOF_ERROR"


class PayeeBookError(WalletError):
    """A name that is none, or that is taken."""

    word = "PAYEE_BOOK_ERROR"


class NoSuchPayeeError(WalletError):
    """Nobody is called so."""

    word = "NO_SUCH_PAYEE"

    def __init__(self, name: str, more: str = "") -> None:
        super().__init__(f"nobody in the address book is called {name[:40]!r}{more}")


class UnconfirmedPayeeError(WalletError):
    """The payee came out of a backup, which others may have altered."""

    word = "PAYEE_UNCONFIRMED"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:40]!r} came out of a backup, which whoever had it in hand can have altered: "
            "compare the fingerprint with the payee's own and confirm it"
        )


class BackupError(WalletError):
    """A backup cannot be made, or no wallet can be made of it."""

    word = "BACKUP_ERROR"


class StillUnlockedError(WalletError):
    """A wallet has to be locked before it goes."""

    word = "STILL_UNLOCKED"

    def __init__(self, name: str) -> None:
        super().__init__(f"the wallet {name!r} is unlocked: lock it first")


class NotConfirmedError(WalletError):
    """What cannot be undone was not confirmed."""

    word = "NOT_CONFIRMED"

    def __init__(self, name: str) -> None:
        super().__init__(f"deleting a wallet takes its name as confirmation: {name!r}")


class TransferRefusedError(WalletError):
    """The node did not take a transfer. `rule` is the rule's or the policy's name."""

    word = "TRANSFER_REFUSED"

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(why)
        self.rule = rule
