"""The history range and its proofs against a second, slow implementation (Protocol §4)."""

from __future__ import annotations

import random

import pytest

from tests.framework.slow import slow_hash, slow_history_root, slow_peaks
from unchained.node.crypto.mmr import EMPTY_HISTORY, History, HistoryProof, prove, verify
from unchained.node.primitives.codec import encode
from unchained.node.primitives.errors import NonCanonicalError

IDS = [slow_hash("test", index.to_bytes(4, "big")) for index in range(130)]


def test_ranges_and_all_proofs() -> None:
    history = EMPTY_HISTORY
    assert history.root() == slow_history_root([])
    for count, anchor_id in enumerate(IDS[:40], start=1):
        before = history
        history = history.append(anchor_id)
        assert before.count == count - 1
        assert list(history.peaks) == slow_peaks(IDS[:count])
        assert history.root() == slow_history_root(IDS[:count])
        for index in range(count):
            proof = prove(IDS[:count], index)
            assert verify(proof, IDS[index], history.root())
            assert not verify(proof, IDS[count], history.root())


def test_a_long_range() -> None:
    history = EMPTY_HISTORY
    for anchor_id in IDS:
        history = history.append(anchor_id)
    assert history.root() == slow_history_root(IDS)
    assert History.from_bytes(history.to_bytes()) == history


@pytest.mark.parametrize("count", [0, 1, 3, 2**64 - 1])
def test_a_range_has_a_peak_for_each_bit(count: int) -> None:
    peaks = (bytes(32),) * count.bit_count()
    assert History.from_bytes(encode((count, peaks))).peaks == peaks
    with pytest.raises(NonCanonicalError, match="peaks over"):
        History.from_bytes(encode((count, (bytes(32),) * ((count.bit_count() + 1) % 64))))


@pytest.mark.parametrize("index", [-1, 5])
def test_proving_what_is_not_there(index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} in a history of 5 anchors"):
        prove(IDS[:5], index)


def test_altered_proofs_fail() -> None:
    ids = IDS[:13]
    root = slow_history_root(ids)
    proof = prove(ids, 9)
    count, index, siblings, peaks = proof.count, proof.index, proof.siblings, proof.peaks
    for other in (
        HistoryProof(12, index, siblings, peaks),
        HistoryProof(count, 8, siblings, peaks),
        HistoryProof(count, 13, siblings, peaks),
        HistoryProof(count, -1, siblings, peaks),
        HistoryProof(0, 0, (), ()),
        HistoryProof(2**64, 0, siblings, peaks),
        HistoryProof(count, index, siblings[:-1], peaks),
        HistoryProof(count, index, (*siblings, bytes(32)), peaks),
        HistoryProof(count, index, siblings, peaks[::-1]),
        HistoryProof(count, index, siblings, peaks[:-1]),
        HistoryProof(count, index, siblings, (*peaks, bytes(32))),
        HistoryProof(count, index, siblings, (*peaks[:-1], peaks[-1] + b"\0")),
    ):
        assert not verify(other, ids[9], root)
    assert not verify(proof, ids[9] + b"\0", root)


def test_verification_is_total() -> None:
    rng = random.Random(21)
    for _ in range(300):
        proof = HistoryProof(
            rng.getrandbits(rng.choice([1, 4, 64])),
            rng.getrandbits(rng.choice([1, 4, 64])),
            tuple(rng.randbytes(32) for _ in range(rng.randrange(8))),
            tuple(rng.randbytes(32) for _ in range(rng.randrange(8))),
        )
        assert not verify(proof, rng.randbytes(32), rng.randbytes(32))
