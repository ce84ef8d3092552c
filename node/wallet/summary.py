"""What signing a transfer means, worked out by the signer from the transfer and his keys alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from unchained.node.consensus.params import Network
from unchained.node.primitives.conditions import (
    Condition,
    HashTimeLockCondition,
    MultisigCondition,
    lock_of,
    parse_condition,
)
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.types import KeyHash, Lock
from unchained.node.wallet.contracts import CONTRACT_PREFIX, Contract
from unchained.node.wallet.recogniser import CONTRACT_ACCOUNT, FoundCoin
from unchained.node.wallet.unsigned import Unsigned

_FINGERPRINT: Final = HashContext("payee fingerprint")


class SummaryOutput(msgspec.Struct, frozen=True, gc=False):
    """One output of a transfer to be signed. `name` is what the address book calls the payee.

    `own`: it comes back to the wallet, which alone can spend it. `payee` is whom it pays, as the
    file names and proves it; empty where the file names nobody. `fingerprint` is of the whole of
    that text, since a long one can be made whose ends look the same. `terms` says in words what
    spends it if it lies under a contract: one that is named, that the wallet knows, or that the
    transfer spends from. `returns`: it goes back under a contract that the transfer spends from,
    and that the wallet watches, or from which all comes that is spent: anybody can lay a coin of a
    contract of his own beside those of others. `contract` is what the wallet calls the contract
    that it pays, where it knows it by a label.
    """

    value: int
    lock: bytes
    own: bool
    payee: str
    fingerprint: str
    terms: str
    memo: bytes
    name: str
    returns: bool
    contract: str


class Summary(msgspec.Struct, frozen=True):
    """What signing a transfer means."""

    spent: int
    fee: int
    lock_height: int
    outputs: tuple[SummaryOutput, ...]
    can_sign: tuple[KeyHash, ...]
    signed_by: tuple[KeyHash, ...]
    missing: int
    """Signatures that are needed still, at least."""


def summarize(
    unsigned: Unsigned,
    network: Network,
    found: Sequence[FoundCoin],
    own: Collection[KeyHash],
    contracts: Mapping[Contract, str],
    names: Mapping[str, str],
) -> Summary:
    """Return what signing means to the holder of the spend keys `own`, who has recognised `found`
    among the outputs, knows `contracts` by their labels and calls payees by `names`. Raises
    `SigningError` where an output does not pay whom the file names."""
    mine = {coin.index: coin for coin in found if coin.account != CONTRACT_ACCOUNT}
    named = {payee.index: payee for payee in unsigned.payees}
    known = {contract.lock: contract.terms for contract in contracts}
    labels = {contract.lock: label for contract, label in contracts.items()}
    sources = {}
    for spent in unsigned.inputs:
        lock, condition = lock_of(spent.condition, spent.salt), parse_condition(spent.condition)
        sources[lock] = known[lock] = condition
    shared = {lock for lock, condition in sources.items() if terms_of(condition)}
    returning = shared if len(sources) == 1 else shared & labels.keys()

    def describe(at: int) -> SummaryOutput:
        output = unsigned.outputs[at]
        payee = named.get(at)
        memo = b"" if payee is None else unsigned.memo_of(payee, network)
        if at in mine:
            memo = memo or mine[at].memo
        if payee is not None and payee.payee.startswith(CONTRACT_PREFIX):
            contract = Contract.from_text(payee.payee, network)
            known[contract.lock] = contract.terms
        terms = known.get(Lock(output.lock))
        return SummaryOutput(
            output.value,
            output.lock,
            at in mine,
            "" if payee is None else payee.payee,
            "" if payee is None else fingerprint_of(payee.payee),
            "" if terms is None else terms_of(terms),
            memo,
            "" if payee is None else names.get(payee.payee, ""),
            output.lock in returning,
            labels.get(Lock(output.lock), ""),
        )

    signed = unsigned.signed_by()
    return Summary(
        sum(unsigned.values),
        unsigned.fee,
        unsigned.lock_height,
        tuple(describe(at) for at in range(len(unsigned.outputs))),
        tuple(key for key in unsigned.signers() if key in own and key not in signed),
        tuple(sorted(signed)),
        unsigned.missing(),
    )


def fingerprint_of(payee: str) -> str:
    """Return 32 hex digits that stand for the whole text of a payee, in groups of four."""
    digits = _FINGERPRINT(payee.encode())[:16].hex()
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def terms_of(condition: Condition) -> str:
    """Return in words what spends a coin under a condition that is shared with others, nothing for
    a single key."""
    if isinstance(condition, MultisigCondition):
        keys = ", ".join(key.hex() for key in condition.key_hashes)
        return f"{condition.threshold} of {len(condition.key_hashes)} keys: {keys}"
    if isinstance(condition, HashTimeLockCondition):
        return (
            f"{condition.claim_key_hash.hex()} with the preimage of {condition.hash.hex()}, or "
            f"{condition.refund_key_hash.hex()} from height {condition.height} on"
        )
    return ""
