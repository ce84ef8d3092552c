"""What the wallet's methods take and give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import MAX_MEMO, PAYCODE_CHARS_MAX
from unchained.node.primitives.conditions import HashTimeLockCondition, MultisigCondition
from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.wallet.contracts import Contract
from unchained.node.wallet.keystore import MAX_ACCOUNTS
from unchained.node.wallet.manager import Gathered
from unchained.node.wallet.payment_request import (
    LABEL_CHARS_MAX,
    SCHEME,
    URI_CHARS_MAX,
    PaymentRequest,
)
from unchained.node.wallet.records import (
    HistoryEntry,
    Origin,
    Outgoing,
    OutgoingState,
    Payee,
    ScanProgress,
    WalletCoin,
)
from unchained.node.wallet.summary import Summary, fingerprint_of
from unchained.node.wallet.wallet import WalletInfo, WatchedContract

WalletName = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="which wallet"),
]
AccountCount = Annotated[int, msgspec.Meta(ge=1, le=MAX_ACCOUNTS)]
Label = Annotated[str, msgspec.Meta(max_length=LABEL_CHARS_MAX)]
Memo = Annotated[str, msgspec.Meta(max_length=MAX_MEMO)]
PayeeText = Annotated[str, msgspec.Meta(min_length=1, max_length=URI_CHARS_MAX)]
PartyText = Annotated[str, msgspec.Meta(min_length=1, max_length=PAYCODE_CHARS_MAX)]
Account = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1, description="account of the wallet")]
FeeRate = Annotated[
    int, msgspec.Meta(ge=1, le=1_000_000, description="grains per byte of size (Protocol §8.2)")
]

OriginName = Literal["minted", "address", "paycode", "contract"]
_ORIGINS: Mapping[Origin, OriginName] = {
    Origin.MINTED: "minted",
    Origin.ADDRESS: "address",
    Origin.PAYCODE: "paycode",
    Origin.CONTRACT: "contract",
}
StateName = Literal["waiting", "included", "abandoned", "replaced", "conflict"]
_STATES: Mapping[OutgoingState, StateName] = {
    OutgoingState.WAITING: "waiting",
    OutgoingState.ABANDONED: "abandoned",
    OutgoingState.REPLACED: "replaced",
    OutgoingState.CONFLICT: "conflict",
}


@user_text(
    """One payee: an address, a paycode, a contract's text, a lock, or a payment URI, which may
    name amount and memo itself. A memo takes a paycode."""
)
class Payment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payee: PayeeText
    amount: Amount | None = None
    memo: Memo = ""

    def resolve(self, network: Network) -> Payee:
        """Return the payee. Raises `RequestError`, InvalidParams where no amount is named."""
        payee, amount, memo = self.payee, self.amount, self.memo
        if payee[: len(SCHEME)].lower() == SCHEME:
            request = PaymentRequest.from_uri(network, payee)
            payee, memo = request.payee, memo or request.memo
            if amount is None and request.value is not None:
                amount = Amount(request.value)
        if amount is None:
            raise InvalidParamsError("a payment needs an amount")
        return Payee(payee, int(amount), memo.encode())


@user_text(
    """How far a wallet has followed the chain. `rescan_next` is the height that a rescan reads
    next."""
)
class WalletProgress(msgspec.Struct, frozen=True):
    height: int
    tip_height: int
    caught_up: bool
    rescan_from: int | None
    rescan_next: int | None

    @classmethod
    def of(cls, progress: ScanProgress) -> WalletProgress:
        """Describe a wallet's progress."""
        return cls(
            progress.height,
            progress.tip_height,
            progress.caught_up,
            progress.rescan_from,
            progress.rescan_next,
        )


@user_text(
    """A wallet of the node. Of a closed one only the name is known; it has no coins below
    `birth_height`; `failure` says why an open one is not followed. With `has_bip39_passphrase` the
    mnemonic alone does not bring it back (missing where the file does not tell)."""
)
class WalletEntry(msgspec.Struct, frozen=True):
    wallet: str
    open: bool
    locked: bool | None
    watch_only: bool | None
    has_passphrase: bool | None
    has_bip39_passphrase: bool | None
    birth_height: int | None
    accounts: list[int]
    progress: WalletProgress | None
    failure: str

    @classmethod
    def of(
        cls, name: str, info: WalletInfo | None, progress: ScanProgress | None, failure: str
    ) -> WalletEntry:
        """Describe a wallet."""
        return cls(
            name,
            info is not None,
            None if info is None else info.locked,
            None if info is None else info.watch_only,
            None if info is None else info.has_passphrase,
            None if info is None else info.has_bip39_passphrase,
            None if info is None else info.birth,
            [] if info is None else list(info.accounts),
            None if progress is None else WalletProgress.of(progress),
            failure,
        )


