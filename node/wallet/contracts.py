"""Conditions that the wallet shares with others: m of n keys, and hash-time-locks (Protocol §8.1).

A contract is a condition and the salt of its lock. All who are party to it need both, so that they
see its coins and can spend them; the text that carries them (`checked_text`, of a MessagePack
array) spends nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.base.number_words import duration
from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.params import Network
from unchained.node.crypto.addresses import PayeeError, decode_address, decode_paycode
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.conditions import (
    MAX_MULTISIG_KEYS,
    Condition,
    HashTimeLockCondition,
    MultisigCondition,
    lock_of,
    parse_condition,
)
from unchained.node.primitives.errors import BadConditionError, NonCanonicalError
from unchained.node.primitives.hashing import HashContext
from unchained.node.primitives.types import U64_MAX, Bytes32, KeyHash, Lock, UInt64
from unchained.node.wallet.checked_text import CheckedText, MalformedTextError
from unchained.node.wallet.errors import ContractError

CONTRACT_PREFIX: Final = "contract:"
"""What a contract's text begins with."""

CONTRACT_CHARS_MAX: Final = 4_096
"""Characters of a contract's text that is looked at; the largest that can be made has some 900."""

PREIMAGE_SIZE: Final = 32
"""Bytes of the preimage of a hash-time-lock."""

REFUND_YEARS_MAX: Final = 20
"""Years at the network's pace that a new hash-time-lock may be from its refund: what is further off
is a slip of the pen, and what is paid to it would never come back."""

_YEAR_MS: Final = 365 * 86_400_000

_TEXT: Final = CheckedText(CONTRACT_PREFIX, HashContext("wallet contract"))


class Contract(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A condition on one network, and the salt of its lock."""

    chain_id: UInt64
    condition: Annotated[bytes, msgspec.Meta(max_length=1_024)]
    salt: Bytes32

    @property
    def lock(self) -> Lock:
        """What coins under the contract are locked with."""
        return lock_of(self.condition, self.salt)

    @property
    def terms(self) -> Condition:
        """The condition, read."""
        return parse_condition(self.condition)

    @property
    def preimage_hash(self) -> bytes | None:
        """The SHA-256 of the preimage that claims what is under it; None for an m-of-n."""
        terms = self.terms
        return terms.hash if isinstance(terms, HashTimeLockCondition) else None

    def check_preimage(self, preimage: bytes) -> None:
        """Check that a preimage claims what is under it. Raises `ContractError`."""
        if hashlib.sha256(preimage).digest() != self.preimage_hash:
            raise ContractError("the preimage does not fit the contract's hash")

    def to_text(self) -> str:
        """Return the text that the other parties need."""
        return _TEXT.write(encode(self))

    @classmethod
    def from_text(cls, text: str, network: Network) -> Contract:
        """Read a text. Raises `ContractError`."""
        if len(text) > CONTRACT_CHARS_MAX:
            raise ContractError(f"not a contract: expected {CONTRACT_PREFIX}…")
        try:
            contract = _DECODER.decode(_TEXT.read(text))
            terms = contract.terms
        except MalformedTextError as error:
            raise ContractError(f"not a contract: {error}") from None
        except (NonCanonicalError, BadConditionError) as error:
            raise ContractError(f"the contract is malformed: {error.in_words()}") from None
        if contract.chain_id != network.chain_id:
            raise ContractError(f"the contract is of another network, expected {network.name}")
        if not isinstance(terms, MultisigCondition | HashTimeLockCondition):
            raise ContractError("a contract is an m-of-n or a hash-time-lock")
        return contract


class HashTimeLock(msgspec.Struct, frozen=True):
    """A contract of kind 2 that was made here, and the preimage if it was made here too."""

    contract: Contract
    preimage: bytes | None

    def __repr__(self) -> str:
        return f"<HashTimeLock {self.contract.lock.hex()}>"


def key_of(network: Network, text: str) -> KeyHash:
    """Return the key hash that an address or a paycode names. Raises `ContractError`."""
    try:
        if len(text) > 90:
            return decode_paycode(network, text).key_hash
        return decode_address(network, text)
    except PayeeError as error:
        raise ContractError(str(error)) from None


def multisig(
    network: Network, threshold: int, parties: Sequence[str], randomness: Randomness = SYSTEM
) -> Contract:
    """Make an m-of-n of the keys of addresses or paycodes. Raises `ContractError`."""
    keys = sorted({key_of(network, party) for party in parties})
    if len(keys) != len(parties):
        raise ContractError("a party is named twice")
    if not 1 <= threshold <= len(keys) <= MAX_MULTISIG_KEYS:
        raise ContractError(
            f"expected at most {MAX_MULTISIG_KEYS} parties, of whom some or all have to sign: "
            f"{threshold} of {len(keys)} cannot"
        )
    condition = MultisigCondition(threshold, tuple(keys)).to_bytes()
    return Contract(network.chain_id, condition, randomness.token_bytes(32))


def hash_time_lock(
    network: Network,
    claim: str,
    refund: str,
    height: int,
    digest: bytes | None = None,
    randomness: Randomness = SYSTEM,
    *,
    next_height: int = 0,
) -> HashTimeLock:
    """Make a hash-time-lock: `claim` takes it with the preimage, `refund` from `height` on, which
    has to be above `next_height`, that of the anchor to come, and at most `REFUND_YEARS_MAX` off.

    Without a SHA-256 `digest` a preimage is drawn here. Raises `ContractError`.
    """
    preimage = randomness.token_bytes(PREIMAGE_SIZE) if digest is None else None
    if preimage is not None:
        digest = hashlib.sha256(preimage).digest()
    if digest is None or len(digest) != 32:
        raise ContractError("the hash of a hash-time-lock has 32 bytes")
    if not 0 < height <= U64_MAX:
        raise ContractError(f"{height} is no height to refund from")
    if height <= next_height:
        raise ContractError(
            f"it could be refunded at once, before anybody can claim it: expected a height above "
            f"{next_height}, that of the next anchor, got {height}"
        )
    anchors = REFUND_YEARS_MAX * _YEAR_MS // network.epoch_ms
    if height > next_height + anchors:
        years = (height - next_height) * network.epoch_ms // _YEAR_MS
        raise ContractError(
            f"at an anchor every {duration(network.epoch_ms)} it could not be refunded for "
            f"{years:,} years: expected a height of at most {next_height + anchors}, which is "
            f"{REFUND_YEARS_MAX} years off, got {height}"
        )
    condition = HashTimeLockCondition(
        digest, key_of(network, claim), key_of(network, refund), height
    )
    contract = Contract(network.chain_id, condition.to_bytes(), randomness.token_bytes(32))
    return HashTimeLock(contract, preimage)


_DECODER: CanonicalDecoder[Contract] = CanonicalDecoder(Contract, max_size=2_048)
