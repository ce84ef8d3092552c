"""Proof files: what became of a coin, shown without a node (Protocol §12.1).

    file = "UNCHAINED-PROOF" ‖ 01 ‖ CoinProof

From the coin over its position to the state root, over the state root and the history root to the
body root of an anchor, the tip; from the including anchor, and for a spent coin from an earlier
state, over the history to the same tip. What it shows is what the tip commits to: the state after
the tip's parent. That the tip is on the chain that counts is for the reader to know.

CoinProofError
├── NotACoinProofError     the bytes are no proof file
└── FalseCoinProofError    they are one, and what it says is not shown
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from unchained.node.consensus.coins import check_mix
from unchained.node.consensus.context import leaf_of
from unchained.node.consensus.opened_anchors import (
    HistoryStart,
    UnprovenHistoryError,
    check_opened,
    check_start,
)
from unchained.node.consensus.params import NETWORKS, Network
from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.crypto.history_range import HistoryPeaks, HistoryProof
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.crypto.state_range import SPENT, StateProof
from unchained.node.primitives.codec import CanonicalDecoder, encode
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import NonCanonicalError, ProtocolError
from unchained.node.primitives.types import Bytes32, CoinId, Lock, UInt64

COIN_PROOF_NAME: Final = b"UNCHAINED-PROOF"
"""What a file begins with, before the byte of its version."""

COIN_PROOF_VERSION: Final = 1
"""The only version of proof files."""

COIN_PROOF_BYTES_MAX: Final = 64 << 10
"""Bytes of a file that is looked at: more than the longest paths need."""


class CoinProofError(Exception):
    """A proof file does not show what it is for."""


class NotACoinProofError(CoinProofError):
    """The bytes are no proof file."""


class FalseCoinProofError(CoinProofError):
    """A proof file says what it does not show."""


class AnchorInHistory(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An anchor, opened, and its path to the history root of the tip."""

    header: AnchorHeader
    path: HistoryProof


