"""What a transfer breaks by its bytes alone, written down from Protocol §8 a second time.

No code is shared with the node: the bytes are read by a decoder of its own. Whether a signature
verifies is asked of a function that is handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.framework.slow import slow_hash

Verify = Callable[[bytes, bytes, bytes], bool]
"""Whether a signature (third) is a public key's (first) over a message (second)."""

TOO_LARGE = "TRANSFER_TOO_LARGE"


class SlowTransfer(NamedTuple):
    """The fields of §8.2, as they are encoded."""

    version: int
    chain_id: int
    lock_height: int
    fee: int
    inputs: Sequence[tuple[bytes, bytes, bytes]]
    outputs: Sequence[tuple[int, bytes, bytes]]
    signatures: Sequence[tuple[bytes, bytes]]
    preimages: Sequence[bytes]
    unsigned: bytes
    """The encoding of the first six fields."""

    @property
    def sighash(self) -> bytes:
        """What is signed."""
        return slow_hash("sighash", self.unsigned)


class TransferFault(NamedTuple):
    """The first rule of §8.3 that a transfer breaks by itself. `late`: one that is asked for after
    those that need a state."""

    name: str
    late: bool


def slow_fault(raw: bytes, chain_id: int, verify: Verify) -> TransferFault | None:
    """Return what a transfer breaks whatever the chain is, None if nothing."""
    if len(raw) > 256 * 1024:
        return TransferFault(TOO_LARGE, late=False)
    transfer = read_transfer(raw)
    if transfer is None:
        return TransferFault("NON_CANONICAL", late=False)
    name = _alone(transfer, chain_id)
    if name is not None:
        return TransferFault(name, late=False)
    name = _witness(transfer, verify)
    return None if name is None else TransferFault(name, late=True)


def read_transfer(raw: bytes) -> SlowTransfer | None:
    """Return the transfer of some bytes, None where they are not the canonical ones of any."""
    try:
        value, rest = _read(raw, 3)
    except (ValueError, IndexError):
        return None
    if rest or not _fits(value):
        return None
    six = b"\x96" + raw[1 : 1 + sum(_size(field) for field in value[:6])]
    inputs, outputs, signatures = (tuple(map(tuple, rows)) for rows in value[4:7])
    version, chain_id, lock_height, fee = value[:4]
    return SlowTransfer(
        version, chain_id, lock_height, fee, inputs, outputs, signatures, tuple(value[7]), six
    )


def _read(raw: bytes, depth: int) -> tuple[Any, bytes]:
    """Return the first value of some bytes, all in shortest form, and the bytes after it."""
    kind = raw[0]
    if kind < 0x80:
        return kind, raw[1:]
    if kind in (0xCC, 0xCD, 0xCE, 0xCF):
        size = 1 << (kind - 0xCC)
        number, least = _number(raw[1:], size), (0x80, 0x100, 0x10000, 0x100000000)
        if number < least[kind - 0xCC]:
            raise ValueError("not the shortest form of an integer")
        return number, raw[1 + size :]
    if kind in (0xC4, 0xC5, 0xC6):
        size = 1 << (kind - 0xC4)
        length, start = _number(raw[1:], size), 1 + size
        if length < (0, 0x100, 0x10000)[kind - 0xC4] or start + length > len(raw):
            raise ValueError("not the shortest form of a byte string, or cut short")
        return raw[start : start + length], raw[start + length :]
    if 0x90 <= kind <= 0x9F:
        count, rest = kind - 0x90, raw[1:]
    elif kind in (0xDC, 0xDD):
        size = 2 if kind == 0xDC else 4
        count, rest = _number(raw[1:], size), raw[1 + size :]
        if count < (16 if kind == 0xDC else 0x10000):
            raise ValueError("not the shortest form of an array")
    else:
        raise ValueError("of no kind that there is")
    if depth == 0 or count > len(rest):
        raise ValueError("too deep, or more than there is")
    values = []
    for _ in range(count):
        value, rest = _read(rest, depth - 1)
        values.append(value)
    return values, rest


def _number(raw: bytes, size: int) -> int:
    if len(raw) < size:
        raise ValueError("cut short")
    return int.from_bytes(raw[:size], "big")


def _size(value: Any) -> int:
    """Return how many bytes the encoding of a value has."""
    if isinstance(value, int):
        return next(size for size, most in _INTEGERS if value < most)
    head = next(
        size
        for size, most in (_ARRAYS if isinstance(value, list) else _STRINGS)
        if len(value) < most
    )
    return head + (sum(map(_size, value)) if isinstance(value, list) else len(value))


_INTEGERS = ((1, 0x80), (2, 0x100), (3, 0x10000), (5, 1 << 32), (9, 1 << 64))
_STRINGS = ((2, 0x100), (3, 0x10000), (5, 1 << 32))
_ARRAYS = ((1, 16), (3, 0x10000), (5, 1 << 32))


