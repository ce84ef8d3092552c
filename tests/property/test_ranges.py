"""Ranges in pages against the naive range over the same list of leaves, whatever they go through.

Pages of one to four levels, so that small ranges have several levels of pages too.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.framework.pages import MemoryPages
from tests.framework.slow_ranges import (
    Join,
    slow_coin_join,
    slow_history_join,
    slow_history_node,
    slow_history_root,
    slow_mountains,
    slow_siblings,
    slow_state_root,
)
from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.history_range import EMPTY_HISTORY, HistoryRange
from unchained.node.crypto.ranges import PagedRange, is_path
from unchained.node.crypto.state_range import SPENT, StateProof, StateRange

PLACES = st.integers(0, 2**16)
COUNTS = st.integers(0, 40)


class RangeMachine(RuleBasedStateMachine):
    """Does the same to a range in pages and to a list. Subclasses say with which nodes."""

    width = 32
    slow_join: Join = staticmethod(slow_coin_join)
    join = staticmethod(state_range.join)

    def __init__(self) -> None:
        super().__init__()
        self.pages = MemoryPages()
        self.leaves: list[bytes] = []
        self.random = random.Random(0)
        self.height = 1
        self.clean_pages_max = 1
        self.range = self.opened(self.pages, 0)

    def opened(self, pages: MemoryPages, count: int) -> PagedRange:
        return PagedRange(
            pages,
            count,
            width=self.width,
            join=self.join,
            page_height=self.height,
            clean_pages_max=self.clean_pages_max,
        )

    def a_leaf(self) -> bytes:
        return self.random.randbytes(self.width)

    @initialize(height=st.integers(1, 4), clean=st.sampled_from([1, 2, 3, 1_000]))
    def begin(self, height: int, clean: int) -> None:
        self.height, self.clean_pages_max = height, clean
        self.range = self.opened(self.pages, 0)

    @rule(count=st.integers(1, 40))
    def append(self, count: int) -> None:
        for _ in range(count):
            leaf = self.a_leaf()
            self.range.append(leaf)
            self.leaves.append(leaf)

    @rule(places=st.lists(PLACES, max_size=30), spent=st.booleans())
    def replace(self, places: list[int], spent: bool) -> None:
        for place in places if self.leaves else []:
            position = place % len(self.leaves)
            self.leaves[position] = bytes(self.width) if spent else self.a_leaf()
            self.range.set_leaf(position, self.leaves[position])

    @rule(level=st.integers(0, 6), place=PLACES)
    def clear_neighbours(self, level: int, place: int) -> None:
        """Clear all of a subtree, so that zeros join."""
        start = place % (len(self.leaves) + 1) >> level << level
        for position in range(start, min(start + (1 << level), len(self.leaves))):
            self.leaves[position] = bytes(self.width)
            self.range.set_leaf(position, self.leaves[position])

    @rule(fewer=COUNTS)
    def truncate(self, fewer: int) -> None:
        count = max(len(self.leaves) - fewer, 0)
        self.range.truncate(count)
        del self.leaves[count:]

    @rule(place=PLACES)
    def truncate_far(self, place: int) -> None:
        count = place % (len(self.leaves) + 1)
        self.range.truncate(count)
        del self.leaves[count:]

    @rule(fewer=COUNTS, places=st.lists(PLACES, max_size=20), more=COUNTS)
    def reorganise(self, fewer: int, places: list[int], more: int) -> None:
        """Undo a body that spent and created coins, and apply another."""
        self.truncate(fewer)
        self.replace(places, spent=False)
        self.append(more + 1)
        self.replace(places, spent=True)

    @rule()
    def flush(self) -> None:
        before = dict(self.pages.pages)
        self.pages.forget()
        self.range.flush(self.pages)
        assert len(set(self.pages.put_keys)) == len(self.pages.put_keys), "a page was put twice"
        touched = {*self.pages.put_keys, *self.pages.deleted}
        assert len(touched) == len(self.pages.put_keys) + len(self.pages.deleted)
        assert all(before.get(key) == self.pages.pages.get(key) for key in {*before} - touched)
        statistics = self.range.statistics()
        assert statistics.dirty == 0
        assert statistics.clean <= self.clean_pages_max
        self.assert_pages_follow_from_the_leaves()

    @rule()
    def reopen(self) -> None:
        self.range.flush(self.pages)
        self.range = self.opened(self.pages, len(self.leaves))

    @rule()
    def peaks(self) -> None:
        self.assert_same(self.range, self.leaves)

    @rule(place=PLACES)
    def path(self, place: int) -> None:
        if self.leaves:
            self.assert_path(self.range, self.leaves, place % len(self.leaves))

    @rule(place=PLACES)
    def read(self, place: int) -> None:
        if self.leaves:
            position = place % len(self.leaves)
            assert self.range.leaf(position) == self.leaves[position]

    @rule(fewer=COUNTS, places=st.lists(PLACES, max_size=8), more=COUNTS, place=PLACES)
    def look_back(self, fewer: int, places: list[int], more: int, place: int) -> None:
        """What the range would be: seen through an overlay, of which the range notices nothing."""
        other = self.leaves[: max(len(self.leaves) - fewer, 0)]
        overlay = self.range.overlay()
        overlay.truncate(len(other))
        for position in [each % len(other) for each in places] if other else []:
            other[position] = self.a_leaf()
            overlay.set_leaf(position, other[position])
        for _ in range(more):
            other.append(self.a_leaf())
            overlay.append(other[-1])
        self.assert_same(overlay, other)
        if other:
            self.assert_path(overlay, other, place % len(other))
        self.assert_same(self.range, self.leaves)

    def assert_same(self, found: PagedRange, leaves: list[bytes]) -> None:
        assert found.count == len(leaves)
        mountains = slow_mountains(leaves, self.slow_join)
        assert list(found.peaks()) == [mountain.node for mountain in mountains]

    def assert_path(self, found: PagedRange, leaves: list[bytes], position: int) -> None:
        siblings = found.siblings(position)
        assert list(siblings) == slow_siblings(leaves, position, self.slow_join)
        count, peaks = len(leaves), found.peaks()
        leaf = leaves[position]
        shape = {"width": self.width, "join": self.join}
        assert is_path(count, position, leaf, siblings, peaks, **shape)
        assert not is_path(count, position, self.a_leaf(), siblings, peaks, **shape)

    def assert_pages_follow_from_the_leaves(self) -> None:
        pages = MemoryPages()
        again = self.opened(pages, 0)
        for leaf in self.leaves:
            again.append(leaf)
        again.flush(pages)
        assert pages.pages == self.pages.pages

    def teardown(self) -> None:
        self.assert_same(self.range, self.leaves)
        self.range.flush(self.pages)
        self.assert_pages_follow_from_the_leaves()


class HistoryMachine(RangeMachine):
    """With the nodes of the history."""

    width = 80
    slow_join = staticmethod(slow_history_join)
    join = staticmethod(history_range.join)

    def a_leaf(self) -> bytes:
        work = self.random.choice([1, 2**200, 2**256 - 1])
        digest, time = self.random.randbytes(32), self.random.getrandbits(64)
        return slow_history_node(digest, work, self.random.getrandbits(20), time)


@pytest.mark.parametrize("machine", [RangeMachine, HistoryMachine], ids=["state", "history"])
def test_a_range_equals_that_over_its_leaves(machine: type[RangeMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 300))
def test_states_and_their_proofs(seed: int, count: int) -> None:
    rng = random.Random(seed)
    leaves = [rng.choice([SPENT, rng.randbytes(32)]) for _ in range(count)]
    pages = MemoryPages()
    state = StateRange(pages, 0)
    for leaf in leaves:
        state.append(leaf)
    supply, pool = rng.getrandbits(64), rng.getrandbits(64)
    root = state.root(supply, pool)
    assert root == slow_state_root(leaves, supply, pool)
    for position in rng.sample(range(count), min(count, 5)):
        proof = state.prove(position, supply, pool)
        assert StateProof.from_bytes(proof.to_bytes()) == proof
        for leaf in (leaves[position], SPENT, rng.randbytes(32)):
            assert state_range.verify(proof, leaf, root) is (leaf == leaves[position])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 100))
def test_histories_and_what_lies_before_each_anchor(seed: int, count: int) -> None:
    rng = random.Random(seed)
    nodes = [
        (rng.randbytes(32), rng.choice([0, rng.getrandbits(250)]), rng.getrandbits(40), time)
        for time in range(count)
    ]
    leaves = [slow_history_node(*node) for node in nodes]
    paged, small = HistoryRange(MemoryPages(), 0), EMPTY_HISTORY
    for leaf in leaves:
        paged.append(leaf)
        small = small.append(leaf)
    assert paged.history() == small
    assert small.root() == slow_history_root(leaves)
    for height in rng.sample(range(count), min(count, 5)):
        proof = paged.prove(height)
        assert history_range.verify(proof, leaves[height], small.root())
        assert not history_range.verify(proof, rng.choice(nodes)[0] + bytes(48), small.root())
        before = proof.before()
        assert before.root() == slow_history_root(leaves[:height])
        assert before.work == min(sum(node[1] for node in nodes[:height]), 2**256 - 1)
        assert before.coins == sum(node[2] for node in nodes[:height])
        assert before.time == (nodes[height - 1][3] if height else None)
