"""What the wallet's methods take and give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import MAX_MEMO, PAYCODE_CHARS_MAX
from unchained.node.primitives.conditions import HashTimeLockCondition, MultisigCondition
from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.wallet.contracts import Contract
from unchained.node.wallet.orders import Gathered
from unchained.node.wallet.payee_book import NAME_CHARS_MAX
from unchained.node.wallet.payment_request import (
    LABEL_CHARS_MAX,
    SCHEME,
    URI_CHARS_MAX,
    PaymentRequest,
)
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import (
    Origin,
    Outgoing,
    OutgoingState,
    Payee,
    ScanProgress,
    WalletCoin,
    WalletInfo,
    WatchedContract,
)
from unchained.node.wallet.summary import Summary, fingerprint_of
from unchained.node.wallet.unsigned import size_bound
from unchained.node.wallet.wallet_file import MAX_ACCOUNTS

WalletName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="which wallet",
        extra={"expected": "1 to 64 letters, digits, - or _"},
    ),
]
AccountCount = Annotated[int, msgspec.Meta(ge=1, le=MAX_ACCOUNTS)]
Label = Annotated[str, msgspec.Meta(max_length=LABEL_CHARS_MAX)]
Memo = Annotated[
    str,
    # what a payment URI holds; a memo is measured in bytes, where it is sealed
    msgspec.Meta(max_length=URI_CHARS_MAX, description=f"at most {MAX_MEMO} bytes of UTF-8"),
]
PayeeText = Annotated[str, msgspec.Meta(min_length=1, max_length=URI_CHARS_MAX)]
PartyText = Annotated[str, msgspec.Meta(min_length=1, max_length=PAYCODE_CHARS_MAX)]
Account = Annotated[
    Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    | Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)],
    msgspec.Meta(description="account of the wallet: its number or its name"),
]
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
StateName = Literal["planned", "waiting", "included", "abandoned", "replaced", "conflict"]
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
        """Return the payee. Raises `PaymentRequestError`, InvalidParams where no amount is
        named."""
        payee, value, memo = read_payee(network, self.payee, self.memo)
        amount = value if self.amount is None else int(self.amount)
        if amount is None:
            raise InvalidParamsError("a payment needs an amount")
        return Payee(payee, amount, memo)


def read_payee(network: Network, payee: str, memo: str) -> tuple[str, int | None, bytes]:
    """Return whom a text stands for, which may be a payment URI, the grains that it asks for, if
    any, and a memo: the URI's where none is given. Raises `PaymentRequestError`."""
    if payee[: len(SCHEME)].lower() != SCHEME:
        return payee, None, memo.encode()
    request = PaymentRequest.from_uri(network, payee)
    return request.payee, request.value, (memo or request.memo).encode()


@user_text(
    """How far a wallet has followed the chain; `caught_up` says that it follows it, and knows all
    that it has. `rescan_next` is the height that a rescan reads next."""
)
class WalletProgress(msgspec.Struct, frozen=True):
    height: int
    tip_height: int
    caught_up: bool
    rescan_from: int | None
    rescan_next: int | None

    @classmethod
    def of(cls, progress: ScanProgress, *, is_followed: bool = True) -> WalletProgress:
        """Describe the progress of a wallet that follows the chain, or does so no more."""
        return cls(
            progress.height,
            progress.tip_height,
            progress.caught_up and is_followed,
            progress.rescan_from,
            progress.rescan_next,
        )


@user_text(
    """A wallet of the node. Of a closed one only the name is known. `locked` says that it has no
    spend key at hand: one without a passphrase is unlocked with an empty one, a watch-only one
    never. It has no coins below `birth_height`; `failure` says why one is not followed, or could
    not be opened. With `has_bip39_passphrase` the mnemonic alone does not bring it back (missing
    where the file does not tell). `found_accounts` are those of a restored wallet to which coins
    had come, besides the ones it was made with."""
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
    found_accounts: list[int]
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
            [] if info is None else list(info.found_accounts),
            None if progress is None else WalletProgress.of(progress, is_followed=not failure),
            failure,
        )


@user_text("A wallet that was made. Write the mnemonic down: whoever has it has the coins.")
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


@user_text(
    """Whom a transfer paid. A memo that is no text is in hex; `alias` is the name in the address
    book that he was paid by."""
)
class Paid(msgspec.Struct, frozen=True):
    payee: str
    amount: Amount
    memo: str
    alias: str | None


@user_text("A transfer that was given up, and the waiting ones that spent its change: `lost`.")
class Abandoned(msgspec.Struct, frozen=True):
    txid: Hash
    lost: tuple[Hash, ...]


