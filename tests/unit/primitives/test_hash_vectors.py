"""BLAKE3 and the protocol's use of it against known answers (Protocol §2, §3.2)."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3

from tests.framework.vectors import load, unhex
from unchained.node.consensus.fork_choice import work
from unchained.node.crypto.pow import compute_mix, reference_backend
from unchained.node.primitives import hashing
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.hashing import SALT, HashContext

BLAKE3 = load("blake3")
HASHES = load("hash")["cases"]
POW = load("pow")

CONTEXTS = {
    context.name: context for context in vars(hashing).values() if isinstance(context, HashContext)
}


@pytest.mark.parametrize("case", BLAKE3["cases"], ids=lambda case: str(case["input_len"]))
def test_blake3_derive_key(case: Any) -> None:
    data = bytes(place % 251 for place in range(case["input_len"]))
    hasher = blake3(derive_key_context=BLAKE3["context"])
    hasher.update(data)
    assert hasher.digest(131).hex() == case["output"]
    assert hasher.digest().hex() == case["output"][:64]


@pytest.mark.parametrize("case", HASHES, ids=lambda case: f"{case['ctx']}-{len(case['data'])}")
def test_contexts(case: Any) -> None:
    context = CONTEXTS[case["ctx"]]
    data = unhex(case["data"])
    assert context(data).hex() == case["H"]


def test_no_two_uses_share_a_context() -> None:
    named = [value for value in vars(hashing).values() if isinstance(value, HashContext)]
    assert len({context.name for context in named}) == len(named)
    assert repr(CONTEXTS["leaf"]) == "HashContext('leaf')"


@pytest.mark.parametrize("case", POW["cases"], ids=lambda case: f"{case['mem_kib']}KiB")
def test_proof_of_work(case: Any) -> None:
    header = unhex(case["header"])
    assert SALT(header)[:16].hex() == case["salt"]
    mix = compute_mix(reference_backend(), header, case["mem_kib"])
    assert mix.hex() == case["mix"]
    coin = Coin.assemble(CoinHeader.from_bytes(header), mix)
    assert coin.id.hex() == case["id"]
    assert (int.from_bytes(coin.id, "big") <= 2**254) is case["coin"]
    assert (int.from_bytes(coin.id, "big") <= 2**254 // 4) is case["anchor_grade_K4"]


@pytest.mark.parametrize("case", POW["work"], ids=lambda case: case["work"])
def test_work(case: Any) -> None:
    assert work(int(case["target"], 16)) == int(case["work"], 16)
