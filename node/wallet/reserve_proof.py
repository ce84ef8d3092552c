"""Reserve proofs: one file that shows that somebody held so much at an anchor (Protocol §9.3).

    file = "UNCHAINED-RESERVE" ‖ 01 ‖ MessagePack array

Each coin comes with its proof file (`consensus.coin_proof`), all of them at one tip, and with the
key hash and the salt that open its lock; each key signs the message, the tip and the coins. It
shows that the coins were unspent in the state that the tip commits to and who can spend them; not
that the tip is on the chain that counts, nor that they are unspent since.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.coin_proof import (
    COIN_PROOF_BYTES_MAX,
    CoinProof,
    CoinProofError,
    CoinStanding,
    verify_coin_proof,
)
from unchained.node.consensus.params import Network, network_for, other_network
from unchained.node.crypto.keys import RESERVE_CONTEXT, SpendKey, key_hash, verify_signature
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.conditions import KeyCondition, lock_of
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.hashing import RESERVE_PROOF
from unchained.node.primitives.transfer import Signature
from unchained.node.primitives.types import Bytes32, CoinId, KeyHash, UInt64
from unchained.node.wallet.errors import ReserveProofError

RESERVE_PROOF_NAME: Final = b"UNCHAINED-RESERVE"
"""What a file begins with, before the byte of its version."""

RESERVE_PROOF_VERSION: Final = 1
"""The only version of reserve proofs."""

RESERVE_COINS_MAX: Final = 256
"""Coins of one proof."""

RESERVE_MESSAGE_BYTES_MAX: Final = 1_024
"""Bytes of the message that a proof answers."""

RESERVE_PROOF_BYTES_MAX: Final = 8 << 20
"""Bytes of a file that is looked at: coins take some 7 KiB each."""


class ReserveCoin(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A coin: its proof file, and the key hash and the salt that open its lock."""

    proof: Annotated[bytes, msgspec.Meta(max_length=COIN_PROOF_BYTES_MAX)]
    key_hash: Bytes32
    salt: Bytes32


class ProvenReserve(msgspec.Struct, frozen=True, gc=False):
    """What a sound proof shows: coins that were unspent after anchor `state_height`, the parent of
    the tip. Times in ms, amounts in grains."""

    network: str
    message: bytes
    value: int
    coins: tuple[CoinStanding, ...]
    key_hashes: tuple[KeyHash, ...]
    tip_id: CoinId
    tip_height: int
    tip_time_ms: int
    state_height: int


