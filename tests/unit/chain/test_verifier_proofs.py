"""Proofs of work verified several at a time: none for nothing, and no peer's before another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple, cast

import msgspec
import pytest
import trio
import trio.testing

from unchained.node.base.runner import InlineRunner, Runner
from unchained.node.chain.proof_places import PROOFS_PER_PEER
from unchained.node.chain.verifier import Verifier
from unchained.node.consensus.errors import BadMixError
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import ZERO32, Lock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MIX = b"m" * 32
MAIN = msgspec.structs.replace(REG, mem_kib=16_384)
AT_ONCE = 4
"""Proofs of 16 MiB in one trip to a thread."""


class Backend:
    """Gives all coins the same mix; counts proofs by nonce."""

    name = "counting"

    def __init__(self) -> None:
        self.proofs: Counter[int] = Counter()

    def argon2id(self, password: bytes, salt: bytes, **how: Any) -> bytes:
        self.proofs[CoinHeader.from_bytes(password).nonce] += 1
        return MIX


def coin(nonce: int, *, forged: bool = False) -> Coin:
    header = CoinHeader(REG.chain_id, 1, ZERO32, 1, 1, 0, REG.target0, Lock(ZERO32), ZERO32, nonce)
    return Coin.assemble(header, ZERO32 if forged else MIX)


def coins(count: int, *forged: int) -> list[Coin]:
    return [coin(at, forged=at in forged) for at in range(count)]


class Threads:
    """Takes a second for each trip; counts what is under way at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.trips = 0

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        self.now += 1
        self.trips += 1
        self.most = max(self.most, self.now)
        await trio.sleep(1)
        self.now -= 1
        return work(*args)


def verifier_of(runner: Runner, count: int) -> tuple[Verifier, Backend]:
    backend = Backend()
    return Verifier(MAIN, runner, count, cast("Any", backend)), backend


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("number", [0, 1, 4, 5, 100])
async def test_each_is_verified_once(number: int, threads: int) -> None:
    work, backend = verifier_of(InlineRunner(), threads)
    for peer in ("", "peer"):
        await work.verify_mixes(coins(number), peer)
    assert await work.find_forged(coins(number)) is None
    assert backend.proofs == dict.fromkeys(range(number), 3)
    assert work.mixes == 3 * number
    assert work.in_hand == 0
    assert not work.places._places


@pytest.mark.parametrize("threads", [1, 2, 8])
async def test_one_that_is_forged_ends_the_work_of_all_threads(threads: int) -> None:
    work, backend = verifier_of(Threads(), threads)
    with pytest.raises(BadMixError):
        await work.verify_mixes(coins(2_048, 5))
    assert backend.proofs.total() <= 5 + threads * AT_ONCE
    assert work.mixes == backend.proofs.total()


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("forged", [(0,), (3, 4, 9), (30, 31), (99,)])
async def test_the_first_that_is_forged_is_found_and_all_before_it_are_verified(
    forged: tuple[int, ...], threads: int
) -> None:
    work, backend = verifier_of(Threads(), threads)
    asked = coins(100, *forged)
    assert await work.find_forged(asked) == asked[forged[0]].id
    assert set(range(forged[0] + 1)) <= set(backend.proofs)
    assert max(backend.proofs.values()) == 1
    assert len(backend.proofs) <= forged[0] + threads * AT_ONCE


async def test_two_threads_at_most_are_at_work_for_a_peer_whatever_it_gives() -> None:
    threads = Threads()
    work, _ = verifier_of(threads, 8)

    async def gossip() -> None:
        async with work.places.place("peer"):
            await work.verify_mixes(coins(1), "peer", has_place=True)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(work.verify_mixes, coins(40), "peer")
            nursery.start_soon(gossip)
    assert threads.most == PROOFS_PER_PEER
    async with trio.open_nursery() as nursery:
        for peer in ("one", "two", "three"):
            nursery.start_soon(work.verify_mixes, coins(40), peer)
    assert threads.most == 3 * PROOFS_PER_PEER
    assert not work.places._places


async def test_who_gives_much_keeps_nobody_else_waiting() -> None:
    work, _ = verifier_of(Threads(), 2)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(work.verify_mixes, coins(2_000), f"greedy {number}")
        await trio.testing.wait_all_tasks_blocked()
        for peer in ("", "peer"):
            began = trio.current_time()
            await work.verify_mixes(coins(1), peer)
            # One trip of each of the others at most comes before, two at a time.
            assert trio.current_time() - began <= 1 + 4
        nursery.cancel_scope.cancel()