@user_text("A wallet that was made. Write the mnemonic down: it is shown this once.")
class Created(msgspec.Struct, frozen=True):
    wallet: str
    mnemonic: str


@user_text(
    """A wallet's words. With `has_bip39_passphrase` they do not bring it back alone: the BIP 39
    passphrase that it was restored with is needed as well."""
)
class Mnemonic(msgspec.Struct, frozen=True):
    words: str
    has_bip39_passphrase: bool


@user_text(
    """Where an account is paid: `text` is the address or paycode, `uri` a payment URI with it,
    `fingerprint` what a payer compares who is shown a text that is too long to compare."""
)
class Receiving(msgspec.Struct, frozen=True):
    text: str
    uri: str
    fingerprint: str


@user_text(
    """What a wallet has, contracts apart. `confirmed` can be spent in the next anchor, but for
    its `frozen` part; `immature` was mined too lately; `leaving` is spent by a transfer that
    waits; `pending` is what waiting transfers bring; `total` all of its coins on the chain."""
)
class BalanceInfo(msgspec.Struct, frozen=True):
    confirmed: Amount
    frozen: Amount
    immature: Amount
    leaving: Amount
    pending: Amount
    total: Amount


@user_text(
    """A coin of a wallet. `height` is missing while its transfer waits; `confirmations` counts
    votes; `leaving`: a waiting transfer spends it."""
)
class OwnCoin(msgspec.Struct, frozen=True):
    id: Hash
    account: int
    origin: OriginName
    amount: Amount
    lock: Hash
    txid: Hash | None
    index: int
    height: int | None
    confirmations: int
    time: int
    spent_height: int | None
    spent_by: Hash | None
    frozen: bool
    leaving: bool
    memo: str
    label: str

    @classmethod
    def of(cls, coin: WalletCoin, label: str, confirmations: int) -> OwnCoin:
        """Describe a coin."""
        return cls(
            Hash(coin.coin_id),
            coin.account,
            _ORIGINS[coin.origin],
            Amount(coin.value),
            Hash(coin.lock),
            Hash(coin.txid) if coin.txid else None,
            coin.index,
            coin.height,
            confirmations,
            coin.time_ms,
            coin.spent_height,
            Hash(coin.spent_by) if coin.spent_by else None,
            coin.frozen,
            coin.leaving,
            memo_text(coin.memo),
            label,
        )


@user_text("Whom a transfer paid. A memo that is no text is in hex.")
class Paid(msgspec.Struct, frozen=True):
    payee: str
    amount: Amount
    memo: str


@user_text(
    "A minted coin (`id` is its own) or a transfer (`id` is its txid) that touched a wallet."
)
class HistoryItem(msgspec.Struct, frozen=True):
    id: Hash
    minted: bool
    height: int | None
    confirmations: int
    time: int
    received: Amount
    sent: Amount
    fee: Amount | None
    label: str
    payees: list[Paid]
    memos: list[str]

    @classmethod
    def of(cls, entry: HistoryEntry, confirmations: int) -> HistoryItem:
        """Describe an entry."""
        return cls(
            Hash(entry.key),
            entry.minted,
            entry.height,
            confirmations,
            entry.time_ms,
            Amount(entry.received),
            Amount(entry.sent),
            None if entry.fee is None else Amount(entry.fee),
            entry.label,
            [_paid(payee) for payee in entry.payees],
            [memo_text(memo) for memo in entry.memos],
        )


@user_text("A transfer that was given up, and the waiting ones that spent its change: `lost`.")
class Abandoned(msgspec.Struct, frozen=True):
    txid: Hash
    lost: tuple[Hash, ...]


@user_text("A transfer of a wallet that the node has taken. `size` as fee rates count it.")
class Sent(msgspec.Struct, frozen=True):
    txid: Hash
    wid: Hash
    fee: Amount
    size: int
    status: StateName
    replaces: Hash | None
    payees: list[Paid]

    @classmethod
    def of(cls, outgoing: Outgoing) -> Sent:
        """Describe a transfer."""
        return cls(
            Hash(outgoing.txid),
            Hash(outgoing.wid),
            Amount(outgoing.fee),
            outgoing.size,
            "included" if outgoing.height is not None else _STATES[outgoing.state],
            Hash(outgoing.replaces) if outgoing.replaces else None,
            [_paid(payee) for payee in outgoing.payees],
        )