@user_text(
    """A transfer of a wallet that the node has taken. `size` as fee rates count it; `joined` are
    transfers that joined coins for it first. A `planned` one is neither signed nor sent, and has no
    id; its `fee` and `size` are those of all transfers that it takes, `joins` of them to join coins
    first. It alone has `to_wallet`, what comes back to the wallet, and `fee_rate`, missing for an
    exact fee: with that and its `fee` as `fee_max` it is sent as it was shown. `warning` is what
    whoever sends it should know: that a hash-time-lock is claimed near its refund, that the wallet
    has paid a paycode before that was made for one payment, that the coins hold more than an amount
    that bears its fee, too little to come back, or that the transfer has nothing to do with the
    wallet; `wallet.send` leaves it out for whoever may not read."""
)
class Sent(msgspec.Struct, frozen=True):
    txid: Hash | None
    wid: Hash | None
    fee: Amount
    size: int
    status: StateName
    replaces: Hash | None
    payees: list[Paid]
    joined: list[Hash]
    joins: int
    warning: str | None
    to_wallet: Amount | None
    fee_rate: int | None

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
            [Hash(txid) for txid in outgoing.joined],
            len(outgoing.joined),
            outgoing.warning or None,
            None,
            None,
        )

    @classmethod
    def planned(cls, steps: Sequence[Prepared]) -> Sent:
        """Describe what would be sent: the last of some transfers, for which the others join
        coins."""
        last = steps[-1]
        return cls(
            None,
            None,
            Amount(sum(step.unsigned.fee for step in steps)),
            sum(size_bound(step.unsigned, 1) for step in steps),
            "planned",
            Hash(last.replaces) if last.replaces else None,
            [_paid(payee) for payee in last.payees],
            [],
            len(steps) - 1,
            last.warning or None,
            Amount(
                sum(output.value for output in last.unsigned.outputs)
                - sum(payee.value for payee in last.payees)
            ),
            last.fee_rate,
        )


@user_text("A transfer that the node did not take, and why: its coins are free again.")
class RefusedInfo(msgspec.Struct, frozen=True):
    txid: Hash
    error: str
    reason: str


@user_text(
    """What came of a sweep or a consolidation. `left` is in coins that could be spent and were not:
    they are worth less than their fee, or are more than fit at a time; they would have paid more
    than a tenth of their worth, or more than `fee_max` in all."""
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

    @classmethod
    def planned(cls, steps: Sequence[Prepared], available: int) -> GatheredInfo:
        """Describe what would come of it, where so many grains can be spent before."""
        taken = sum(sum(step.unsigned.values) for step in steps)
        return cls([Sent.planned([step]) for step in steps], [], Amount(available - taken))


@user_text(
    """An output of a transfer to be signed. `own`: it comes back to the wallet, which alone can
    spend it. `payee` is whom the file shows that it pays, missing where it names nobody;
    `fingerprint` stands for all of that text, `alias` is what the address book calls him; `terms`
    is what spends it if it lies under a contract; `returns`: that is one from which all comes that
    the transfer spends, or one that it spends from and this wallet watches; `contract` is the label
    under which this wallet knows it."""
)
class UnsignedOutput(msgspec.Struct, frozen=True):
    amount: Amount
    lock: Hash
    own: bool
    payee: str | None
    fingerprint: str | None
    terms: str | None
    memo: str
    alias: str | None
    returns: bool
    contract: str | None


@user_text(
    """A transfer to be signed: the content of its file, and what signing it means. `signed_by`
    and `can_sign` are key hashes: of the signatures so far, and of those of this wallet's keys
    whose signature can be added; `missing` signatures are needed still."""
)
class UnsignedTransfer(msgspec.Struct, frozen=True):
    file: Hex
    spent: Amount
    fee: Amount
    lock_height: int
    outputs: list[UnsignedOutput]
    can_sign: list[Hash]
    signed_by: list[Hash]
    missing: int

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
                    output.name or None,
                    output.returns,
                    output.contract or None,
                )
                for output in summary.outputs
            ],
            [Hash(key) for key in summary.can_sign],
            [Hash(key) for key in summary.signed_by],
            summary.missing,
        )


@user_text(
    """A condition shared with others. `text` is what the other parties need, and whom to pay to
    fund it. m-of-n has `threshold` and `key_hashes`; a hash-time-lock `hash`, the key hashes
    `claim` and `refund`, `refund_height` and, once it is known, the `preimage`. A label that is not
    `confirmed` came out of a backup, which others may have altered: compare the terms, and give it
    anew (wallet.label)."""
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
    confirmed: bool

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
            watched.confirmed,
        )


def memo_text(memo: bytes) -> str:
    """Return a memo as text, in hex where it is none."""
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return memo.hex()


def _paid(payee: Payee) -> Paid:
    return Paid(payee.payee, Amount(payee.value), memo_text(payee.memo), payee.name or None)
