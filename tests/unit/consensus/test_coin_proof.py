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
from unchained.node.primitives.coin import Coin, CoinHeader

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
    "a mix of zeros": "above the target|the mix is not|not of anchor grade",
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
        ("n_total", 1, "n_total is not"),
        ("target", 1, "the target is not"),
        ("height", 1, "the height is not"),
        ("version", 1, "the version of"),
        ("time", -(10**9), "the time is not after"),
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


# Files that only somebody could make who mines: a made-up chain with one thing wrong


class ForgedMixes(MadeUpChain):
    """A chain on which the anchor of a height has a mix that no Argon2id has given."""

    def __init__(self, anchors: int, seed: int, height: int) -> None:
        self._forged_height = height
        super().__init__(anchors, seed)

    def _mined(self, header: CoinHeader) -> Coin:
        if header.height != self._forged_height:
            return super()._mined(header)
        most = self.network.grade_target(header.target)
        while True:
            header = msgspec.structs.replace(header, nonce=header.nonce + 1)
            coin = Coin.assemble(header, header.nonce.to_bytes(32, "big"))
            if int.from_bytes(coin.id, "big") <= most:
                return coin


def spent_place(chain: MadeUpChain, tip: int) -> int:
    """Return the position of a coin that is spent on its way to a tip, all three anchors apart."""
    return next(
        at
        for at, coin in enumerate(chain.coins)
        if coin.spent_height is not None and coin.height < coin.spent_height < tip
    )


@pytest.mark.parametrize("which", ["tip", "included", "earlier", "none"])
def test_the_proof_of_work_of_each_opened_anchor_is_checked(which: str) -> None:
    plain = MadeUpChain(9, 3)
    place = spent_place(plain, 9)
    coin = plain.coins[place]
    heights = {"tip": 9, "included": coin.height, "earlier": coin.spent_height or 0, "none": 99}
    chain = ForgedMixes(9, 3, heights[which])
    assert chain.coins == plain.coins
    raw = chain.file(place, 9)
    if which == "none":
        assert verify(raw).spent
    else:
        with pytest.raises(FalseCoinProofError, match="the mix is not"):
            verify(raw)


def sealed(layout: list[Any]) -> bytes:
    """Return a file of some layout."""
    return b"UNCHAINED-PROOF\x01" + msgspec.msgpack.encode(layout)


def test_the_anchors_are_those_of_the_tips_history() -> None:
    chain = MadeUpChain(9, 3)
    place = spent_place(chain, 9)
    coin = chain.coins[place]
    for field, height in ((9, coin.height), (10, coin.spent_height or 0)):
        layout = chain.proof(place, 9)
        opened = layout[field][0] if field == 10 else layout[field]
        opened[0] = chain.anchor(height + 1).opened()
        with pytest.raises(FalseCoinProofError, match="is not in the tip's history"):
            verify(sealed(layout))


class Doubles(MadeUpChain):
    """A chain that no rule allows: each coin is in its state twice, side by side."""

    def _include(self, height: int, anchors: int) -> None:
        before = len(self.coins)
        super()._include(height, anchors)
        self.coins[before:] = [coin for coin in self.coins[before:] for _ in range(2)]


def test_a_spent_coin_is_shown_unspent_at_its_own_position() -> None:
    chain = Doubles(9, 3)
    place = spent_place(chain, 9)
    assert chain.coins[place] == chain.coins[place + 1]
    assert verify(chain.file(place, 9)).spent
    layout = chain.proof(place, 9)
    layout[10][0][2] = chain.proof(place + 1, 9)[10][0][2]
    with pytest.raises(FalseCoinProofError, match="at that position"):
        verify(sealed(layout))
