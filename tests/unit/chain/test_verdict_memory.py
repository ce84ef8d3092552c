"""Verdicts by wid: how many are remembered, and which is forgotten."""

from __future__ import annotations

from unchained.node.chain.verdict_memory import REMEMBERED, VerdictMemory
from unchained.node.consensus.transfer_verdict import TransferVerdict
from unchained.node.primitives.types import Wid

GOOD = TransferVerdict(None, None)


def wid(number: int) -> Wid:
    return Wid(number.to_bytes(32, "big"))


def test_the_oldest_is_forgotten_first() -> None:
    memory = VerdictMemory(capacity=3)
    assert memory.get(wid(0)) is None
    for number in range(3):
        memory.remember(wid(number), GOOD)
    assert len(memory) == 3
    assert memory.get(wid(0)) is GOOD
    memory.remember(wid(3), GOOD)
    assert len(memory) == 3
    assert [memory.get(wid(number)) is GOOD for number in range(4)] == [False, True, True, True]


def test_more_are_remembered_than_sixteen_full_bodies_list() -> None:
    assert REMEMBERED == 65_536
    assert VerdictMemory()._capacity == REMEMBERED
