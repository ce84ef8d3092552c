"""State and history ranges, their roots, proofs and encodings against known answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.pages import MemoryPages
from tests.framework.vectors import label, load, unhex, unhex_all
from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.history_range import (
    EMPTY_HISTORY,
    HistoryNode,
    HistoryPeaks,
    HistoryProof,
    HistoryRange,
)
from unchained.node.crypto.state_range import SPENT, StateProof, StateRange, leaf_of
from unchained.node.primitives.errors import NonCanonicalError

STATE = load("state_range")
HISTORY = load("history_range")
PROOFS = load("proofs")
GENESIS = load("genesis")


def work_of(case: Any, field: str = "work") -> int:
    return int(case[field], 16)


# -- the state ------------------------------------------------------------------------------------


def test_the_empty_state() -> None:
    root = StateRange(MemoryPages(), 0).root(0, 0).hex()
    assert root == STATE["empty"]
    assert root == GENESIS["empty_body"]["state_root"]
    assert {case["state_root_after"] for case in GENESIS["cases"]} == {root}


@pytest.mark.parametrize("reopened", [False, True], ids=["in memory", "reopened at each step"])
@pytest.mark.parametrize("run", STATE["runs"], ids=label)
def test_states_step_by_step(run: Any, reopened: bool) -> None:
    pages = MemoryPages()
    state = StateRange(pages, 0)
    leaves: dict[int, bytes] = {}
    for number, step in enumerate(run["steps"]):
        what = f"step {number}: {step['op']}"
        position = step.get("position")
        match step["op"]:
            case "append":
                coin = unhex(step["id"]), step["value"], unhex(step["lock"]), step["height"]
                leaf = leaf_of(*coin, bool(step["minted"]))
                assert leaf.hex() == step["leaf"], what
                assert state.count == position, what
                leaves[position] = leaf
                state.append(leaf)
            case "clear":
                state.set_leaf(position, SPENT)
            case "restore":
                state.set_leaf(position, leaves[position])
            case "truncate":
                state.truncate(step["to"])
            case other:
                pytest.fail(f"{what}: an unknown operation {other}")
        if reopened:
            state.flush(pages)
            state = StateRange(pages, state.count)
        assert state.count == step["positions"], what
        assert [peak.hex() for peak in state.peaks()] == step["peaks"], what
        assert state.root(step["supply"], step["pool"]).hex() == step["state_root"], what


def state_proof_of(case: Any) -> StateProof:
    siblings, peaks = unhex_all(case["siblings"]), unhex_all(case["peaks"])
    return StateProof(
        case["positions"], case["supply"], case["pool"], case["position"], siblings, peaks
    )


def test_state_proofs() -> None:
    failed = [
        (case["positions"], case["position"])
        for case in STATE["proofs"]
        if not state_range.verify(
            state_proof_of(case), unhex(case["leaf"]), unhex(case["state_root"])
        )
    ]
    assert failed == []


def test_state_proofs_that_fail() -> None:
    accepted = [
        case["why"]
        for case in STATE["bad_proofs"]
        if state_range.verify(state_proof_of(case), unhex(case["leaf"]), unhex(case["state_root"]))
    ]
    assert accepted == []


def test_the_runs_prove_what_the_vectors_prove() -> None:
    """Every proof of the vectors is of a state that a run goes through."""
    wanted = {(case["state_root"], case["position"]): case for case in STATE["proofs"]}
    for run in STATE["runs"]:
        state = StateRange(MemoryPages(), 0)
        leaves: dict[int, bytes] = {}
        for step in run["steps"]:
            if step["op"] == "append":
                leaves[step["position"]] = unhex(step["leaf"])
                state.append(unhex(step["leaf"]))
            elif step["op"] == "truncate":
                state.truncate(step["to"])
            else:
                clear = step["op"] == "clear"
                state.set_leaf(step["position"], SPENT if clear else leaves[step["position"]])
            for (root, position), case in list(wanted.items()):
                if position < state.count and (
                    state.root(case["supply"], case["pool"]).hex() == root
                ):
                    proof = state.prove(position, case["supply"], case["pool"])
                    assert proof == state_proof_of(case), (root, position)
                    assert state.leaf(position).hex() == case["leaf"], (root, position)
                    del wanted[root, position]
    assert list(wanted) == []


# -- the history ----------------------------------------------------------------------------------


def test_the_empty_history() -> None:
    root = EMPTY_HISTORY.root().hex()
    assert root == HISTORY["empty"]
    assert root == GENESIS["empty_body"]["history_root"]
    assert (EMPTY_HISTORY.work, EMPTY_HISTORY.coins, EMPTY_HISTORY.time) == (0, 0, None)


@pytest.mark.parametrize("case", GENESIS["cases"], ids=label)
def test_the_history_after_genesis(case: Any) -> None:
    node = HistoryNode.of_anchor(unhex(case["id"]), 0, 0, case["column"]["birth"])
    assert node.to_bytes().hex() == case["history_leaf"]
    assert EMPTY_HISTORY.append(node.to_bytes()).root().hex() == case["history_root_after"]


@pytest.mark.parametrize("run", HISTORY["runs"], ids=label)
def test_histories_step_by_step(run: Any) -> None:
    pages = MemoryPages()
    small, paged = EMPTY_HISTORY, HistoryRange(pages, 0)
    for number, step in enumerate(run["steps"]):
        what = f"step {number}"
        if step["anchors"]:
            node = HistoryNode.of_anchor(
                unhex(step["id"]), work_of(step), step["coins"], step["time"]
            )
            raw = node.to_bytes()
            assert raw.hex() == step["leaf"], what
            assert HistoryNode.from_bytes(raw) == node, what
            small = small.append(raw)
            paged.append(raw)
        assert small.count == step["anchors"], what
        assert [peak.hex() for peak in small.peaks] == step["peaks"], what
        assert small.root().hex() == step["history_root"], what
        assert HistoryPeaks.from_bytes(small.to_bytes()) == small, what
        paged.flush(pages)
        paged = HistoryRange(pages, paged.count)
        assert paged.history() == small, what


@pytest.mark.parametrize("case", HISTORY["joins"])
def test_history_joins(case: Any) -> None:
    assert history_range.join(unhex(case["left"]) + unhex(case["right"])).hex() == case["node"]


def history_proof_of(case: Any) -> HistoryProof:
    siblings, peaks = unhex_all(case["siblings"]), unhex_all(case["peaks"])
    return HistoryProof(case["anchors"], case["position"], siblings, peaks)


def assert_shows_what_lies_before(proof: HistoryProof, case: Any) -> None:
    what = f"anchor {proof.height} of {proof.anchors}"
    before = proof.before()
    assert before.count == proof.height, what
    assert before.work == work_of(case, "work_before"), what
    assert before.coins == case["coins_before"], what
    assert before.time == case["parent_time"], what
    assert before.root().hex() == case["own_history_root"], what


def test_history_proofs() -> None:
    for case in HISTORY["proofs"]:
        proof = history_proof_of(case)
        what = f"anchor {proof.height} of {proof.anchors}"
        leaf, root = unhex(case["leaf"]), unhex(case["history_root"])
        assert history_range.verify(proof, leaf, root), what
        assert_shows_what_lies_before(proof, case)


def test_history_proofs_that_fail() -> None:
    accepted = [
        case["why"]
        for case in HISTORY["bad_proofs"]
        if history_range.verify(
            history_proof_of(case), unhex(case["leaf"]), unhex(case["history_root"])
        )
    ]
    assert accepted == []


def test_the_histories_prove_what_the_vectors_prove() -> None:
    wanted = {(case["history_root"], case["position"]): case for case in HISTORY["proofs"]}
    for run in HISTORY["runs"]:
        history = HistoryRange(MemoryPages(), 0)
        for step in run["steps"]:
            if step["anchors"]:
                history.append(unhex(step["leaf"]))
            for height in range(history.count):
                case = wanted.pop((step["history_root"], height), None)
                if case is not None:
                    assert history.prove(height) == history_proof_of(case), (step, height)
                    assert history.leaf(height).hex() == case["leaf"], (step, height)
    assert list(wanted) == []


# -- proofs as they travel ------------------------------------------------------------------------


def test_encoded_state_proofs() -> None:
    for number, case in enumerate(PROOFS["state"]):
        what = f"proof {number}"
        raw, leaf, root = unhex(case["proof"]), unhex(case["leaf"]), unhex(case["state_root"])
        proof = StateProof.from_bytes(raw)
        assert proof.to_bytes() == raw, what
        assert state_range.verify(proof, leaf, root), what
        assert (leaf == SPENT) is bool(case["spent"]), what


def test_encoded_history_proofs() -> None:
    for number, case in enumerate(PROOFS["history"]):
        what = f"proof {number}"
        raw, leaf, root = unhex(case["proof"]), unhex(case["leaf"]), unhex(case["history_root"])
        proof = HistoryProof.from_bytes(raw)
        assert proof.to_bytes() == raw, what
        assert history_range.verify(proof, leaf, root), what
        assert_shows_what_lies_before(proof, case)


def test_refused_state_proofs() -> None:
    accepted = []
    for number, case in enumerate(PROOFS["state_refused"]):
        try:
            proof = StateProof.from_bytes(unhex(case["proof"]))
        except NonCanonicalError:
            continue
        if state_range.verify(proof, unhex(case["leaf"]), unhex(case["state_root"])):
            accepted.append((number, case["why"]))
    assert accepted == []


def test_refused_history_proofs() -> None:
    accepted = []
    for number, case in enumerate(PROOFS["history_refused"]):
        try:
            proof = HistoryProof.from_bytes(unhex(case["proof"]))
        except NonCanonicalError:
            continue
        if history_range.verify(proof, unhex(case["leaf"]), unhex(case["history_root"])):
            accepted.append((number, case["why"]))
    assert accepted == []
