"""Proof files against known answers: what each shows, and what shows nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.framework.forge import BACKEND
from tests.framework.proof_files import MadeUpChain, made_proof_files
from tests.framework.vectors import label, load, unhex
from unchained.node.consensus.coin_proof import (
    COIN_PROOF_BYTES_MAX,
    CoinProof,
    CoinStanding,
    FalseCoinProofError,
    NotACoinProofError,
    network_of,
    verify_coin_proof,
)
from unchained.node.consensus.params import LOCAL, REG

FILES = load("proof_files")


def shown_by(found: CoinStanding) -> dict[str, Any]:
    facts = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in msgspec.structs.asdict(found).items()
    }
    return facts | {"work": f"{found.work:x}", "work_since": f"{found.work_since:x}"}


def verify(raw: bytes) -> CoinStanding:
    proof = CoinProof.from_file(raw)
    return verify_coin_proof(proof, network_of(proof.chain_id), BACKEND)


def test_the_known_answers_follow_from_the_text() -> None:
    """After a change: python -m tests.framework.proof_files > tests/vectors/proof_files.json"""
    assert made_proof_files() == FILES


@pytest.mark.parametrize("case", FILES["proofs"], ids=label)
def test_a_sound_file_shows_where_the_coin_stands(case: Any) -> None:
    raw = unhex(case["file"])
    assert CoinProof.from_file(raw).to_file() == raw
    assert shown_by(verify(raw)) == case["shown"]


@pytest.mark.parametrize("case", FILES["refused"], ids=label)
def test_another_file_shows_nothing(case: Any) -> None:
    kind = {"false": FalseCoinProofError, "none": NotACoinProofError}[case["is"]]
    with pytest.raises(kind) as caught:
        verify(unhex(case["file"]))
    assert type(caught.value) is kind
    assert str(caught.value).strip()
    assert "\n" not in str(caught.value)


REASONS = {
    "a chain id of no network": "does not know",
    "another coin": "does not show the coin unspent",
    "an earlier inclusion": "not the one at the coin's height",
    "an earlier tip": "does not show its anchor of height 1",
    "spent, said unspent": "does not show the coin unspent",
    "unspent, said spent": "does not show the coin spent",
    "spent, by an earlier state of another position": "at that position",
    "spent, by the state before its inclusion": "from before the coin's inclusion",
    "a start that is not the first": "does not show its anchor of height 1",
    "a mix of zeros": "HIGH_HASH|BAD_MIX|NOT_ANCHOR",
    "another name": "does not begin like one",
    "version 2": "version 2",
}


@pytest.mark.parametrize(("what", "reason"), REASONS.items())
def test_says_what_does_not_hold(what: str, reason: str) -> None:
    (case,) = [case for case in FILES["refused"] if case["what"] == what]
    with pytest.raises((FalseCoinProofError, NotACoinProofError), match=reason):
        verify(unhex(case["file"]))


def test_looks_at_no_more_than_any_proof_needs() -> None:
    raw = unhex(FILES["proofs"][0]["file"])
    with pytest.raises(NotACoinProofError, match="at most 65536 bytes"):
        CoinProof.from_file(raw + bytes(COIN_PROOF_BYTES_MAX))


def test_is_of_the_network_that_is_asked_for() -> None:
    proof = CoinProof.from_file(unhex(FILES["proofs"][0]["file"]))
    with pytest.raises(FalseCoinProofError, match="expected local"):
        verify_coin_proof(proof, LOCAL, BACKEND)


def test_headers_are_checked_by_the_history_before_them() -> None:
    """What a forger would have to give: sound hashes over a chain whose headers do not fit it."""
    for field, change, rule in (
        ("n_total", 1, "BAD_N_TOTAL"),
        ("target", 1, "BAD_TARGET"),
        ("height", 1, "BAD_HEIGHT"),
        ("version", 1, "BAD_VERSION"),
        ("time", -(10**9), "TIME_NOT_AFTER_PARENT"),
    ):
        chain = MadeUpChain(5, 7)
        chain.tip_with(**{field: change})
        unspent = next(at for at, coin in enumerate(chain.coins) if coin.spent_height is None)
        with pytest.raises(FalseCoinProofError, match=rule):
            verify(chain.file(unspent, 5))


def test_the_first_target_is_that_of_the_network() -> None:
    chain = MadeUpChain(4, 1, msgspec.structs.replace(REG, target0=REG.target0 // 2))
    with pytest.raises(FalseCoinProofError, match="genesis of reg"):
        verify(chain.file(0, 4))
