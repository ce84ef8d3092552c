"""The hashing loop, held against the vectors and against a search spelled out."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from unchained.miner.search import search
from unchained.node.crypto.pow import compute_mix, reference_backend
from unchained.node.primitives.hashing import COIN_HASH

CASES = json.loads((Path(__file__).parents[2] / "vectors" / "pow.json").read_text())["cases"]
PREFIX = bytes(range(158))
TARGET = 2**254
BACKEND = reference_backend()


def ids(nonces: range) -> list[tuple[int, int]]:
    """Each nonce with its id as an integer."""
    headers = [(nonce, PREFIX + nonce.to_bytes(8, "big")) for nonce in nonces]
    return [
        (nonce, int.from_bytes(COIN_HASH(header + compute_mix(BACKEND, header, 8)), "big"))
        for nonce, header in headers
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['mem_kib']}-{case['id'][:8]}")
def test_finds_the_coins_of_the_vectors_and_no_others(case: dict[str, object]) -> None:
    header = bytes.fromhex(str(case["header"]))
    nonce = int.from_bytes(header[158:], "big")
    mem_kib = int(str(case["mem_kib"]))
    found = search(BACKEND, header[:158], TARGET, mem_kib, range(nonce, nonce + 1), lambda: False)
    if case["coin"]:
        assert found is not None
        assert found.header == header
        assert found.mix.hex() == case["mix"]
        assert found.coin_id.hex() == case["id"]
    else:
        assert found is None


def test_returns_the_first_coin_and_can_go_on_after_it() -> None:
    coins = [nonce for nonce, value in ids(range(64)) if value <= TARGET]
    assert len(coins) > 3
    begin = 0
    for nonce in coins:
        found = search(BACKEND, PREFIX, TARGET, 8, range(begin, 64), lambda: False)
        assert found is not None
        assert int.from_bytes(found.header[158:], "big") == nonce
        begin = nonce + 1
    assert search(BACKEND, PREFIX, TARGET, 8, range(begin, 64), lambda: False) is None


def test_an_id_equal_to_the_target_is_a_coin() -> None:
    ((_, value),) = ids(range(7, 8))
    assert search(BACKEND, PREFIX, value, 8, range(7, 8), lambda: False) is not None
    assert search(BACKEND, PREFIX, value - 1, 8, range(7, 8), lambda: False) is None


def test_asks_after_every_hash_that_is_no_coin_and_stops_when_asked() -> None:
    asked = itertools.count(1)
    assert search(BACKEND, PREFIX, 0, 8, range(100), lambda: next(asked) == 5) is None
    assert next(asked) == 6


def test_no_nonces_no_coin() -> None:
    assert search(BACKEND, PREFIX, 2**256 - 1, 8, range(9, 9), lambda: False) is None