class EarlierState(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An anchor below the tip, and the path of a position to the state root in its body."""

    header: AnchorHeader
    path: HistoryProof
    state: StateProof


class CoinProof(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a file holds. `value` in grains, `height` of inclusion, `minted` 1 or 0. `state` is a
    path to the tip's state root, `start` and the path of `included` lead to its history root.
    `earlier` is there for a coin that is spent, and there alone."""

    chain_id: UInt64
    coin_id: Bytes32
    value: UInt64
    lock: Bytes32
    height: UInt64
    minted: Annotated[int, msgspec.Meta(ge=0, le=1)]
    tip: AnchorHeader
    state: StateProof
    start: HistoryStart
    included: AnchorInHistory
    earlier: Annotated[tuple[EarlierState, ...], msgspec.Meta(max_length=1)]

    def to_file(self) -> bytes:
        """Return the file."""
        return COIN_PROOF_NAME + bytes((COIN_PROOF_VERSION,)) + encode(self)

    @classmethod
    def from_file(cls, raw: bytes) -> CoinProof:
        """Decode a file of whatever content. Raises `NotACoinProofError`."""
        if not raw.startswith(COIN_PROOF_NAME) or len(raw) == len(COIN_PROOF_NAME):
            raise NotACoinProofError("not a proof file: it does not begin like one")
        version = raw[len(COIN_PROOF_NAME)]
        if version != COIN_PROOF_VERSION:
            raise NotACoinProofError(
                f"a proof file of version {version}, this program knows {COIN_PROOF_VERSION}"
            )
        try:
            return _DECODER.decode(raw[len(COIN_PROOF_NAME) + 1 :])
        except NonCanonicalError as error:
            raise NotACoinProofError(f"not a proof file: {error.in_words()}") from None


class CoinStanding(msgspec.Struct, frozen=True):
    """What a sound proof shows: where a coin stands in the state after anchor `state_height`,
    which is the tip's parent. Times in ms, amounts in grains.

    `anchor_id` is the anchor that includes the coin, at `height`. A spent coin was unspent after
    anchor `unspent_height` and was spent at the latest by anchor `state_height`. `anchors`, `work`
    and `coins` are those of the chain up to the tip's parent, `work_since` and `coins_since` those
    of its anchors from the including one on: of anchors that are not opened a claim of who mined
    the tip.
    """

    network: str
    tip_id: CoinId
    tip_height: int
    tip_time_ms: int
    state_height: int
    coin_id: CoinId
    value: int
    lock: Lock
    minted: bool
    height: int
    anchor_id: CoinId
    anchor_time_ms: int
    position: int
    positions: int
    spent: bool
    unspent_height: int | None
    supply: int
    pool: int
    anchors: int
    work: int
    coins: int
    work_since: int
    coins_since: int


def network_of(chain_id: int) -> Network:
    """Return the network of a chain id. Raises `FalseCoinProofError` for one that there is not."""
    for network in NETWORKS.values():
        if network.chain_id == chain_id:
            return network
    raise FalseCoinProofError(f"it is of chain {chain_id:#x}, which this program does not know")


def verify_coin_proof(proof: CoinProof, network: Network, backend: ProofOfWork) -> CoinStanding:
    """Check a proof by itself: hashes, headers, and at most three proofs of work.

    Takes an Argon2id each, milliseconds on the main network. Raises `FalseCoinProofError` naming
    what does not hold.
    """
    try:
        return _Check(proof, network).run(backend)
    except ProtocolError as error:
        raise FalseCoinProofError(error.in_words()) from None
    except UnprovenHistoryError as error:
        raise FalseCoinProofError(str(error)) from None


class _Check:
    """One verification: all that is cheap before any Argon2id."""

    def __init__(self, proof: CoinProof, network: Network) -> None:
        self._proof = proof
        self._network = network
        self._opened: list[Coin] = []

    def run(self, backend: ProofOfWork) -> CoinStanding:
        proof, network = self._proof, self._network
        if proof.chain_id != network.chain_id:
            raise FalseCoinProofError(f"it is of another network, expected {network.name}")
        history = check_start(proof.start, proof.tip.history_root, network)
        tip = self._check_opened(proof.tip, history)
        anchor, before = self._check_below(proof.included.header, proof.included.path)
        # Protocol §12.1: "`included` is the anchor at the height of inclusion."
        if anchor.height != proof.height:
            raise FalseCoinProofError("the including anchor is not the one at the coin's height")
        unspent_height = self._check_states()
        for opened in self._opened:
            check_mix(opened, network, backend)
        return CoinStanding(
            network.name,
            tip.id,
            tip.height,
            tip.header.time,
            tip.height - 1,
            CoinId(proof.coin_id),
            proof.value,
            Lock(proof.lock),
            proof.minted == 1,
            proof.height,
            anchor.id,
            anchor.header.time,
            proof.state.position,
            proof.state.positions,
            unspent_height is not None,
            unspent_height,
            proof.state.supply,
            proof.state.pool,
            history.count,
            history.work,
            history.coins,
            history.work - before.work,
            history.coins - before.coins,
        )

    def _check_opened(self, header: AnchorHeader, before: HistoryPeaks) -> Coin:
        anchor = check_opened(header, before, self._proof.start.first(), self._network)
        self._opened.append(anchor)
        return anchor

    def _check_below(self, header: AnchorHeader, path: HistoryProof) -> tuple[Coin, HistoryPeaks]:
        """Check an anchor of the tip's history; return it, and the history before it."""
        anchor = Coin.from_bytes(header.coin)
        leaf = leaf_of(anchor, header.fresh.n + header.uncles.n, self._network)
        if not history_range.verify(path, leaf, self._proof.tip.history_root):
            raise FalseCoinProofError(f"anchor {anchor.id.hex()} is not in the tip's history")
        before = path.before()
        return self._check_opened(header, before), before

    def _check_states(self) -> int | None:
        """Check the coin's leaf; return after which anchor a spent coin is shown unspent."""
        proof = self._proof
        unspent = state_range.leaf_of(
            proof.coin_id, proof.value, proof.lock, proof.height, proof.minted == 1
        )
        # Protocol §12.1: "Of an unspent coin, `state` shows the coin's leaf."
        leaf = SPENT if proof.earlier else unspent
        if not state_range.verify(proof.state, leaf, proof.tip.state_root):
            state = "spent" if proof.earlier else "unspent"
            raise FalseCoinProofError(f"the tip's state does not show the coin {state}")
        if not proof.earlier:
            return None
        (earlier,) = proof.earlier
        anchor, _ = self._check_below(earlier.header, earlier.path)
        # Protocol §12.1: "from above the height of inclusion, shows the coin's leaf at the same"
        if anchor.height <= proof.height:
            raise FalseCoinProofError("the earlier state is from before the coin's inclusion")
        if earlier.state.position != proof.state.position or not state_range.verify(
            earlier.state, unspent, earlier.header.state_root
        ):
            raise FalseCoinProofError("the earlier state does not show the coin at that position")
        return anchor.height - 1


_DECODER = CanonicalDecoder(CoinProof, max_size=COIN_PROOF_BYTES_MAX)
