"""Transfers that are not yet signed, or not by all: what travels to an offline machine.

    file = "UNCHAINED-UNSIGNED" ‖ 02 ‖ MessagePack array

It names whom the outputs pay, and for paycodes holds the secret that proves it: the signer works
out for himself that an output pays the payee shown to him. Who has the file can read the memos.
Files of version 01, which name nobody, are read as well.

The fee is signed and the values of the spent coins are in the file, so a signer without a node
sees what he pays: if the file lies about a value, no node takes the transfer (Protocol §8.2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.base.number_words import number_of
from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.errors import ConditionUnmetError
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import (
    TRANSFER_VERSION,
    ProvenTransfer,
    check_transfer_alone,
    validate_transfer,
)
from unchained.node.crypto.addresses import OutputPlace
from unchained.node.crypto.keys import SpendKey, key_hash, verify_signature
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.conditions import (
    HashTimeLockCondition,
    KeyCondition,
    MultisigCondition,
    parse_condition,
)
from unchained.node.primitives.errors import ProtocolError, difference
from unchained.node.primitives.transfer import (
    MAX_TRANSFER_ENCODED,
    OUTPUT_SIZE_SURCHARGE,
    PUBLIC_KEY_SIZE,
    SIGNATURE_SIZE,
    Input,
    Output,
    Signature,
    SizedTransfer,
    Transfer,
)
from unchained.node.primitives.types import Bytes32, KeyHash, UInt64
from unchained.node.wallet.contracts import CONTRACT_CHARS_MAX
from unchained.node.wallet.errors import BadPaymentError, SigningError
from unchained.node.wallet.payment_request import memo_for

UNSIGNED_NAME: Final = b"UNCHAINED-UNSIGNED"
"""What a file begins with; a byte with the version follows."""

UNSIGNED_VERSION: Final = 2
"""Of files that are written."""

UNSIGNED_BYTES_MAX: Final = 4 * MAX_TRANSFER_ENCODED
"""Bytes of a file that is written and looked at: that of a transfer as large as there can be, with
the paycodes that it pays."""

Sign = Callable[[KeyHash], SpendKey | None]
"""Gives the spend key of a key hash, or None where it is somebody else's."""