def _fits(value: Any) -> bool:
    """Return whether a value has the layout of §8.2."""
    return (
        isinstance(value, list)
        and len(value) == 8
        and all(isinstance(number, int) for number in value[:4])
        and all(isinstance(rows, list) for rows in value[4:])
        and all(_is_row(row, (32, None, 32)) for row in value[4])
        and all(_is_row(row, (int, 32, None)) for row in value[5])
        and all(_is_row(row, (1_952, 3_309)) for row in value[6])
        and all(_is_row([preimage], (32,)) for preimage in value[7])
    )


def _is_row(row: Any, layout: tuple[Any, ...]) -> bool:
    """Return whether a row has this layout: `int`, or how long a byte string is, None for any."""
    return (
        isinstance(row, list)
        and len(row) == len(layout)
        and all(
            isinstance(field, int)
            if wanted is int
            else isinstance(field, bytes) and wanted in (None, len(field))
            for field, wanted in zip(row, layout, strict=True)
        )
    )


def _alone(transfer: SlowTransfer, chain_id: int) -> str | None:
    """§8.3 from `BAD_VERSION` to `BAD_ORDER`."""
    values = [value for value, _, _ in transfer.outputs]
    key_hashes = [slow_hash("key", key) for key, _ in transfer.signatures]
    rules = (
        ("BAD_VERSION", transfer.version != 1),
        ("WRONG_CHAIN", transfer.chain_id != chain_id),
        ("NO_INPUTS", len(transfer.inputs) == 0),
        ("NO_OUTPUTS", len(transfer.outputs) == 0),
        ("TOO_MANY_INPUTS", len(transfer.inputs) > 1_024),
        ("TOO_MANY_OUTPUTS", len(transfer.outputs) > 256),
        ("DUPLICATE_INPUT", _repeats([coin_id for coin_id, _, _ in transfer.inputs])),
        ("BAD_CONDITION", not all(_is_condition(raw) for _, raw, _ in transfer.inputs)),
        ("BAD_NOTE", any(len(note) not in (0, 1_360) for _, _, note in transfer.outputs)),
        ("ZERO_VALUE", 0 in values),
        ("VALUE_OVERFLOW", sum(values) + transfer.fee > 2**63 - 1),
        ("BAD_ORDER", key_hashes != sorted(set(key_hashes))),
        ("BAD_ORDER", list(transfer.preimages) != sorted(set(transfer.preimages))),
    )
    return next((name for name, broken in rules if broken), None)


def _repeats(ids: Sequence[bytes]) -> bool:
    return len(set(ids)) < len(ids)


def _is_condition(raw: bytes) -> bool:
    """§8.1."""
    if raw[:1] == b"\0":
        return len(raw) == 33
    if raw[:1] == b"\1" and len(raw) >= 3:
        m, n, keys = raw[1], raw[2], _keys_of(raw)
        return 1 <= m <= n <= 16 and len(raw) == 3 + 32 * n and keys == sorted(set(keys))
    return raw[:1] == b"\2" and len(raw) == 1 + 3 * 32 + 8


def _keys_of(multisig: bytes) -> list[bytes]:
    return [multisig[at : at + 32] for at in range(3, len(multisig), 32)]


def _witness(transfer: SlowTransfer, verify: Verify) -> str | None:
    """§8.3 from `CONDITION_UNMET` on."""
    signed = {slow_hash("key", key): (key, signature) for key, signature in transfer.signatures}
    fitting = {hashlib.sha256(preimage).digest(): preimage for preimage in transfer.preimages}
    keys: set[bytes] = set()
    preimages: set[bytes] = set()
    for _, condition, _ in transfer.inputs:
        used = _used_by(condition, set(signed), fitting, transfer.lock_height)
        if used is None:
            return "CONDITION_UNMET"
        keys |= used
        if condition[:1] == b"\2" and condition[1:33] in fitting:
            preimages.add(fitting[condition[1:33]])
    if keys != set(signed):
        return "UNUSED_SIGNATURE"
    if preimages != set(transfer.preimages):
        return "UNUSED_PREIMAGE"
    if not all(verify(key, transfer.sighash, made) for key, made in transfer.signatures):
        return "BAD_SIGNATURE"
    return None


def _used_by(
    condition: bytes, signed: set[bytes], fitting: Mapping[bytes, bytes], lock_height: int
) -> set[bytes] | None:
    """Return the keys whose signatures an input uses, None if its condition is not met."""
    if condition[0] == 0:
        wanted = {condition[1:]}
    elif condition[0] == 1:
        those = sorted(key for key in _keys_of(condition) if key in signed)
        if len(those) < condition[1]:
            return None
        wanted = set(those[: condition[1]])
    elif condition[1:33] in fitting:
        wanted = {condition[33:65]}
    elif lock_height >= int.from_bytes(condition[97:], "big"):
        wanted = {condition[65:97]}
    else:
        return None
    return wanted if wanted <= signed else None
