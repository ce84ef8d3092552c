"""Merkle roots and proofs, body roots against known answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.vectors import load, unhex, unhex_all
from unchained.node.consensus.transition import body_root
from unchained.node.crypto import merkle
from unchained.node.primitives.body import Body

MERKLE = load("merkle")


@pytest.mark.parametrize("case", MERKLE["roots"], ids=lambda case: str(len(case["ids"])))
def test_merkle_roots(case: Any) -> None:
    ids = unhex_all(case["ids"])
    assert merkle.merkle_root(ids).hex() == case["root"]
    assert merkle.root_of(len(ids), merkle.merkle_top(ids)).hex() == case["root"]


def proof_of(case: Any) -> merkle.MerkleProof:
    return merkle.MerkleProof(case["n"], case["index"], unhex_all(case["siblings"]))


@pytest.mark.parametrize("case", MERKLE["proofs"], ids=lambda case: f"{case['index']}of{case['n']}")
def test_merkle_proofs(case: Any) -> None:
    assert merkle.verify(proof_of(case), unhex(case["id"]), unhex(case["root"]))
    ids = next(unhex_all(c["ids"]) for c in MERKLE["roots"] if len(c["ids"]) == case["n"])
    assert merkle.prove(ids, case["index"]) == proof_of(case)


def test_merkle_proofs_that_fail() -> None:
    accepted = [
        case["why"]
        for case in MERKLE["bad_proofs"]
        if merkle.verify(proof_of(case), unhex(case["id"]), unhex(case["root"]))
    ]
    assert accepted == []


@pytest.mark.parametrize("case", load("body")["cases"])
def test_body_roots(case: Any) -> None:
    body = Body.from_bytes(unhex(case["body"]))
    assert merkle.merkle_root(body.fresh).hex() == case["fresh_root"]
    assert merkle.merkle_root(body.uncles).hex() == case["uncles_root"]
    assert merkle.merkle_root(body.transfers).hex() == case["transfers_root"]
    assert body_root(body).hex() == case["body_root"]
