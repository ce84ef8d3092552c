from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import cast

import pytest

from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import BadMixError
from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.params import REG, Network
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import ZERO32, CoinId, Lock
from unchained.node.sync.header_walk import HEADERS_PER_PAGE
from unchained.node.sync.proof_sample import PROOFS_DRAWN, HeaderProofs, ProofSample

EASY = 2**250


def coin(height: int, target: int = EASY) -> Coin:
    header = CoinHeader(
        chain_id=REG.chain_id, version=1, parent=CoinId(ZERO32), height=height, time=height,
        n_total=0, target=target, lock=Lock(ZERO32), body_root=ZERO32, nonce=0,
    )  # fmt: skip
    return Coin.assemble(header, ZERO32)


def pages(chain: Sequence[Coin]) -> list[Sequence[Coin]]:
    return [chain[at : at + HEADERS_PER_PAGE] for at in range(0, len(chain), HEADERS_PER_PAGE)]


def drawn_of(chain: Sequence[Coin], seed: int) -> list[Coin]:
    sample = ProofSample(REG, random.Random(seed))
    return [found for page in pages(chain) for found in sample.draw(page)]


def chain_with(honest: int, forged: int, at: int) -> tuple[list[Coin], set[CoinId]]:
    """Return a chain of which some anchors, from a height on, have a quarter of the work, and
    these."""
    each = honest * work(EASY) // (3 * forged)
    heavy = 2**256 // each - 1
    targets = [EASY] * at + [heavy] * forged + [EASY] * (honest - at)
    chain = [coin(height, target) for height, target in enumerate(targets)]
    return chain, {found.id for found in chain[at : at + forged]}


@pytest.mark.parametrize("at", [0, 700, 1_999])
def test_a_few_headers_with_a_quarter_of_the_work_are_never_missed(at: int) -> None:
    chain, forged = chain_with(2_000, 3, at)
    for seed in range(60):
        assert any(found.id in forged for found in drawn_of(chain, seed))


def test_a_branch_as_deep_as_may_be_is_found_out_by_its_last_header() -> None:
    chain, forged = chain_with(REG.max_reorg - 1, 1, REG.max_reorg - 1)
    for seed in range(200):
        drawn = drawn_of(chain, seed)
        assert any(found.id in forged for found in drawn)
        assert len(drawn) < 2 * PROOFS_DRAWN


def test_each_draw_finds_a_header_by_its_part_in_the_work() -> None:
    # Of a page alone, whose first header has a tenth of the work; drawn once each, not so often.
    chain = [coin(0, 2**256 // (100 * work(EASY)) - 1), *(coin(at) for at in range(1, 901))]
    found = sum(chain[0] in ProofSample(REG, random.Random(seed)).draw(chain) for seed in range(50))
    assert found == 50
    even = sum(chain[1] in ProofSample(REG, random.Random(seed)).draw(chain) for seed in range(200))
    assert even < 50


def test_of_a_long_chain_as_many_are_drawn_as_its_pages_double() -> None:
    chain = [coin(height) for height in range(40 * HEADERS_PER_PAGE)]
    drawn = drawn_of(chain, 1)
    assert PROOFS_DRAWN < len(drawn) <= PROOFS_DRAWN * (1 + math.log(40)) + 60


def test_a_short_chain_is_verified_whole() -> None:
    chain = [coin(height) for height in range(20)]
    assert drawn_of(chain, 1) == chain
    assert ProofSample(REG, random.Random(1)).draw([]) == []


class CountingChain:
    """Verifies proofs as `ChainService` does; counts them."""

    network: Network = REG

    def __init__(self) -> None:
        self.verified: list[CoinId] = []

    async def verify_mixes(self, coins: Sequence[Coin], peer: str = "") -> None:
        self.verified += [coin.id for coin in coins]


async def test_a_chain_that_is_offered_again_costs_no_more_than_its_length() -> None:
    chain = CountingChain()
    proofs = HeaderProofs(cast("ChainService", chain), random.Random(1))
    page = [coin(height) for height in range(300)]
    for _ in range(50):
        await proofs.verify("peer", page, proofs.sample())
    assert len(chain.verified) == len(set(chain.verified))
    assert set(chain.verified) <= {coin.id for coin in page}


class ForgedChain(CountingChain):
    """Finds no proof that holds."""

    async def verify_mixes(self, coins: Sequence[Coin], peer: str = "") -> None:
        raise BadMixError(expected="a proof", actual="none")


async def test_a_proof_that_did_not_hold_is_not_remembered() -> None:
    proofs = HeaderProofs(cast("ChainService", ForgedChain()), random.Random(1))
    page = [coin(height) for height in range(20)]
    with pytest.raises(BadMixError):
        await proofs.verify("peer", page, proofs.sample())
    assert not any(proofs.is_proven(found.id) for found in page)
