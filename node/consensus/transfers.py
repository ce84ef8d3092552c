"""What makes a transfer valid: the checks of Protocol §8.3, in its order.

Three stages: `decode_transfer` and `check_transfer_alone` need only the transfer,
`check_transfer_in_context` needs the coin set and a height, `check_conditions` the locks'
conditions, and `check_signatures`, by far the most expensive, the signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

import msgspec

from unchained.node.consensus.errors import (
    BadNoteError,
    BadOrderError,
    BadSignatureError,
    BadVersionError,
    CoinSpentError,
    CoinUnknownError,
    ConditionUnmetError,
    DuplicateInputError,
    FeeMismatchError,
    ImmatureCoinError,
    LockedUntilHeightError,
    LockMismatchError,
    NoInputsError,
    NoOutputsError,
    ProtocolError,
    TooManyInputsError,
    TooManyOutputsError,
    TransferTooLargeError,
    UnusedPreimageError,
    UnusedSignatureError,
    ValueOverflowError,
    WrongChainError,
    ZeroValueError,
)
from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import NOTE_SIZE
from unchained.node.crypto.keys import verify_signature
from unchained.node.primitives.conditions import (
    Condition,
    HashTimeLockCondition,
    KeyCondition,
    MultisigCondition,
    lock_of,
    parse_condition,
)
from unchained.node.primitives.hashing import KEY
from unchained.node.primitives.transfer import (
    MAX_TRANSFER_ENCODED,
    SizedTransfer,
    Transfer,
)
from unchained.node.primitives.types import MAX_AMOUNT, CoinId, KeyHash, Lock, Wid

TRANSFER_VERSION: Final = 1
"""The only version of transfers."""

MAX_INPUTS: Final = 1_024
"""Most coins that a transfer spends."""

MAX_OUTPUTS: Final = 256
"""Most coins that a transfer creates."""


class UnspentCoin(msgspec.Struct, frozen=True, gc=False):
    """A member of the coin set (Protocol §4). `value` in grains, `height` of inclusion. A coin has
    a `position` once the anchor that creates it is connected."""

    value: int
    lock: Lock
    height: int
    minted: bool
    position: int | None = None


class CoinSetView(Protocol):
    """The coin set as it is before the transfer in hand."""

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        """Return the coin if it is in the coin set."""

    def was_spent(self, coin_id: CoinId) -> bool:
        """Return whether the coin is known to have been in the coin set and spent."""


def decode_transfer(raw: bytes, wid: Wid | None = None) -> SizedTransfer:
    """Return the transfer of bytes that came by themselves; `wid` is theirs, if that is known.

    Raises `TransferTooLargeError` before anything is decoded, then `NonCanonicalError`.
    """
    # Protocol §8.3: TRANSFER_TOO_LARGE: "before decoding where it comes by itself"
    if len(raw) > MAX_TRANSFER_ENCODED:
        raise TransferTooLargeError(
            expected=f"at most {MAX_TRANSFER_ENCODED} bytes", actual=f"{len(raw)} bytes"
        )
    # Protocol §2: NON_CANONICAL: "re-encodes what it decoded and rejects bytes that differ"
    return SizedTransfer.from_bytes(raw, wid)


def check_transfer_alone(transfer: Transfer, network: Network) -> None:
    """Check what needs nothing but the transfer. Raises a `TransferError` or
    `BadConditionError`."""
    # Protocol §8.2: BAD_VERSION: "version 1"
    if transfer.version != TRANSFER_VERSION:
        raise BadVersionError(expected=TRANSFER_VERSION, actual=transfer.version)
    # Protocol §8.3: WRONG_CHAIN: "`BAD_VERSION`, `WRONG_CHAIN`, `NO_INPUTS`, `NO_OUTPUTS`"
    if transfer.chain_id != network.chain_id:
        raise WrongChainError(expected=f"{network.chain_id:#x}", actual=f"{transfer.chain_id:#x}")
    # Protocol §8.3: NO_INPUTS: "`NO_INPUTS`"
    if not transfer.inputs:
        raise NoInputsError(expected="at least one input")
    # Protocol §8.3: NO_OUTPUTS: "`NO_OUTPUTS`"
    if not transfer.outputs:
        raise NoOutputsError(expected="at least one output")
    # Protocol §8.3: TOO_MANY_INPUTS: "`TOO_MANY_INPUTS` (1,024)"
    if len(transfer.inputs) > MAX_INPUTS:
        raise TooManyInputsError(expected=f"at most {MAX_INPUTS}", actual=len(transfer.inputs))
    # Protocol §8.3: TOO_MANY_OUTPUTS: "`TOO_MANY_OUTPUTS` (256)"
    if len(transfer.outputs) > MAX_OUTPUTS:
        raise TooManyOutputsError(expected=f"at most {MAX_OUTPUTS}", actual=len(transfer.outputs))
    # Protocol §8.3: DUPLICATE_INPUT: "`DUPLICATE_INPUT`"
    if len({spent.coin_id for spent in transfer.inputs}) != len(transfer.inputs):
        raise DuplicateInputError(expected="each coin spent once")
    # Protocol §8.1: BAD_CONDITION: "A condition's first byte is its kind; no trailing bytes"
    for spent in transfer.inputs:
        parse_condition(spent.condition)
    # Protocol §8.2: BAD_NOTE: "note empty or 1,360 bytes: an ML-KEM-768 ciphertext"
    for output in transfer.outputs:
        if output.note and len(output.note) != NOTE_SIZE:
            raise BadNoteError(
                expected=f"0 or {NOTE_SIZE} bytes", actual=f"{len(output.note)} bytes"
            )
    # Protocol §8.2: ZERO_VALUE: "value 1 to 2**63-1"
    if any(output.value == 0 for output in transfer.outputs):
        raise ZeroValueError(expected="outputs of at least 1 grain")
    # Protocol §8.3: VALUE_OVERFLOW: "outputs + fee above 2**63-1"
    total = sum(output.value for output in transfer.outputs) + transfer.fee
    if total > MAX_AMOUNT:
        raise ValueOverflowError(expected=f"at most {MAX_AMOUNT} grains", actual=total)
    # Protocol §8.2: BAD_ORDER: "one per distinct key, strictly ascending by key hash"
    # One signature, the usual number, is in order unhashed.
    if len(transfer.signatures) > 1:
        key_hashes = [KEY(signature.public_key) for signature in transfer.signatures]
        if any(left >= right for left, right in pairwise(key_hashes)):
            raise BadOrderError(expected="signatures strictly ascending by key hash")
    # Protocol §8.2: BAD_ORDER: "`preimages` of 32 bytes, strictly ascending"
    if any(left >= right for left, right in pairwise(transfer.preimages)):
        raise BadOrderError(expected="preimages strictly ascending")


def check_transfer_in_context(
    transfer: Transfer, coins: CoinSetView, height: int, network: Network
) -> list[UnspentCoin]:
    """Check a transfer against the coin set, for an anchor at `height` (H of Protocol §8.3).

    Returns the coins that it spends, in the order of its inputs. Raises a `TransferError`.
    """
    # Protocol §8.3: LOCKED_UNTIL_HEIGHT: "lock_height > H"
    if transfer.lock_height > height:
        raise LockedUntilHeightError(expected=f"height {transfer.lock_height}", actual=height)
    # Protocol §8.3: COIN_UNKNOWN: "not in the coin set"
    spent: list[UnspentCoin] = []
    for entry in transfer.inputs:
        coin = coins.unspent(CoinId(entry.coin_id))
        if coin is None:
            # Protocol §8.3: COIN_SPENT: "`COIN_SPENT` where one can tell"
            if coins.was_spent(CoinId(entry.coin_id)):
                raise CoinSpentError(expected="a coin of the coin set", actual=entry.coin_id.hex())
            raise CoinUnknownError(expected="a coin of the coin set", actual=entry.coin_id.hex())
        spent.append(coin)
    # Protocol §8.3: IMMATURE_COIN: "minted, and H - height of inclusion < MATURITY"
    for coin in spent:
        if coin.minted and height - coin.height < network.maturity:
            raise ImmatureCoinError(
                expected=f"height {coin.height + network.maturity}", actual=height
            )
    # Protocol §8.1: LOCK_MISMATCH: "`lock = H("lock", condition ‖ salt)`"
    for entry, coin in zip(transfer.inputs, spent, strict=True):
        lock = lock_of(entry.condition, entry.salt)
        if lock != coin.lock:
            raise LockMismatchError(expected=coin.lock.hex(), actual=lock.hex())
    # Protocol §8.3: FEE_MISMATCH: "inputs ≠ outputs + fee"
    taken = sum(coin.value for coin in spent)
    given = sum(output.value for output in transfer.outputs) + transfer.fee
    if taken != given:
        raise FeeMismatchError(
            expected=f"outputs + fee of {taken} grains", actual=f"{given} grains"
        )
    return spent


def check_conditions(transfer: Transfer) -> None:
    """Check that every input's condition is met by listed signatures and preimages, and that
    each of those is used; the signatures themselves are verified separately.

    Raises `ConditionUnmetError`, `UnusedSignatureError`, `UnusedPreimageError`.
    """
    signed = [KeyHash(KEY(signature.public_key)) for signature in transfer.signatures]
    preimages = {hashlib.sha256(preimage).digest(): preimage for preimage in transfer.preimages}
    used_keys: set[KeyHash] = set()
    used_preimages: set[bytes] = set()
    present = frozenset(signed)
    # Protocol §8.3: CONDITION_UNMET: "last and dearest `CONDITION_UNMET`"
    for entry in transfer.inputs:
        condition = parse_condition(entry.condition)
        needed = _keys_to_use(condition, present, preimages, transfer.lock_height)
        used_keys.update(needed)
        if isinstance(condition, HashTimeLockCondition) and condition.hash in preimages:
            used_preimages.add(preimages[condition.hash])
    # Protocol §8.3: UNUSED_SIGNATURE: "used by no input"
    for key_hash in signed:
        if key_hash not in used_keys:
            raise UnusedSignatureError(expected="a use for each signature", actual=key_hash.hex())
    # Protocol §8.3: UNUSED_PREIMAGE: "used by no input"
    for preimage in transfer.preimages:
        if preimage not in used_preimages:
            raise UnusedPreimageError(expected="a use for each preimage", actual=preimage.hex())


def _keys_to_use(
    condition: Condition,
    signed: frozenset[KeyHash],
    preimages: Mapping[bytes, bytes],
    lock_height: int,
) -> Sequence[KeyHash]:
    """Return the key hashes whose signatures an input uses (Protocol §8.2, last paragraph)."""
    # Protocol §8.2: "kind 00, its key's signature"
    if isinstance(condition, KeyCondition):
        return _require((condition.key_hash,), signed)
    # Protocol §8.2: "kind 01, those of the m lowest of its key hashes that signed"
    if isinstance(condition, MultisigCondition):
        lowest = [key for key in condition.key_hashes if key in signed][: condition.threshold]
        if len(lowest) < condition.threshold:
            raise ConditionUnmetError(
                expected=f"{condition.threshold} signatures of {len(condition.key_hashes)} keys",
                actual=len(lowest),
            )
        return lowest
    # Protocol §8.2: "kind 02, *claims* if a listed preimage fits its hash"
    if condition.hash in preimages:
        return _require((condition.claim_key_hash,), signed)
    # Protocol §8.1: "or lock_height >= height and the refund key's signature"
    if lock_height < condition.height:
        raise ConditionUnmetError(
            expected=f"the preimage, or a lock height of {condition.height}", actual=lock_height
        )
    return _require((condition.refund_key_hash,), signed)


def _require(keys: tuple[KeyHash, ...], signed: frozenset[KeyHash]) -> Sequence[KeyHash]:
    for key in keys:
        if key not in signed:
            raise ConditionUnmetError(expected=f"a signature by key {key.hex()}")
    return keys


def check_signatures(sized: SizedTransfer) -> None:
    """Verify every signature of a transfer over its sighash. Raises `BadSignatureError`."""
    # Protocol §8.2: BAD_SIGNATURE: "the signed message is `H("sighash", same bytes)`"
    for signature in sized.transfer.signatures:
        if not verify_signature(signature.public_key, sized.sighash, signature.signature):
            raise BadSignatureError(
                expected="a signature of this transfer",
                actual=f"one by key {KEY(signature.public_key).hex()} that does not verify",
            )


# What a transfer's bytes alone decide, whatever chain it stands on: found out once. Decoding, the
# context-free checks, conditions and signatures depend on nothing but the bytes, and the wid is the
# hash of all of them: a verdict never changes (Protocol §5.1). The signatures are by far the most
# expensive part of connecting an anchor.


class TransferVerdict(msgspec.Struct, frozen=True, gc=False):
    """The first rule of each stage that a transfer breaks, None where it breaks none.

    `alone` covers decoding up to `BAD_ORDER`; `witness` conditions and signatures, and is not
    looked at where `alone` fails (Protocol §8.3).
    """

    alone: ProtocolError | None
    witness: ProtocolError | None

    def raise_alone(self) -> None:
        """Raise what the transfer breaks by itself, if anything."""
        if self.alone is not None:
            raise _fresh(self.alone)

    def raise_witness(self) -> None:
        """Raise what its conditions and signatures break, if anything."""
        if self.witness is not None:
            raise _fresh(self.witness)


class ProvenTransfer(msgspec.Struct, frozen=True, gc=False):
    """A transfer that breaks no rule which its bytes alone decide: decoded, and its signatures
    verified.

    What has been proven is a type, so that nobody can forget to verify a signature, or do it twice.
    `ValidatedTransfer.proven` makes one, and what remembers those.
    """

    sized: SizedTransfer


class ValidatedTransfer(msgspec.Struct, frozen=True, gc=False):
    """What a transfer's bytes are found to be: decoded, None where they do not decode; the verdict;
    how many bytes there are."""

    sized: SizedTransfer | None
    verdict: TransferVerdict
    length: int

    @classmethod
    def of(cls, proven: ProvenTransfer) -> ValidatedTransfer:
        """Return what a proven transfer was found to be."""
        return cls(proven.sized, _GOOD, len(proven.sized.raw))

    @property
    def is_good(self) -> bool:
        """Whether the transfer breaks none of these rules."""
        return self.verdict.alone is None and self.verdict.witness is None

    def proven(self) -> ProvenTransfer:
        """Return the transfer as one that is proven. Raises the `ProtocolError` that it breaks."""
        self.verdict.raise_alone()
        self.verdict.raise_witness()
        assert self.sized is not None, "what is fit by itself decodes"
        return ProvenTransfer(self.sized)


_GOOD = TransferVerdict(None, None)


def validate_transfer(raw: bytes, network: Network, wid: Wid | None = None) -> ValidatedTransfer:
    """Decode a transfer and validate it by its bytes: some 0.2 ms for each signature, without the
    GIL. `wid` is that of the bytes, if the caller knows it."""
    found = validate_unsigned(raw, network, wid)
    return validate_signatures(found) if isinstance(found, SizedTransfer) else found


def validate_unsigned(
    raw: bytes, network: Network, wid: Wid | None = None
) -> ValidatedTransfer | SizedTransfer:
    """Validate a transfer by all of its bytes but the signatures, for which there is
    `validate_signatures`: return what it is found to be, or the transfer if they decide."""
    try:
        sized = decode_transfer(raw, wid)
    except ProtocolError as error:
        return ValidatedTransfer(None, TransferVerdict(error.with_traceback(None), None), len(raw))
    return validate_decoded_unsigned(sized, network)


def validate_decoded_unsigned(
    sized: SizedTransfer, network: Network
) -> ValidatedTransfer | SizedTransfer:
    """Do the same as `validate_unsigned` with a transfer that `decode_transfer` has returned."""
    try:
        check_transfer_alone(sized.transfer, network)
    except ProtocolError as error:
        verdict = TransferVerdict(error.with_traceback(None), None)
        return ValidatedTransfer(sized, verdict, len(sized.raw))
    try:
        check_conditions(sized.transfer)
    except ProtocolError as error:
        verdict = TransferVerdict(None, error.with_traceback(None))
        return ValidatedTransfer(sized, verdict, len(sized.raw))
    return sized


def validate_signatures(sized: SizedTransfer) -> ValidatedTransfer:
    """Return what a transfer is found to be by its signatures, all else having been checked."""
    verdict = _GOOD
    try:
        check_signatures(sized)
    except ProtocolError as error:
        verdict = TransferVerdict(None, error.with_traceback(None))
    return ValidatedTransfer(sized, verdict, len(sized.raw))


def _fresh(error: ProtocolError) -> ProtocolError:
    """Copy an error: raising one object twice would grow its traceback for ever."""
    return type(error)(expected=error.expected, actual=error.actual)
