"""The state commitment against a second, slow implementation (Protocol §4)."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.framework.slow import SlowMember, slow_lanes, slow_state_root
from unchained.node.crypto.lthash import VECTOR_SIZE, StateCommitment, element


def some_members(count: int, seed: int) -> list[SlowMember]:
    rng = random.Random(seed)
    return [
        SlowMember(
            rng.randbytes(32),
            rng.getrandbits(rng.choice([1, 8, 64])),
            rng.randbytes(32),
            rng.getrandbits(rng.choice([1, 8, 64])),
            rng.random() < 0.5,
        )
        for _ in range(count)
    ]


def test_elements() -> None:
    for member in some_members(5, seed=1):
        raw = element(*member)
        assert len(raw) == VECTOR_SIZE
        assert np.frombuffer(raw, "<u2").tolist() == slow_lanes(member)


@pytest.mark.parametrize("count", [0, 1, 2, 17, 40])
def test_roots_one_by_one_and_in_batches(count: int) -> None:
    members = some_members(count, seed=count)
    one_by_one, batch = StateCommitment(), StateCommitment()
    for member in members:
        one_by_one.add(*member)
    batch.apply(members, ())
    assert one_by_one == batch
    assert one_by_one.count == count
    assert one_by_one.root() == batch.root() == slow_state_root(members)


def test_removal_undoes_addition_in_any_order() -> None:
    members = some_members(30, seed=7)
    state = StateCommitment()
    state.apply(members[:20], ())
    state.apply(members[20:], members[:5])
    state.remove(*members[12])
    kept = members[5:12] + members[13:]
    assert state.root() == slow_state_root(reversed(kept))
    state.apply((), kept)
    assert state == StateCommitment()


def test_batches_larger_than_a_chunk() -> None:
    members = some_members(600, seed=8)
    state = StateCommitment()
    state.apply(iter(members), members[:300])
    other = StateCommitment()
    other.apply(members[300:], ())
    assert state == other


def test_copies_are_independent() -> None:
    member, other = some_members(2, seed=9)
    state = StateCommitment()
    state.add(*member)
    twin = state.copy()
    twin.add(*other)
    assert state.root() == slow_state_root([member])
    assert twin.root() == slow_state_root([member, other])
    assert state != twin
    assert state != "a commitment"


def test_bytes_round_trip() -> None:
    state = StateCommitment()
    state.apply(some_members(3, seed=10), ())
    read = StateCommitment.from_bytes(state.to_bytes())
    assert read == state
    read.add(*some_members(1, seed=11)[0])
    assert read != state
    assert "3 coins" in repr(state)


def test_bytes_of_another_length() -> None:
    with pytest.raises(ValueError, match="has 2056 bytes, got 2055"):
        StateCommitment.from_bytes(bytes(2055))


def test_removing_more_than_there_is_changes_nothing() -> None:
    members = some_members(3, seed=12)
    state = StateCommitment()
    state.add(*members[0])
    before = state.to_bytes()
    with pytest.raises(ValueError, match="removed 3 members of 2"):
        state.apply(members[:1], members)
    assert state.to_bytes() == before
