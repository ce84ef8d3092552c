"""Addresses, paycodes and the notes that make a paycode's outputs unlinkable (Protocol §9).

PayeeError               text that names nobody who can be paid on the network
├── MalformedPayeeError  length, characters, separator or version
├── MixedCaseError       upper and lower case in one address
├── ChecksumError        mistyped
├── OtherNetworkError    an address or paycode of another network
└── BadViewKeyError      a paycode whose ML-KEM-768 public key is none

Sizes are in bytes unless a name says otherwise.
"""

from __future__ import annotations

import base64
import binascii
import struct
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from bech32 import CHARSET, bech32_hrp_expand, bech32_polymod, convertbits
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from unchained.node.crypto.keys import (
    CIPHERTEXT_SIZE,
    VIEW_KEY_SIZE,
    KeyRandomness,
    ViewKey,
    encapsulate,
    is_view_key,
)
from unchained.node.primitives.hashing import LOCK, MEMO, PAYCODE, STEALTH_SALT
from unchained.node.primitives.types import ZERO32, KeyHash, Lock

TAG_SIZE: Final = 8
"""Bytes of the tag that tells payers of one account apart."""

NO_TAG: Final = bytes(TAG_SIZE)
"""What is sealed for a paycode without a tag."""

TEXT_SIZE: Final = 256
"""Bytes that a note seals, whatever it says: tag, length, memo, zeros."""

MAX_MEMO: Final = TEXT_SIZE - TAG_SIZE - 1
"""Most bytes of a memo."""

NOTE_SIZE: Final = CIPHERTEXT_SIZE + TEXT_SIZE + 16
"""Every note: a ciphertext, the sealed text and its authentication tag."""

NETWORK_NAMES: Final = MappingProxyType(
    {
        "unc": "main",
        "tunc": "test",
        "lunc": "local",
        "runc": "reg",
        0x554E4301: "main",
        0x554E4302: "test",
        0x554E4303: "local",
        0x554E4304: "reg",
    }
)
"""Which network an address prefix or a paycode's chain id belongs to, for error messages."""

