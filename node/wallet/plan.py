"""A transfer before its coins are chosen, what it costs, and the transfer made of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from unchained.node.base.randomness import Randomness
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import DUST
from unchained.node.consensus.transfers import MAX_INPUTS
from unchained.node.crypto.addresses import OutputPlace
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.transfer import (
    MAX_TRANSFER_ENCODED,
    OUTPUT_SIZE_SURCHARGE,
    Input,
    Output,
    Transfer,
)
from unchained.node.wallet.errors import BadPaymentError, LowFeeError
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.payment_request import LOCK_PREFIX, Draft
from unchained.node.wallet.records import Payee, PaymentSecret, WalletCoin
from unchained.node.wallet.selection import SelectionCosts
from unchained.node.wallet.unsigned import (
    OUTPUT_BOUND,
    Unsigned,
    UnsignedPayee,
    encoded_bound,
    size_bound,
)


class Prepared(msgspec.Struct, frozen=True):
    """A transfer to be signed, and what the wallet has to know of it. `change` is the index of
    the output that brings change; `replaces` the txid of a transfer that it takes the place of;
    `fee_rate` is what it pays (grains per byte of size), None for an exact fee; `warning` is what
    whoever sends it should know."""

    unsigned: Unsigned
    payees: tuple[Payee, ...]
    change: int | None
    fee_rate: int | None
    replaces: bytes = b""
    warning: str = ""


class Plan(msgspec.Struct, frozen=True):
    """Who pays how: coins that are spent in any case, outputs, and what opens the coins."""

    fixed: tuple[WalletCoin, ...]
    outputs: tuple[Draft, ...]
    condition: bytes
    signatures: int
    preimages: tuple[bytes, ...]
    lock_height: int
    back: Draft
    """Brings the change; its value is still to be set."""


def costs_of(plan: Plan, fee: Fee) -> SelectionCosts:
    """Return what a transfer costs without coins, with each, and with change. Raises
    `BadPaymentError` where the payees do not fit."""
    condition = len(plan.condition)
    notes = [draft.note_size for draft in plan.outputs]
    encoded = encoded_bound(0, condition, notes, plan.signatures, len(plan.preimages))
    back = OUTPUT_BOUND + plan.back.note_size + OUTPUT_SIZE_SURCHARGE
    room = MAX_TRANSFER_ENCODED - encoded - back
    most = min(MAX_INPUTS - len(plan.fixed), room // (71 + condition) - len(plan.fixed))
    if most < 0:
        raise BadPaymentError(
            f"the payees take {encoded} bytes, one transfer holds {MAX_TRANSFER_ENCODED}"
        )
    if fee.exact is not None:
        return SelectionCosts(fee.exact, 0, 0, 0, DUST, most)
    size = encoded + OUTPUT_SIZE_SURCHARGE * len(plan.outputs)
    per_input = fee.rate * (71 + condition)
    change = fee.rate * back
    return SelectionCosts(fee.rate * size, per_input, change, change + per_input, DUST, most)


def subtract(plan: Plan, payees: Sequence[Payee], fee: int) -> tuple[Plan, tuple[Payee, ...]]:
    """Return a plan and its payees who bear a fee in equal parts, the first of them what cannot be
    shared. Raises `BadPaymentError` where one is left with too little."""
    share, rest = divmod(fee, len(payees))
    values = [payee.value - share - (rest if at == 0 else 0) for at, payee in enumerate(payees)]
    if min(values) < DUST:
        raise BadPaymentError(
            f"the fee of {shortest(fee)} UNC leaves a payee {shortest(max(0, min(values)))} UNC: a "
            f"payment is at least {shortest(DUST)} UNC"
        )
    drafts = tuple(
        msgspec.structs.replace(draft, value=value)
        for draft, value in zip(plan.outputs, values, strict=True)
    )
    paid = tuple(
        msgspec.structs.replace(payee, value=value)
        for payee, value in zip(payees, values, strict=True)
    )
    return msgspec.structs.replace(plan, outputs=drafts), paid


def assemble(
    network: Network,
    plan: Plan,
    coins: Sequence[WalletCoin],
    change: int,
    payees: Sequence[Payee],
    replaces: bytes,
    *,
    fee: Fee,
    randomness: Randomness,
) -> Prepared:
    """Return the transfer that spends the coins. Raises `LowFeeError`, `HighFeeError`,
    `FeeAboveMaxError`."""
    drafts = list(plan.outputs)
    at = None
    if change:
        # wherever it stands, so that it cannot be distinguished from a payment
        at = randomness.below(len(drafts) + 1)
        drafts.insert(at, msgspec.structs.replace(plan.back, value=change))
    ordered = sorted(coins, key=lambda coin: coin.coin_id)
    first = ordered[0].coin_id
    placed = [draft.at(OutputPlace(first, index), randomness) for index, draft in enumerate(drafts)]
    outputs = [output for output, _ in placed]
    paid = [index for index in range(len(drafts)) if index != at]
    total = sum(coin.value for coin in ordered)
    unsigned = Unsigned(
        network.chain_id,
        plan.lock_height,
        total - sum(output.value for output in outputs),
        tuple(Input(coin.coin_id, plan.condition, coin.salt) for coin in ordered),
        tuple(coin.value for coin in ordered),
        tuple(outputs),
        (),
        plan.preimages,
        _proven_payees(placed, paid, payees),
    )
    least = size_bound(unsigned, plan.signatures)
    if outputs and unsigned.fee < least:
        raise LowFeeError(
            f"a fee of {shortest(unsigned.fee)} UNC is too low: "
            f"nodes relay this transfer from {shortest(least)} UNC on"
        )
    moved = sum(draft.value for draft in plan.outputs) or sum(output.value for output in outputs)
    fee.check_most(unsigned.fee)
    if outputs:
        fee.check_high(unsigned.fee, least, moved)
    rate = fee.rate if fee.exact is None else None
    return Prepared(unsigned, tuple(payees), at, rate, replaces)


def _proven_payees(
    placed: Sequence[tuple[Output, bytes]], paid: Sequence[int], payees: Sequence[Payee]
) -> tuple[UnsignedPayee, ...]:
    """Return what shows a signer whom the outputs at `paid` pay; nothing where that is not known
    of each."""
    if len(paid) != len(payees):
        return ()
    return tuple(
        UnsignedPayee(index, payee.payee, placed[index][1])
        for index, payee in zip(paid, payees, strict=True)
    )


def secrets_of(payees: Iterable[UnsignedPayee]) -> tuple[PaymentSecret, ...]:
    """Return what proves which outputs pay paycodes."""
    return tuple(PaymentSecret(paid.index, paid.shared) for paid in payees if paid.shared)


def payees_of(
    transfer: Transfer, named: Mapping[int, Payee], own: Collection[int] = ()
) -> tuple[Payee, ...]:
    """Return whom a transfer pays by its outputs, those at the indexes in `own` left out: as they
    were `named`, or by their locks."""
    return tuple(
        named.get(at) or Payee(f"{LOCK_PREFIX}{output.lock.hex()}", output.value, b"")
        for at, output in enumerate(transfer.outputs)
        if at not in own
    )