@user_text("A transfer that the node did not take, and why: its coins are free again.")
class RefusedInfo(msgspec.Struct, frozen=True):
    txid: Hash
    error: str
    reason: str


@user_text(
    """What came of a sweep or a consolidation. `left` is in coins that could be spent and were not:
    they are worth less than their fee, or more than fit at a time."""
)
class GatheredInfo(msgspec.Struct, frozen=True):
    sent: list[Sent]
    refused: list[RefusedInfo]
    left: Amount

    @classmethod
    def of(cls, gathered: Gathered) -> GatheredInfo:
        """Describe what came of it."""
        return cls(
            [Sent.of(outgoing) for outgoing in gathered.sent],
            [RefusedInfo(Hash(step.txid), step.rule, step.why) for step in gathered.refused],
            Amount(gathered.left),
        )


@user_text(
    """An output of a transfer to be signed. `own`: it comes back to the wallet, which alone can
    spend it. `payee` is whom the file shows that it pays, missing where it names nobody;
    `fingerprint` stands for all of that text; `terms` is what spends it if it lies under a
    contract."""
)
class UnsignedOutput(msgspec.Struct, frozen=True):
    amount: Amount
    lock: Hash
    own: bool
    payee: str | None
    fingerprint: str | None
    terms: str | None
    memo: str


@user_text(
    """A transfer to be signed: the content of its file, and what signing it means. `signed_by`
    and `can_sign` are key hashes: of the signatures so far, and of this wallet's keys."""
)
class UnsignedTransfer(msgspec.Struct, frozen=True):
    file: Hex
    spent: Amount
    fee: Amount
    lock_height: int
    outputs: list[UnsignedOutput]
    can_sign: list[Hash]
    signed_by: list[Hash]

    @classmethod
    def of(cls, file: bytes, summary: Summary) -> UnsignedTransfer:
        """Describe a transfer by the wallet's summary of it."""
        return cls(
            Hex(file),
            Amount(summary.spent),
            Amount(summary.fee),
            summary.lock_height,
            [
                UnsignedOutput(
                    Amount(output.value),
                    Hash(output.lock),
                    output.own,
                    output.payee or None,
                    output.fingerprint or None,
                    output.terms or None,
                    memo_text(output.memo),
                )
                for output in summary.outputs
            ],
            [Hash(key) for key in summary.can_sign],
            [Hash(key) for key in summary.signed_by],
        )


@user_text(
    """A condition shared with others. `text` is what the other parties need, and whom to pay to
    fund it. m-of-n has `threshold` and `key_hashes`; a hash-time-lock `hash`, the key hashes
    `claim` and `refund`, `refund_height` and, once it is known, the `preimage`."""
)
class ContractInfo(msgspec.Struct, frozen=True):
    kind: Literal["multisig", "hash-time-lock"]
    text: str
    fingerprint: str
    lock: Hash
    label: str
    amount: Amount
    coins: int
    threshold: int | None
    key_hashes: list[Hash] | None
    hash: Hash | None
    claim: Hash | None
    refund: Hash | None
    refund_height: int | None
    preimage: Hash | None

    @classmethod
    def of(cls, watched: WatchedContract) -> ContractInfo:
        """Describe a contract."""
        contract: Contract = watched.contract
        terms = contract.terms
        multisig = terms if isinstance(terms, MultisigCondition) else None
        timed = terms if isinstance(terms, HashTimeLockCondition) else None
        return cls(
            "hash-time-lock" if multisig is None else "multisig",
            contract.to_text(),
            fingerprint_of(contract.to_text()),
            Hash(contract.lock),
            watched.label,
            Amount(watched.value),
            len(watched.coins),
            None if multisig is None else multisig.threshold,
            None if multisig is None else [Hash(key) for key in multisig.key_hashes],
            None if timed is None else Hash(timed.hash),
            None if timed is None else Hash(timed.claim_key_hash),
            None if timed is None else Hash(timed.refund_key_hash),
            None if timed is None else timed.height,
            None if watched.preimage is None else Hash(watched.preimage),
        )


def memo_text(memo: bytes) -> str:
    """Return a memo as text, in hex where it is none."""
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return memo.hex()


def _paid(payee: Payee) -> Paid:
    return Paid(payee.payee, Amount(payee.value), memo_text(payee.memo))
