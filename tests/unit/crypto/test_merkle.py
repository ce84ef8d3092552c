"""Merkle roots and proofs against a second, slow implementation (Protocol §2)."""

from __future__ import annotations

import random

import msgspec
import pytest

from tests.framework.slow import slow_hash, slow_merkle_root
from unchained.node.crypto.merkle import (
    MAX_LEAVES,
    MAX_SIBLINGS,
    MerkleProof,
    merkle_root,
    merkle_top,
    prove,
    root_of,
    verify,
)
from unchained.node.primitives.errors import NonCanonicalError


def some_ids(count: int) -> list[bytes]:
    return [slow_hash("test", index.to_bytes(4, "big")) for index in range(count)]


@pytest.mark.parametrize("count", [*range(34), 63, 64, 65, 100, 255, 256, 257])
def test_roots_and_all_proofs(count: int) -> None:
    ids = some_ids(count)
    root = merkle_root(ids)
    assert root == slow_merkle_root(ids) == root_of(count, merkle_top(ids))
    for index in range(count):
        proof = prove(ids, index)
        assert verify(proof, ids[index], root)
        assert not verify(proof, ids[index - 1], root) or count == 1
        assert MerkleProof.from_bytes(proof.to_bytes()) == proof


def test_no_ids_have_a_top_of_zeros() -> None:
    assert merkle_top(()) == bytes(32)


@pytest.mark.parametrize("index", [-1, 3])
def test_proving_what_is_not_there(index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} in a list of 3 ids"):
        prove(some_ids(3), index)


def test_altered_proofs_fail() -> None:
    ids = some_ids(11)
    root = merkle_root(ids)
    proof = prove(ids, 5)
    siblings = proof.siblings
    for other in (
        MerkleProof(12, 5, siblings),
        MerkleProof(11, 4, siblings),
        MerkleProof(11, 11, siblings),
        MerkleProof(11, -1, siblings),
        MerkleProof(0, 0, ()),
        MerkleProof(MAX_LEAVES + 1, 5, siblings),
        MerkleProof(11, 5, siblings[:-1]),
        MerkleProof(11, 5, (*siblings, bytes(32))),
        MerkleProof(11, 5, (siblings[0] + b"\0", *siblings[1:])),
        MerkleProof(11, 5, siblings[::-1]),
    ):
        assert not verify(other, ids[5], root)
    assert not verify(proof, ids[5] + b"\0", root)
    assert not verify(proof, ids[5], root[:-1])


def test_an_inner_node_is_no_leaf() -> None:
    ids = some_ids(4)
    inner = slow_hash("leaf", ids[0]) + slow_hash("leaf", ids[1])
    top_sibling = prove(ids, 0).siblings[1]
    assert not verify(MerkleProof(2, 0, (top_sibling,)), inner, merkle_root(ids))


def test_verification_is_total() -> None:
    rng = random.Random(20)
    for _ in range(300):
        proof = MerkleProof(
            rng.getrandbits(rng.choice([1, 4, 32, 64])),
            rng.getrandbits(rng.choice([1, 4, 32, 64])),
            tuple(rng.randbytes(rng.choice([0, 31, 32])) for _ in range(rng.randrange(40))),
        )
        assert not verify(proof, rng.randbytes(rng.choice([0, 32])), rng.randbytes(32))


def test_proofs_of_too_many_siblings_are_not_decoded() -> None:
    siblings = (bytes(32),) * (MAX_SIBLINGS + 1)
    with pytest.raises(NonCanonicalError):
        MerkleProof.from_bytes(msgspec.msgpack.encode((1, 0, siblings)))