class UnsignedPayee(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whom the output at `index` pays: `payee` as the user named it, and for a paycode the secret
    that its payer shares with the payee, else nothing."""

    index: UInt64
    payee: Annotated[str, msgspec.Meta(min_length=1, max_length=CONTRACT_CHARS_MAX)]
    shared: Annotated[bytes, msgspec.Meta(max_length=32)]

    def __repr__(self) -> str:
        return f"<UnsignedPayee {self.index} {self.payee[:24]}>"


class UnsignedCore(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file of version 1 holds: a transfer, the values of the coins that it spends, and the
    signatures so far."""

    chain_id: UInt64
    lock_height: UInt64
    fee: UInt64
    inputs: tuple[Input, ...]
    values: tuple[UInt64, ...]
    outputs: tuple[Output, ...]
    signatures: tuple[Signature, ...]
    preimages: tuple[Bytes32, ...]


class Unsigned(UnsignedCore, array_like=True, frozen=True, gc=False):
    """A transfer, the values of the coins that it spends, the signatures so far, and whom it
    pays, as far as the file shows that."""

    payees: tuple[UnsignedPayee, ...] = ()

    def to_file(self) -> bytes:
        """Return the file's content. Raises `SigningError` where no signer would read it."""
        content = encode(self)
        if len(content) > UNSIGNED_BYTES_MAX:
            raise SigningError(
                f"the unsigned transfer has {len(content)} bytes, expected at most "
                f"{UNSIGNED_BYTES_MAX}: pay fewer payees at a time"
            )
        return UNSIGNED_NAME + bytes((UNSIGNED_VERSION,)) + content

    @classmethod
    def from_file(cls, raw: bytes, network: Network) -> Unsigned:
        """Read a file and check that it is consistent. Raises `SigningError`."""
        head, content = raw[: len(UNSIGNED_NAME) + 1], raw[len(UNSIGNED_NAME) + 1 :]
        if not head.startswith(UNSIGNED_NAME) or head[-1] not in (1, UNSIGNED_VERSION):
            raise SigningError(
                f"not an unsigned transfer of version 1 or {UNSIGNED_VERSION}: it does not begin "
                "like one"
            )
        try:
            if head[-1] == 1:
                unsigned = cls(*msgspec.structs.astuple(_DECODER_1.decode(content)))
            else:
                unsigned = _DECODER.decode(content)
            check_transfer_alone(unsigned.transfer(), network)
        except ProtocolError as error:
            raise SigningError(f"the unsigned transfer is malformed: {error.in_words()}") from None
        unsigned.check_amounts()
        unsigned.check_signatures()
        unsigned.check_payees(network)
        return unsigned

    def check_amounts(self) -> None:
        """Check that the coins are worth outputs and fee. Raises `SigningError`."""
        if len(self.values) != len(self.inputs):
            raise SigningError(
                f"the unsigned transfer has {number_of(len(self.values), 'value')} for "
                f"{number_of(len(self.inputs), 'coin')}"
            )
        given = sum(output.value for output in self.outputs) + self.fee
        if sum(self.values) != given:
            raise SigningError(
                f"the coins are worth {sum(self.values)} grains, outputs and fee {given}"
            )

    def check_payees(self, network: Network) -> None:
        """Check that the outputs pay whom the file names. Raises `SigningError`."""
        indexes = [named.index for named in self.payees]
        if indexes != sorted(set(indexes)) or any(at >= len(self.outputs) for at in indexes):
            raise SigningError(
                "the unsigned transfer names payees of outputs that it does not have"
            )
        for named in self.payees:
            self.memo_of(named, network)

    def memo_of(self, named: UnsignedPayee, network: Network) -> bytes:
        """Return the memo with which a payee is paid. Raises `SigningError` if he is not."""
        place = OutputPlace(self.inputs[0].coin_id, named.index)
        output = self.outputs[named.index]
        try:
            memo = memo_for(network, named.payee, place, output, named.shared)
        except BadPaymentError as error:
            raise SigningError(
                f"output {named.index} names a payee that is none: {error}"
            ) from None
        if memo is None:
            raise SigningError(
                f"output {named.index} does not pay whom the file names: do not sign this file"
            )
        return memo

    def check_signatures(self) -> None:
        """Check each signature so far. Raises `SigningError`."""
        sighash = self.sighash()
        for entry in self.signatures:
            if not verify_signature(entry.public_key, sighash, entry.signature):
                raise SigningError(
                    f"the signature by key {key_hash(entry.public_key).hex()} does not verify"
                )

    def transfer(self) -> Transfer:
        """Return the transfer with the signatures so far."""
        return Transfer(
            TRANSFER_VERSION,
            self.chain_id,
            self.lock_height,
            self.fee,
            self.inputs,
            self.outputs,
            self.signatures,
            self.preimages,
        )

    def sighash(self) -> bytes:
        """Return what is signed, 32 bytes."""
        return SizedTransfer.of(self.transfer()).sighash

    def signers(self) -> list[KeyHash]:
        """Return the key hashes whose signatures can be of use, in order."""
        wanted: set[KeyHash] = set()
        hashes = {hashlib.sha256(preimage).digest() for preimage in self.preimages}
        for spent in self.inputs:
            condition = parse_condition(spent.condition)
            if isinstance(condition, KeyCondition):
                wanted.add(condition.key_hash)
            elif isinstance(condition, MultisigCondition):
                wanted.update(condition.key_hashes)
            elif condition.hash in hashes:
                wanted.add(condition.claim_key_hash)
            else:
                wanted.add(condition.refund_key_hash)
        return sorted(wanted)

    def signed_by(self) -> set[KeyHash]:
        """Return the key hashes that have signed."""
        return {key_hash(entry.public_key) for entry in self.signatures}

    def missing(self) -> int:
        """Return how many signatures are needed still, at least."""
        done = self.signed_by()
        hashes = {hashlib.sha256(preimage).digest() for preimage in self.preimages}
        single: set[KeyHash] = set()
        shared = 0
        for spent in self.inputs:
            condition = parse_condition(spent.condition)
            if isinstance(condition, MultisigCondition):
                signed = len(done.intersection(condition.key_hashes))
                shared = max(shared, condition.threshold - signed)
            elif isinstance(condition, HashTimeLockCondition):
                claims = condition.hash in hashes
                single.add(condition.claim_key_hash if claims else condition.refund_key_hash)
            else:
                single.add(condition.key_hash)
        return shared + len(single - done)

    def sign(self, key_of: Sign, randomness: Randomness = SYSTEM) -> Unsigned:
        """Return the transfer with the signatures that the given keys can add."""
        sighash = self.sighash()
        done = self.signed_by()
        keys = [key_of(wanted) for wanted in self.signers() if wanted not in done]
        added = [
            Signature(key.public_key, key.sign(sighash, randomness))
            for key in keys
            if key is not None
        ]
        return self._with(added)

    def merge(self, others: Iterable[Unsigned]) -> Unsigned:
        """Return the transfer with the signatures of copies of it.

        Raises `SigningError` for a copy of another transfer, and for a bad signature.
        """
        merged = self
        for other in others:
            if other.sighash() != self.sighash() or other.preimages != self.preimages:
                raise SigningError("the files are of different transfers")
            other.check_signatures()
            done = merged.signed_by()
            merged = merged._with(
                [entry for entry in other.signatures if key_hash(entry.public_key) not in done]
            )
        return merged

    def _with(self, added: Sequence[Signature]) -> Unsigned:
        signatures = sorted(
            (*self.signatures, *added), key=lambda entry: key_hash(entry.public_key)
        )
        return msgspec.structs.replace(self, signatures=tuple(signatures))

    def finish(self, network: Network) -> ProvenTransfer:
        """Return the transfer, ready to be sent, without signatures that it has no use for.

        Raises `SigningError` if signatures are missing.
        """
        if lacking := self.missing():
            signatures = "a signature is" if lacking == 1 else f"{lacking} signatures are"
            raise SigningError(
                f"{signatures} missing: let whoever holds another key sign it, and join the files"
            )
        used = _used(self)
        kept = tuple(e for e in self.signatures if key_hash(e.public_key) in used)
        raw = msgspec.structs.replace(self.transfer(), signatures=kept).to_bytes()
        if len(raw) > MAX_TRANSFER_ENCODED:
            raise SigningError(
                f"the transfer has {len(raw)} bytes, expected at most {MAX_TRANSFER_ENCODED}"
            )
        try:
            return validate_transfer(raw, network).proven()
        except ConditionUnmetError as error:
            unmet = difference(error.expected, error.actual)
            raise SigningError(f"a coin that it spends asks for more: {unmet}") from None
        except ProtocolError as error:
            raise SigningError(f"the transfer is not ready: {error.in_words()}") from None


def merge_files(files: Sequence[bytes], network: Network) -> Unsigned:
    """Return the transfer of one or more files, with the signatures of all.

    Raises `SigningError`.
    """
    if not files:
        raise SigningError("no file of a transfer")
    first, *others = (Unsigned.from_file(raw, network) for raw in files)
    return first.merge(others)


def _used(unsigned: Unsigned) -> set[KeyHash]:
    """Return the signers that count (Protocol §8.2): of a multisig, the lowest that signed."""
    done = unsigned.signed_by()
    hashes = {hashlib.sha256(preimage).digest() for preimage in unsigned.preimages}
    used: set[KeyHash] = set()
    for spent in unsigned.inputs:
        condition = parse_condition(spent.condition)
        if isinstance(condition, MultisigCondition):
            used.update([key for key in condition.key_hashes if key in done][: condition.threshold])
        elif isinstance(condition, HashTimeLockCondition):
            claims = condition.hash in hashes
            used.add(condition.claim_key_hash if claims else condition.refund_key_hash)
        else:
            used.add(condition.key_hash)
    return used


# How large a transfer becomes before it is made: bounds, a few bytes above the truth

OUTPUT_BOUND: Final = 47
"""Bytes of an output's encoding but for its note."""

_HEAD: Final = 48
_SIGNATURE: Final = 7 + PUBLIC_KEY_SIZE + SIGNATURE_SIZE
_PREIMAGE: Final = 34


def encoded_bound(
    inputs: int, condition_size: int, notes: Sequence[int], signatures: int, preimages: int
) -> int:
    """Return a bound, a few bytes above the truth, for a transfer's encoding. `notes` are the
    sizes of its outputs' notes, 0 for none."""
    return (
        _HEAD
        + inputs * (71 + condition_size)
        + sum(OUTPUT_BOUND + note for note in notes)
        + signatures * _SIGNATURE
        + preimages * _PREIMAGE
    )


def size_bound(unsigned: Unsigned, signatures: int) -> int:
    """Return a bound for the size (Protocol §8.2) of a transfer with so many signatures."""
    condition = max(len(spent.condition) for spent in unsigned.inputs)
    notes = [len(output.note) for output in unsigned.outputs]
    encoded = encoded_bound(
        len(unsigned.inputs), condition, notes, signatures, len(unsigned.preimages)
    )
    return encoded + OUTPUT_SIZE_SURCHARGE * len(unsigned.outputs)


_DECODER: CanonicalDecoder[Unsigned] = CanonicalDecoder(Unsigned, max_size=UNSIGNED_BYTES_MAX)
_DECODER_1: CanonicalDecoder[UnsignedCore] = CanonicalDecoder(
    UnsignedCore, max_size=UNSIGNED_BYTES_MAX
)