_BECH32M: Final = 0x2BC830A3
_CHECKSUM_CHARS: Final = 6
_MAX_ADDRESS_CHARS: Final = 90
_ADDRESS_VERSION: Final = b"\x00"
_ADDRESS_PAYLOAD: Final = 33
_KEY_CONDITION: Final = b"\x00"
_PAYCODE: Final = struct.Struct(f">BI32s{VIEW_KEY_SIZE}s")
_PLAIN_PAYCODE: Final = 1
_TAGGED_PAYCODE: Final = 2
_PAYCODE_CHECKSUM: Final = 4
_PAYCODE_SIZES: Final = MappingProxyType(
    {
        _PLAIN_PAYCODE: _PAYCODE.size + _PAYCODE_CHECKSUM,
        _TAGGED_PAYCODE: _PAYCODE.size + TAG_SIZE + _PAYCODE_CHECKSUM,
    }
)
_PAYCODE_CHARS: Final = tuple(-(-size * 8 // 6) for size in _PAYCODE_SIZES.values())

PAYCODE_CHARS_MAX: Final = max(_PAYCODE_CHARS)
"""Characters of the longest paycode."""
_NONCE: Final = bytes(12)


_KEY_CHARS: Final = -(-8 * _ADDRESS_PAYLOAD // 5) + _CHECKSUM_CHARS
"""Characters of an address after its prefix and the 1."""
_CUT_SHOWN: Final = 24
"""Characters of a cut paycode that an error repeats."""
_CUT_MARKS: Final = str.maketrans("", "", "….")
_PAYCODE_STARTS: Final = ("AVVOQ", "AlVOQ")
"""How the paycodes of every network begin: their kind, and three bytes of the chain id."""


class PayeeError(ValueError):
    """An address or a paycode cannot be paid."""


class MalformedPayeeError(PayeeError):
    """Length, characters, separator or version are not those of an address or paycode."""


class MixedCaseError(PayeeError):
    """An address has upper and lower case."""


class ChecksumError(PayeeError):
    """The checksum does not fit: something was mistyped or cut."""


class OtherNetworkError(PayeeError):
    """The address or paycode belongs to another network."""


class BadViewKeyError(PayeeError):
    """The paycode's view key is not an ML-KEM-768 public key."""


class PayeeNetwork(Protocol):
    """What addresses and paycodes depend on; `consensus.params.Network` has it."""

    @property
    def name(self) -> str:
        """What a user calls the network."""

    @property
    def chain_id(self) -> int:
        """In every paycode."""

    @property
    def address_prefix(self) -> str:
        """At the beginning of every address."""


def address_lock(key_hash: KeyHash) -> Lock:
    """Return the lock that an address stands for: the key's condition with a zero salt."""
    return Lock(LOCK(_KEY_CONDITION + key_hash + ZERO32))


def encode_address(network: PayeeNetwork, key_hash: KeyHash) -> str:
    """Return the address of a key hash: bech32m (BIP 350), lower case."""
    prefix = network.address_prefix
    data = convertbits(_ADDRESS_VERSION + key_hash, 8, 5) or []
    expanded = bech32_hrp_expand(prefix)
    checksum = bech32_polymod([*expanded, *data, *([0] * _CHECKSUM_CHARS)]) ^ _BECH32M
    data += [checksum >> 5 * (5 - place) & 31 for place in range(_CHECKSUM_CHARS)]
    return f"{prefix}1{''.join(CHARSET[value] for value in data)}"


def check_not_cut(text: str) -> None:
    """Raise `MalformedPayeeError` for what looks like an address or a paycode that was cut, as
    tables and people shorten them, or mistyped so that it is too short."""
    prefix, _, rest = text.lower().partition("1")
    bare = rest.translate(_CUT_MARKS)
    if prefix in NETWORK_NAMES and bare.isascii() and bare.isalnum():
        whole = len(prefix) + 1 + _KEY_CHARS
        if rest != bare or len(text) < whole:
            raise MalformedPayeeError(
                f"{text[:_MAX_ADDRESS_CHARS]!r} looks like an address that was cut or mistyped: "
                f"one of network {NETWORK_NAMES[prefix]} has {whole} characters, got {len(text)}"
            )
    if text.startswith(_PAYCODE_STARTS) and len(text) < min(_PAYCODE_CHARS):
        lengths = " or ".join(map(str, _PAYCODE_CHARS))
        raise MalformedPayeeError(
            f"{text[:_CUT_SHOWN]!r} looks like a paycode that was cut or mistyped: a paycode has "
            f"{lengths} characters, got {len(text)}"
        )


def decode_address(network: PayeeNetwork, text: str) -> KeyHash:
    """Return the key hash that an address of the network stands for. Raises `PayeeError`."""
    check_not_cut(text)
    prefix, data = _split_address(text)
    if bech32_polymod(bech32_hrp_expand(prefix) + data) != _BECH32M:
        raise ChecksumError(
            "the address's checksum is wrong: mistyped, cut, or no address"
            + _other_prefix(prefix, network)
        )
    if prefix != network.address_prefix:
        raise OtherNetworkError(
            f"the address is for network {NETWORK_NAMES.get(prefix, repr(prefix))}, "
            f"expected {network.name}"
        )
    payload = convertbits(data[:-_CHECKSUM_CHARS], 5, 8, pad=False)
    if payload is None or len(payload) != _ADDRESS_PAYLOAD or payload[0] != _ADDRESS_VERSION[0]:
        raise MalformedPayeeError(f"an address of version 0 carries {_ADDRESS_PAYLOAD} bytes")
    return KeyHash(bytes(payload[1:]))


def _other_prefix(prefix: str, network: PayeeNetwork) -> str:
    """Return what else is wrong with what may be an address, nothing if its prefix is right."""
    if prefix == network.address_prefix:
        return ""
    other = NETWORK_NAMES.get(prefix)
    whose = "no network's" if other is None else f"that of network {other}"
    return f"; its prefix {prefix!r} is {whose}, expected {network.address_prefix!r}"


def _split_address(text: str) -> tuple[str, list[int]]:
    """Return prefix and five-bit values, checksum included, of what looks like bech32."""
    if len(text) > _MAX_ADDRESS_CHARS and text.startswith(_PAYCODE_STARTS):
        raise MalformedPayeeError("expected an address, got what begins like a paycode")
    if len(text) > _MAX_ADDRESS_CHARS:
        raise MalformedPayeeError(
            f"an address has at most {_MAX_ADDRESS_CHARS} characters, got {len(text)}"
        )
    for position, character in enumerate(text, start=1):
        if not "!" <= character <= "~":
            raise MalformedPayeeError(f"character {position} of the address is {character!r}")
    lower = text.lower()
    if text not in (lower, text.upper()):
        raise MixedCaseError("the address mixes upper and lower case")
    prefix, separator, rest = lower.rpartition("1")
    if not separator or not prefix or len(rest) <= _CHECKSUM_CHARS:
        raise MalformedPayeeError(
            f"{text[:_CUT_SHOWN]!r} is neither an address nor a paycode: an address is a prefix, "
            "a 1, and more than 6 characters"
        )
    data = [CHARSET.find(character) for character in rest]
    if -1 in data:
        position = len(prefix) + 2 + data.index(-1)
        raise MalformedPayeeError(
            f"character {position} of the address is {text[position - 1]!r}, which no address has"
        )
    return prefix, data


class Paycode(msgspec.Struct, frozen=True, gc=False):
    """Whom to pay without linking payments. `view_key` is an ML-KEM-768 public key; `tag` says
    for whom the paycode was made, 8 bytes, zeros where it does not say."""

    chain_id: int
    key_hash: KeyHash
    view_key: bytes
    tag: bytes = NO_TAG


def encode_paycode(paycode: Paycode) -> str:
    """Return a paycode's text: base64url without padding."""
    kind = _PLAIN_PAYCODE if paycode.tag == NO_TAG else _TAGGED_PAYCODE
    body = _PAYCODE.pack(kind, paycode.chain_id, paycode.key_hash, paycode.view_key)
    if kind == _TAGGED_PAYCODE:
        body += paycode.tag
    raw = body + PAYCODE(body)[:_PAYCODE_CHECKSUM]
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_paycode(network: PayeeNetwork, text: str) -> Paycode:
    """Return a paycode of the network. Raises `PayeeError`."""
    check_not_cut(text)
    if len(text) not in _PAYCODE_CHARS:
        lengths = " or ".join(map(str, _PAYCODE_CHARS))
        raise MalformedPayeeError(f"a paycode has {lengths} characters, got {len(text)}")
    padding = "=" * (-len(text) % 4)
    try:
        raw = base64.b64decode((text + padding).encode("ascii"), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise MalformedPayeeError("a paycode is base64url without padding") from None
    # Protocol §9: a decoder re-encodes and compares
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise MalformedPayeeError("the paycode is not in its one spelling")
    body = raw[:-_PAYCODE_CHECKSUM]
    if PAYCODE(body)[:_PAYCODE_CHECKSUM] != raw[-_PAYCODE_CHECKSUM:]:
        raise ChecksumError("the paycode's checksum is wrong: mistyped, cut, or no paycode")
    kind, chain_id, key_hash, view_key = _PAYCODE.unpack_from(body)
    if _PAYCODE_SIZES.get(kind) != len(raw):
        raise MalformedPayeeError(
            f"a paycode of kind {kind} does not exist, or not with {len(text)} characters"
        )
    if chain_id != network.chain_id:
        raise OtherNetworkError(
            f"the paycode is for network {NETWORK_NAMES.get(chain_id, hex(chain_id))}, "
            f"expected {network.name}"
        )
    tag = body[_PAYCODE.size :]
    # Protocol §9: a tag is not zero
    if tag == NO_TAG:
        raise MalformedPayeeError(f"the tag of a paycode of kind {_TAGGED_PAYCODE} is not zero")
    if not is_view_key(view_key):
        raise BadViewKeyError("the paycode's view key is not an ML-KEM-768 public key")
    return Paycode(chain_id, KeyHash(key_hash), view_key, tag or NO_TAG)


class OutputPlace(msgspec.Struct, frozen=True, gc=False):
    """Where an output stands, which its note is bound to: the coin that its transfer's first
    input spends, and its index."""

    first_input: bytes
    index: int


class SealedNote(msgspec.Struct, frozen=True, gc=False):
    """What a sender puts into an output to a paycode: lock and note. `salt` opens the lock;
    `shared` is the secret that payer and payee share, 32 bytes: it proves whom the output pays."""

    salt: bytes
    lock: Lock
    note: bytes
    shared: bytes

    def __repr__(self) -> str:
        return f"<SealedNote {self.lock.hex()}>"


class OpenedNote(msgspec.Struct, frozen=True, gc=False):
    """What a receiver finds: the salt to spend the coin with, the tag that it was paid under and
    the memo; both None where they cannot be read. The coin can be spent all the same.
    """

    salt: bytes
    tag: bytes | None
    memo: bytes | None


def stealth_salt(shared: bytes, ciphertext: bytes, place: OutputPlace) -> bytes:
    """Return the salt of an output to a paycode (Protocol §9): another in any other place, so
    that a note copied into another transfer opens nothing."""
    return STEALTH_SALT(shared + ciphertext + place.first_input + place.index.to_bytes(4, "big"))


def seal_note(
    paycode: Paycode,
    place: OutputPlace,
    memo: bytes = b"",
    *,
    randomness: KeyRandomness | None = None,
) -> SealedNote:
    """Make an output to a paycode, with a secret of its own each time.

    Raises ValueError for a memo of more than 247 bytes.
    """
    if len(memo) > MAX_MEMO:
        raise ValueError(f"a memo has at most {MAX_MEMO} bytes, got {len(memo)}")
    shared, ciphertext = encapsulate(paycode.view_key, randomness)
    salt = stealth_salt(shared, ciphertext, place)
    lock = Lock(LOCK(_KEY_CONDITION + paycode.key_hash + salt))
    text = (paycode.tag + bytes((len(memo),)) + memo).ljust(TEXT_SIZE, b"\0")
    # the key is used once, so the nonce may be constant
    sealed = ChaCha20Poly1305(MEMO(shared)).encrypt(_NONCE, text, lock)
    return SealedNote(salt, lock, ciphertext + sealed, shared)


def paid_memo(
    paycode: Paycode, place: OutputPlace, lock: Lock, note: bytes, shared: bytes
) -> bytes | None:
    """Return the memo of an output that pays a paycode, by the secret that its payer kept; None
    where it does not pay that one.

    The lock opens with the paycode's spend key alone, whatever the payer says of the rest.
    """
    if len(note) != NOTE_SIZE:
        return None
    salt = stealth_salt(shared, note[:CIPHERTEXT_SIZE], place)
    if LOCK(_KEY_CONDITION + paycode.key_hash + salt) != lock:
        return None
    text = _open_text(lock, note, shared)
    if text is None:
        return None
    tag, memo = read_text(text)
    return memo if tag == paycode.tag else None


def opens_note(lock: Lock, note: bytes, shared: bytes) -> bool:
    """Return whether a secret opens what an output's note seals."""
    return len(note) == NOTE_SIZE and _open_text(lock, note, shared) is not None


def _open_text(lock: Lock, note: bytes, shared: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(MEMO(shared)).decrypt(_NONCE, note[CIPHERTEXT_SIZE:], lock)
    except InvalidTag:
        return None


def open_note(
    view_key: ViewKey, key_hash: KeyHash, place: OutputPlace, lock: Lock, note: bytes
) -> OpenedNote | None:
    """Open an output's note, or return None where the output is not the account's."""
    if len(note) != NOTE_SIZE:
        return None
    ciphertext = note[:CIPHERTEXT_SIZE]
    shared = view_key.decapsulate(ciphertext)
    salt = stealth_salt(shared, ciphertext, place)
    if LOCK(_KEY_CONDITION + key_hash + salt) != lock:
        return None
    text = _open_text(lock, note, shared)
    return OpenedNote(salt, None, None) if text is None else OpenedNote(salt, *read_text(text))


def read_text(text: bytes) -> tuple[bytes, bytes] | tuple[None, None]:
    """Return tag and memo of what a note seals, 256 bytes; neither where it is of another form."""
    length = text[TAG_SIZE]
    memo, rest = text[TAG_SIZE + 1 :][:length], text[TAG_SIZE + 1 :][length:]
    if length > MAX_MEMO or any(rest):
        return None, None
    return text[:TAG_SIZE], memo