class ReserveProof(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file holds: coins by ascending id, signatures by ascending key hash."""

    chain_id: UInt64
    message: Annotated[bytes, msgspec.Meta(max_length=RESERVE_MESSAGE_BYTES_MAX)]
    coins: Annotated[
        tuple[ReserveCoin, ...], msgspec.Meta(min_length=1, max_length=RESERVE_COINS_MAX)
    ]
    signatures: Annotated[
        tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=RESERVE_COINS_MAX)
    ]

    @classmethod
    def make(
        cls,
        network: Network,
        message: bytes,
        coins: Sequence[tuple[CoinProof, KeyHash, bytes]],
        keys: Sequence[SpendKey],
        randomness: Randomness = SYSTEM,
    ) -> ReserveProof:
        """Sign that the owner of coins answers a message: each with its proof, its key hash and its
        salt; `keys` are the owners'."""
        ordered = sorted(coins, key=lambda coin: coin[0].coin_id)
        digest = _digest(network.chain_id, message, [proof for proof, _, _ in ordered])
        signatures = [
            Signature(key.public_key, key.sign(digest, randomness, RESERVE_CONTEXT))
            for key in sorted(keys, key=lambda key: key.key_hash)
        ]
        return cls(
            network.chain_id,
            message,
            tuple(ReserveCoin(proof.to_file(), owner, salt) for proof, owner, salt in ordered),
            tuple(signatures),
        )

    def to_file(self) -> bytes:
        """Return the file's content. Raises `ReserveProofError` where nobody would read it."""
        content = encode(self)
        if len(content) > RESERVE_PROOF_BYTES_MAX:
            raise ReserveProofError(
                f"the proof has {len(content)} bytes, expected at most {RESERVE_PROOF_BYTES_MAX}: "
                "join the coins first"
            )
        return RESERVE_PROOF_NAME + bytes((RESERVE_PROOF_VERSION,)) + content

    @classmethod
    def from_file(cls, raw: bytes) -> ReserveProof:
        """Read a file. Raises `ReserveProofError`."""
        head = RESERVE_PROOF_NAME + bytes((RESERVE_PROOF_VERSION,))
        if not raw.startswith(head):
            raise ReserveProofError(
                f"not a reserve proof of version {RESERVE_PROOF_VERSION}: it does not begin like "
                "one"
            )
        try:
            return _DECODER.decode(raw[len(head) :])
        except NonCanonicalError as error:
            raise ReserveProofError(f"the reserve proof is malformed: {error.in_words()}") from None

    def verify(self, expected: Network | None, backend: ProofOfWork) -> ProvenReserve:
        """Check the proof by itself: its coins, whose they are, and the signatures. With None for
        the network expected it may be of any.

        Takes up to two Argon2id for each coin, some milliseconds each on the main network. Raises
        `ReserveProofError` naming what does not hold.
        """
        network = network_for(self.chain_id, expected)
        if network is None:
            raise ReserveProofError(other_network("the reserve proof", self.chain_id, expected))
        try:
            # all that is cheap before any Argon2id
            proofs = [CoinProof.from_file(coin.proof) for coin in self.coins]
            self._check_signatures(proofs)
            standings = tuple(verify_coin_proof(proof, network, backend) for proof in proofs)
        except ProtocolError as error:
            why = error.in_words()
            raise ReserveProofError(f"the reserve proof does not hold: {why}") from None
        except CoinProofError as error:
            raise ReserveProofError(f"the reserve proof does not hold: {error}") from None
        for standing in standings:
            if standing.spent:
                raise ReserveProofError(f"coin {standing.coin_id.hex()} is shown as spent")
        first = standings[0]
        return ProvenReserve(
            network.name,
            self.message,
            sum(standing.value for standing in standings),
            standings,
            tuple(key_hash(entry.public_key) for entry in self.signatures),
            first.tip_id,
            first.tip_height,
            first.tip_time_ms,
            first.state_height,
        )

    def _check_signatures(self, proofs: Sequence[CoinProof]) -> None:
        ids = [proof.coin_id for proof in proofs]
        if ids != sorted(set(ids)):
            raise ReserveProofError("the coins are not in ascending order, each of them once")
        if len({proof.tip.coin for proof in proofs}) != 1:
            raise ReserveProofError("the coins are not all proven at one tip")
        if any(proof.chain_id != self.chain_id for proof in proofs):
            raise ReserveProofError("a coin is of another network")
        for coin, proof in zip(self.coins, proofs, strict=True):
            if lock_of(KeyCondition(KeyHash(coin.key_hash)).to_bytes(), coin.salt) != proof.lock:
                raise ReserveProofError(f"no key opens the lock of coin {proof.coin_id.hex()}")
        signers = [key_hash(entry.public_key) for entry in self.signatures]
        if signers != sorted({coin.key_hash for coin in self.coins}):
            raise ReserveProofError("the signatures are not those of the coins' owners")
        digest = _digest(self.chain_id, self.message, proofs)
        for entry in self.signatures:
            if not verify_signature(entry.public_key, digest, entry.signature, RESERVE_CONTEXT):
                raise ReserveProofError("a signature does not verify: the proof was altered")


def _digest(chain_id: int, message: bytes, proofs: Sequence[CoinProof]) -> bytes:
    # Protocol §9.3
    tip = Coin.from_bytes(proofs[0].tip.coin).id
    return RESERVE_PROOF(encode((chain_id, message, tip, [proof.coin_id for proof in proofs])))


_DECODER: CanonicalDecoder[ReserveProof] = CanonicalDecoder(
    ReserveProof, max_size=RESERVE_PROOF_BYTES_MAX
)
