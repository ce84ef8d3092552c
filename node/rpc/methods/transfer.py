"""transfer.*: look at transfers, try them, hand them in."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from unchained.node.base.clock import Clock
from unchained.node.base.user_text import user_text
from unchained.node.chain.answers import TransferEncoding
from unchained.node.chain.results import Outcome, TransferIntake
from unchained.node.chain.service import ChainService
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import check_transfer_alone, decode_transfer
from unchained.node.primitives.conditions import (
    Condition,
    KeyCondition,
    MultisigCondition,
    parse_condition,
)
from unchained.node.primitives.errors import BadConditionError, ProtocolError
from unchained.node.primitives.hashing import KEY
from unchained.node.primitives.transfer import (
    Input,
    SizedTransfer,
    output_id,
)
from unchained.node.rpc.core.errors import NotFoundError, ProtocolRuleError, RefusedError, short
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash, Hex

RawTransfer = Annotated[Hex, msgspec.Meta(description="a transfer's whole encoding, in hex")]
TransferId = Annotated[Hash, msgspec.Meta(description="its txid, or its wid")]


@user_text(
    """A spending condition (Protocol §8.1). `threshold` and `key_hashes` are those of m-of-n, or
    the one key; `hash`, `claim`, `refund` and `refund_height` those of a hash-time-lock."""
)
class ConditionInfo(msgspec.Struct, frozen=True):
    kind: Literal["key", "multisig", "hash-time-lock", "malformed"]
    threshold: int | None = None
    key_hashes: list[Hash] | None = None
    hash: Hash | None = None
    claim: Hash | None = None
    refund: Hash | None = None
    refund_height: int | None = None


@user_text("A coin that a transfer spends; its `amount` where the node knows the coin.")
class InputInfo(msgspec.Struct, frozen=True):
    coin: Hash
    amount: Amount | None
    condition: ConditionInfo
    salt: Hash


@user_text("A coin that a transfer creates. `note_bytes`: length of its note, 0 for none.")
class OutputInfo(msgspec.Struct, frozen=True):
    id: Hash
    amount: Amount
    lock: Hash
    note_bytes: int


@user_text(
    """A transfer. `raw_size` in bytes, `size` as fee rates count it (Protocol §8.2); `fee_rate` in
    grains per byte of that, rounded down. `signers` are key hashes."""
)
class TransferInfo(msgspec.Struct, frozen=True):
    txid: Hash
    wid: Hash
    version: int
    chain_id: int
    lock_height: int
    fee: Amount
    raw_size: int
    size: int
    fee_rate: int
    inputs: list[InputInfo]
    outputs: list[OutputInfo]
    signers: list[Hash]
    preimages: list[Hash]


@user_text(
    """A transfer that the node has. Included ones have the `height`, the `anchor`, their `index`
    in its body and `confirmations` in votes; waiting ones the `time` of arrival."""
)
class PlacedTransfer(msgspec.Struct, frozen=True):
    status: Literal["included", "waiting"]
    transfer: TransferInfo
    height: int | None
    anchor: Hash | None
    index: int | None
    confirmations: int
    time: int


@user_text(
    """Whether the mempool would take a transfer in, and if not, which rule or policy is against
    it. `known`: it is there already, or on the chain. `replaces`: txids that it would evict."""
)
class Trial(msgspec.Struct, frozen=True):
    accepted: bool
    known: bool
    error: str | None
    reason: str | None
    txid: Hash | None
    fee: Amount | None
    size: int | None
    replaces: list[Hash]


@user_text("A transfer that was handed in; not `accepted` means that the node had it already.")
class Submitted(msgspec.Struct, frozen=True):
    txid: Hash
    wid: Hash
    accepted: bool


class TransferRoom:
    """Methods about transfers."""

    def __init__(self, chain: ChainService, intake: TransferIntake, clock: Clock) -> None:
        self._chain = chain
        self._intake = intake
        self._clock = clock

    @method("transfer.get", Access.READ, errors=(NotFoundError,))
    @user_text("Return a transfer of the main chain or the mempool.")
    async def get(self, txid: TransferId) -> PlacedTransfer:
        found = await self._chain.queries.transfer(txid)
        if found is None:
            raise _unknown(txid)
        return _place(found)

    @method("transfer.raw", Access.READ, errors=(NotFoundError,))
    @user_text("Return the whole encoding of a transfer of the main chain or the mempool.")
    async def raw(self, txid: TransferId) -> Hex:
        raw = await self._chain.queries.transfer_bytes(txid)
        if raw is None:
            raise _unknown(txid)
        return Hex(raw)

    @method("transfer.decode", Access.READ, errors=(ProtocolRuleError,))
    @user_text("Return what an encoded transfer says; it need not be valid, only decode.")
    async def decode(self, raw: RawTransfer) -> TransferInfo:
        sized = decode_transfer(raw)
        values = await self._chain.queries.input_values(sized)
        return _describe(sized, values)

    @method("transfer.test", Access.READ)
    @user_text("Return whether the mempool would take in a transfer, and change nothing.")
    async def test(self, raw: RawTransfer) -> Trial:
        try:
            sized = decode_transfer(raw)
        except ProtocolError as error:
            return _failed(error, None)
        try:
            check_transfer_alone(sized.transfer, self._chain.network)
            replaced = await self._chain.queries.try_transfer(sized, self._clock.now_ms())
            (await self._chain.validate_transfer(sized)).proven()
        except (ProtocolError, PolicyError) as error:
            return _failed(error, sized)
        known = replaced is None
        return Trial(
            not known,
            known,
            None,
            None,
            Hash(sized.txid),
            Amount(sized.transfer.fee),
            sized.size,
            [Hash(txid) for txid in replaced or ()],
        )

    @method("transfer.submit", Access.FULL, errors=(ProtocolRuleError, RefusedError))
    @user_text(
        """Hand a transfer in: the mempool takes it, and peers are told in a way that does not show
        who made it.

        Refused with the rule that it breaks (Protocol §8.3) or with the policy that it does not
        meet (§8.4: DUST, FEE_TOO_LOW, TOO_MANY_ANCESTORS, TOO_MANY_DESCENDANTS,
        REPLACEMENT_TOO_CHEAP). To hand in what the node has already changes nothing.
        """
    )
    async def submit(self, raw: RawTransfer) -> Submitted:
        encoded = bytes(raw)
        outcome = await self._intake.submit_transfer(encoded)
        sized = decode_transfer(encoded)
        return Submitted(Hash(sized.txid), Hash(sized.wid), outcome is Outcome.ACCEPTED)


def _unknown(transfer_id: bytes) -> NotFoundError:
    return NotFoundError(
        f"neither the main chain nor the mempool has a transfer {transfer_id.hex()}"
    )


def _failed(error: ProtocolError | PolicyError, sized: SizedTransfer | None) -> Trial:
    return Trial(
        False,
        False,
        error.name,
        short(error.in_words()),
        None if sized is None else Hash(sized.txid),
        None if sized is None else Amount(sized.transfer.fee),
        None if sized is None else sized.size,
        [],
    )


def _place(found: TransferEncoding) -> PlacedTransfer:
    info = _describe(SizedTransfer.from_bytes(found.raw), found.values)
    if found.added_ms is not None:
        return PlacedTransfer("waiting", info, None, None, None, 0, found.added_ms)
    assert found.anchor is not None, "what does not wait is on the chain"
    return PlacedTransfer(
        "included",
        info,
        found.anchor.height,
        Hash(found.anchor.id),
        found.index,
        found.confirmations,
        found.anchor.header.time,
    )


def _describe(sized: SizedTransfer, values: list[int | None]) -> TransferInfo:
    transfer = sized.transfer
    return TransferInfo(
        Hash(sized.txid),
        Hash(sized.wid),
        transfer.version,
        transfer.chain_id,
        transfer.lock_height,
        Amount(transfer.fee),
        len(sized.raw),
        sized.size,
        transfer.fee // sized.size,
        [_input(entry, value) for entry, value in zip(transfer.inputs, values, strict=True)],
        [
            OutputInfo(
                Hash(output_id(sized.txid, index)),
                Amount(output.value),
                Hash(output.lock),
                len(output.note),
            )
            for index, output in enumerate(transfer.outputs)
        ],
        [Hash(KEY(signature.public_key)) for signature in transfer.signatures],
        [Hash(preimage) for preimage in transfer.preimages],
    )


def _input(entry: Input, value: int | None) -> InputInfo:
    try:
        condition = _condition(parse_condition(entry.condition))
    except BadConditionError:
        condition = ConditionInfo("malformed")
    return InputInfo(
        Hash(entry.coin_id), None if value is None else Amount(value), condition, Hash(entry.salt)
    )


def _condition(condition: Condition) -> ConditionInfo:
    if isinstance(condition, KeyCondition):
        return ConditionInfo("key", 1, [Hash(condition.key_hash)])
    if isinstance(condition, MultisigCondition):
        hashes = [Hash(key_hash) for key_hash in condition.key_hashes]
        return ConditionInfo("multisig", condition.threshold, hashes)
    return ConditionInfo(
        "hash-time-lock",
        hash=Hash(condition.hash),
        claim=Hash(condition.claim_key_hash),
        refund=Hash(condition.refund_key_hash),
        refund_height=condition.height,
    )
