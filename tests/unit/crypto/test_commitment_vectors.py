"""Merkle roots and proofs, state and history roots, body roots against known answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.vectors import load, unhex, unhex_all
from unchained.node.consensus.transition import body_root
from unchained.node.crypto import merkle, mmr
from unchained.node.crypto.lthash import StateCommitment, element
from unchained.node.primitives.body import Body

MERKLE = load("merkle")
LTHASH = load("lthash")
HISTORIES = load("mmr")["cases"]


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


def test_state_roots() -> None:
    state = StateCommitment()
    assert state.root().hex() == LTHASH["empty"]
    members = {}
    for step in LTHASH["steps"]:
        if step["op"] == "add":
            member = (
                unhex(step["id"]),
                step["value"],
                unhex(step["lock"]),
                step["height"],
                bool(step["minted"]),
            )
            lanes = element(*member)
            first = [int.from_bytes(lanes[at : at + 2], "little") for at in range(0, 8, 2)]
            assert first == step["first_lanes"]
            assert int.from_bytes(lanes[-2:], "little") == step["last_lane"]
            members[step["id"]] = member
            state.add(*member)
        else:
            state.remove(*members.pop(step["id"]))
        raw = state.to_bytes()
        first = [int.from_bytes(raw[at : at + 2], "little") for at in range(0, 8, 2)]
        assert first == step["first_lanes_of_state"]
        assert state.count == step["count"]
        assert state.root().hex() == step["state_root"]


def test_history_roots() -> None:
    history = mmr.EMPTY_HISTORY
    for case in HISTORIES:
        if case["count"]:
            history = history.append(unhex(case["id"]))
        assert history.count == case["count"]
        assert [peak.hex() for peak in history.peaks] == case["peaks"]
        assert history.root().hex() == case["history_root"]


@pytest.mark.parametrize("case", load("body")["cases"])
def test_body_roots(case: Any) -> None:
    body = Body.from_bytes(unhex(case["body"]))
    assert merkle.merkle_root(body.fresh).hex() == case["fresh_root"]
    assert merkle.merkle_root(body.uncles).hex() == case["uncles_root"]
    assert merkle.merkle_root(body.transfers).hex() == case["transfers_root"]
    assert body_root(body).hex() == case["body_root"]
