"""Ranges in pages: what they refuse, what they read and write, and how long an overlay lasts."""

from __future__ import annotations

import random

import pytest

from tests.framework.pages import MemoryPages
from tests.framework.slow import slow_hash
from tests.framework.slow_ranges import (
    slow_coin_join,
    slow_coin_leaf,
    slow_history_node,
    slow_mountains,
)
from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.history_range import (
    EMPTY_HISTORY,
    HistoryNode,
    HistoryPeaks,
    HistoryProof,
    HistoryRange,
)
from unchained.node.crypto.ranges import RangeCorruptError, mountain_of
from unchained.node.crypto.state_range import SPENT, StateProof, StateRange, leaf_of
from unchained.node.primitives.codec import encode
from unchained.node.primitives.errors import NonCanonicalError

LEAVES = [slow_coin_leaf(bytes([n]) * 32, n, bytes(32), n, n & 1) for n in range(256)] * 4
PAGE = 960
"""Bytes of a page of the state: 16 leaves and the 14 nodes above them below its top."""


def filled(count: int, pages: MemoryPages | None = None) -> tuple[StateRange, MemoryPages]:
    """A range of so many leaves, flushed, and its pages, whose counts begin here."""
    pages = pages or MemoryPages()
    state = StateRange(pages, 0)
    for leaf in LEAVES[:count]:
        state.append(leaf)
    state.flush(pages)
    pages.forget()
    return state, pages


def node(number: int, work: int = 1, coins: int = 1) -> bytes:
    return HistoryNode.of_anchor(bytes([number]) * 32, work, coins, number).to_bytes()


def history_of(count: int) -> HistoryRange:
    history = HistoryRange(MemoryPages(), 0)
    for number in range(count):
        history.append(node(number))
    return history


@pytest.mark.parametrize("count", [1, 2, 3, 13, 64, 2**64 - 1])
def test_mountains(count: int) -> None:
    start = 0
    for place, height in enumerate(h for h in range(63, -1, -1) if count >> h & 1):
        for index in (start, start + (1 << height) - 1):
            assert mountain_of(count, index) == (height, place)
        start += 1 << height
    assert start == count


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [-1, 13])
def test_positions_that_a_range_does_not_have(position: int) -> None:
    state, _ = filled(13)
    for ask in (
        lambda: state.leaf(position),
        lambda: state.siblings(position),
        lambda: state.prove(position, 0, 0),
        lambda: state.set_leaf(position, SPENT),
    ):
        with pytest.raises(IndexError, match=f"position {position} in a range of 13 leaves"):
            ask()
    assert state.peaks() == filled(13)[0].peaks()


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33)])
def test_leaves_of_another_width(leaf: bytes) -> None:
    state, _ = filled(3)
    with pytest.raises(ValueError, match=f"a leaf has 32 bytes, got {len(leaf)}"):
        state.append(leaf)
    with pytest.raises(ValueError, match=f"a leaf has 32 bytes, got {len(leaf)}"):
        state.set_leaf(0, leaf)
    assert state.count == 3


@pytest.mark.parametrize("count", [-1, 14])
def test_truncating_to_what_is_not_there(count: int) -> None:
    state, _ = filled(13)
    with pytest.raises(ValueError, match=f"cannot truncate a range of 13 leaves to {count}"):
        state.truncate(count)
    assert state.count == 13


@pytest.mark.parametrize("page", [None, b"", bytes(PAGE - 1), bytes(PAGE + 1)])
def test_a_page_that_is_not_as_it_must_be(page: bytes | None) -> None:
    _, pages = filled(40)
    if page is None:
        del pages.pages[0, 1]
    else:
        pages.pages[0, 1] = page
    for ask in (
        lambda state: state.leaf(20),
        lambda state: state.siblings(20),
        lambda state: state.set_leaf(20, SPENT) or state.root(0, 0),
        lambda state: state.truncate(20),
    ):
        with pytest.raises(
            RangeCorruptError, match="page 1 of level 0: expected 960 bytes"
        ) as caught:
            ask(StateRange(pages, 40))
        assert caught.value.actual == (None if page is None else len(page))


# -- what is read and written ---------------------------------------------------------------------


def test_each_changed_page_is_written_once() -> None:
    state, pages = filled(256)
    assert {len(page) for page in pages.pages.values()} == {PAGE}
    assert sorted(pages.pages) == [(0, n) for n in range(16)] + [(1, 0), (2, 0)]
    for position in (3, 4, 200):
        state.set_leaf(position, SPENT)
        state.root(0, 0)
    state.append(LEAVES[0])
    state.flush(pages)
    assert sorted(pages.put_keys) == [(0, 0), (0, 12), (0, 16), (1, 0), (2, 0)]
    assert pages.deleted == []
    pages.forget()
    state.flush(pages)
    assert pages.put_keys == []


def test_pages_that_are_not_needed_any_more_are_deleted() -> None:
    state, pages = filled(513)
    state.truncate(20)
    state.append(LEAVES[20])
    state.flush(pages)
    assert pages.pages == filled(21)[1].pages
    assert pages.put_keys == [(0, 1), (1, 0)]
    state.truncate(0)
    state.flush(pages)
    assert pages.pages == {}
    assert state.statistics().clean == 0
    pages.forget()
    state.flush(pages)
    assert pages.deleted == []


def test_truncating_touches_the_last_pages_alone() -> None:
    _, pages = filled(300)
    state = StateRange(pages, 300)
    state.truncate(299)
    state.flush(pages)
    assert (pages.got, pages.put_keys, pages.deleted) == ([(0, 18)], [(0, 18)], [])


def test_a_change_reads_the_pages_above_it_and_no_others() -> None:
    _, pages = filled(1_024)
    state = StateRange(pages, 1_024)
    assert state.statistics().read == 0
    state.set_leaf(500, SPENT)
    state.append(LEAVES[0])
    assert pages.got == []
    state.root(0, 0)
    assert pages.got == [(0, 31), (1, 1), (2, 0)]
    state.flush(pages)
    pages.forget()
    state.set_leaf(501, SPENT)
    state.prove(500, 0, 0)
    assert pages.got == []
    assert state.statistics().read == 3


def test_pages_that_are_handed_in_are_not_read() -> None:
    _, pages = filled(1_024)
    upper = [(level, index, page) for (level, index), page in pages.pages.items() if level]
    state = StateRange(pages, 1_024)
    state.keep(upper)
    assert state.statistics().clean == len(upper) == 5
    state.set_leaf(500, SPENT)
    state.set_leaf(20, SPENT)
    root = state.root(0, 0)
    # Those that are left in the order in which they lie in the source.
    assert pages.got == [(0, 1), (0, 31)]
    bare = StateRange(pages, 1_024)
    bare.set_leaf(20, SPENT)
    bare.set_leaf(500, SPENT)
    assert bare.root(0, 0) == root
    for bad in (b"", bytes(PAGE + 1)):
        with pytest.raises(RangeCorruptError, match=f"page 3 of level 1: expected {PAGE}"):
            state.keep([(1, 3, bad)])


def test_what_is_kept_of_flushed_pages_is_bounded() -> None:
    _, pages = filled(1_024)
    state = StateRange(pages, 1_024, clean_pages_max=5)
    for position in range(0, 1_024, 16):
        state.leaf(position)
    assert state.statistics().clean == 5
    for position in range(1_024):
        state.set_leaf(position, SPENT)
    state.root(0, 0)
    assert (state.statistics().dirty, state.statistics().clean) == (64 + 4 + 1, 0)
    state.flush(pages)
    assert (state.statistics().dirty, state.statistics().clean) == (0, 5)
    assert state.peaks() == (SPENT,)


def test_the_least_recently_used_page_goes_first() -> None:
    _, pages = filled(64)
    state = StateRange(pages, 64, clean_pages_max=2)
    for position in (0, 16, 1, 32, 2, 17):
        state.leaf(position)
    assert pages.got == [(0, 0), (0, 1), (0, 2), (0, 1)]


def test_nodes_are_made_once_for_many_changes() -> None:
    made = 0

    def counting(pair: bytes) -> bytes:
        nonlocal made
        made += 1
        return state_range.join(pair)

    state, _ = filled(256)
    state._join = counting
    for position in range(128):
        state.set_leaf(position, SPENT)
    for _ in range(3):
        state.root(0, 0)
    # 127 nodes over the 128 leaves, and the one above
    assert made == 128


# -- overlays -------------------------------------------------------------------------------------


def test_an_overlay_of_what_is_not_flushed() -> None:
    state, pages = filled(100)
    state.set_leaf(7, SPENT)
    state.append(LEAVES[100])
    after = state.root(1, 2)
    before = state.overlay()
    before.truncate(100)
    before.set_leaf(7, LEAVES[7])
    assert isinstance(before, StateRange)
    assert before.root(3, 4) == filled(100)[0].root(3, 4)
    proof = before.prove(7, 3, 4)
    assert state_range.verify(proof, LEAVES[7], before.root(3, 4))
    assert not state_range.verify(proof, SPENT, before.root(3, 4))
    assert state.root(1, 2) == after
    assert pages.put_keys == []
    # it goes on after a flush, and can have an overlay of its own
    state.flush(pages)
    third = before.overlay()
    third.truncate(1)
    assert third.peaks() == (LEAVES[0],)
    assert before.leaf(50) == LEAVES[50]


def test_an_overlay_reads_what_it_changes() -> None:
    _, pages = filled(1_024)
    overlay = StateRange(pages, 1_024).overlay()
    overlay.truncate(1_020)
    overlay.set_leaf(3, SPENT)
    overlay.prove(4, 0, 0)
    assert len(pages.got) <= 8, pages.got


@pytest.mark.parametrize("change", ["append", "set_leaf", "truncate"])
def test_an_overlay_ends_when_the_range_changes(change: str) -> None:
    state, _ = filled(64)
    overlay = state.overlay()
    overlay.leaf(0)
    match change:
        case "append":
            state.append(SPENT)
        case "set_leaf":
            state.set_leaf(0, SPENT)
        case _:
            state.truncate(63)
    with pytest.raises(RuntimeError, match="the range changed under its overlay"):
        overlay.leaf(20)


# -- the state and its proofs ---------------------------------------------------------------------


def test_leaves_of_coins() -> None:
    for minted in (False, True):
        leaf = leaf_of(b"i" * 32, 2**63 - 1, b"l" * 32, 2**64 - 1, minted)
        assert leaf == slow_coin_leaf(b"i" * 32, 2**63 - 1, b"l" * 32, 2**64 - 1, minted)


def test_altered_state_proofs_fail() -> None:
    state, _ = filled(13)
    root, proof, leaf = state.root(5, 6), state.prove(9, 5, 6), LEAVES[9]
    assert state_range.verify(proof, leaf, root)
    siblings, peaks = proof.siblings, proof.peaks
    for other in (
        StateProof(12, 5, 6, 9, siblings, peaks),
        StateProof(13, 4, 6, 9, siblings, peaks),
        StateProof(13, 6, 5, 9, siblings, peaks),
        StateProof(13, 5, 7, 9, siblings, peaks),
        StateProof(13, -1, 6, 9, siblings, peaks),
        StateProof(13, 5, -1, 9, siblings, peaks),
        StateProof(13, 2**64, 6, 9, siblings, peaks),
        StateProof(13, 5, 2**64, 9, siblings, peaks),
        StateProof(13, 5, 6, 8, siblings, peaks),
        StateProof(13, 5, 6, 13, siblings, peaks),
        StateProof(13, 5, 6, -1, siblings, peaks),
        StateProof(2**64, 5, 6, 9, siblings, peaks),
        StateProof(0, 5, 6, 0, (), ()),
        StateProof(13, 5, 6, 9, siblings[:-1], peaks),
        StateProof(13, 5, 6, 9, (*siblings, SPENT), peaks),
        StateProof(13, 5, 6, 9, siblings, peaks[:-1]),
        StateProof(13, 5, 6, 9, siblings, peaks[::-1]),
        StateProof(13, 5, 6, 9, siblings, (*peaks[:-1], peaks[-1] + b"\0")),
        StateProof(13, 5, 6, 9, (*siblings[:-1], siblings[-1] + b"\0"), peaks),
    ):
        assert not state_range.verify(other, leaf, root), other
    # zeros join to zeros, however high
    beyond = StateProof(2**64, 5, 6, 0, (SPENT,) * 64, (SPENT,))
    assert not state_range.verify(beyond, SPENT, root)
    for other_leaf in (SPENT, b"", leaf + b"\0", leaf[:-1]):
        assert not state_range.verify(proof, other_leaf, root)
    assert not state_range.verify(proof, leaf, b"")


def test_verifying_a_state_proof_is_total() -> None:
    rng = random.Random(4)
    for _ in range(500):
        numbers = [rng.getrandbits(rng.choice([1, 4, 64])) for _ in range(4)]
        nodes = [
            tuple(rng.randbytes(32) for _ in range(rng.choice([0, 1, 2, 63]))) for _ in range(2)
        ]
        proof = StateProof.from_bytes(encode((*numbers, *nodes)))
        assert not state_range.verify(proof, rng.randbytes(32), rng.randbytes(32))


def test_bounds_of_encoded_proofs() -> None:
    for read, width, head in (
        (StateProof.from_bytes, 32, [2**64 - 1] * 4),
        (HistoryProof.from_bytes, 80, [2**64 - 1] * 2),
    ):
        node_ = b"\xff" * width
        read(encode([*head, [node_] * 63, [node_] * 64]))
        for siblings, peaks in ((64, 64), (63, 65)):
            with pytest.raises(NonCanonicalError):
                read(encode([*head, [node_] * siblings, [node_] * peaks]))


# -- the history and its proofs -------------------------------------------------------------------


def test_work_is_written_at_most_as_its_limit() -> None:
    assert HistoryNode.of_anchor(bytes(32), 2**256, 1, 1).work == 2**256 - 1
    history = EMPTY_HISTORY.append(node(1, 2**255)).append(node(2, 2**255)).append(node(3, 5))
    assert history.work == 2**256 - 1
    assert HistoryNode.from_bytes(history.peaks[0]).work == 2**256 - 1


def test_coins_beyond_a_u64_are_no_node() -> None:
    history = EMPTY_HISTORY.append(node(1, 1, 2**64 - 1))
    with pytest.raises(OverflowError):
        history.append(node(2, 1, 1))
    assert history.append(node(2, 1, 0)).coins == 2**64 - 1


@pytest.mark.parametrize("raw", [b"", bytes(79), bytes(81)])
def test_history_nodes_of_another_length(raw: bytes) -> None:
    with pytest.raises(ValueError, match=f"a history node has 80 bytes, got {len(raw)}"):
        HistoryNode.from_bytes(raw)
    with pytest.raises(ValueError, match=f"a history node has 80 bytes, got {len(raw)}"):
        EMPTY_HISTORY.append(raw)


@pytest.mark.parametrize("count", [0, 1, 3, 2**64 - 1])
def test_a_history_has_a_peak_for_each_bit(count: int) -> None:
    peaks = (bytes(80),) * count.bit_count()
    assert HistoryPeaks.from_bytes(encode((count, peaks))).peaks == peaks
    with pytest.raises(NonCanonicalError, match="peaks over"):
        HistoryPeaks.from_bytes(encode((count, (bytes(80),) * ((count.bit_count() + 1) % 64))))


def test_altered_history_proofs_fail() -> None:
    history = history_of(13)
    root, proof = history.history().root(), history.prove(9)
    assert history_range.verify(proof, node(9), root)
    siblings, peaks = proof.siblings, proof.peaks
    for other in (
        HistoryProof(12, 9, siblings, peaks),
        HistoryProof(13, 8, siblings, peaks),
        HistoryProof(13, 13, siblings, peaks),
        HistoryProof(13, -1, siblings, peaks),
        HistoryProof(0, 0, (), ()),
        HistoryProof(2**64, 9, siblings, peaks),
        HistoryProof(13, 9, siblings[:-1], peaks),
        HistoryProof(13, 9, (*siblings, bytes(80)), peaks),
        HistoryProof(13, 9, siblings, peaks[::-1]),
        HistoryProof(13, 9, siblings, peaks[:-1]),
        HistoryProof(13, 9, siblings, (*peaks[:-1], peaks[-1] + b"\0")),
        HistoryProof(13, 9, (siblings[0][:32], *siblings[1:]), peaks),
    ):
        assert not history_range.verify(other, node(9), root), other
    for other_leaf in (b"", node(9)[:79], node(9) + b"\0", node(9, 2), node(9, 1, 2), node(8)):
        assert not history_range.verify(proof, other_leaf, root)


@pytest.mark.parametrize("coins", [(2**64 - 1, 1), (1, 2**64 - 1), (2**64 - 1, 2**64 - 1)])
def test_sums_of_coins_beyond_a_u64_prove_nothing(coins: tuple[int, int]) -> None:
    """Neither below a peak nor over the peaks, with every hash as it should be."""
    leaves = node(0, 1, coins[0]), node(1, 1, coins[1])
    digest = slow_hash("history node", leaves[0] + leaves[1])
    for written in (sum(coins) % 2**64, 2**64 - 1):
        peaks = (slow_history_node(digest, 2, written, 1),)
        proof = HistoryProof(2, 1, leaves[:1], peaks)
        assert not history_range.verify(proof, leaves[1], HistoryPeaks(2, peaks).root())
    [joined] = EMPTY_HISTORY.append(node(0, 1, coins[0])).append(node(1, 1, 0)).peaks
    apart = HistoryPeaks(3, (joined, node(2, 1, coins[1])))
    proof = HistoryProof(3, 2, (), apart.peaks)
    assert not history_range.verify(proof, apart.peaks[1], apart.root())


def test_what_lies_before_no_anchor() -> None:
    for proof in (
        HistoryProof(0, 0, (), ()),
        HistoryProof(3, 3, (), ()),
        HistoryProof(3, 4, (), ()),
    ):
        with pytest.raises(ValueError, match=f"no anchor of height {proof.height} among"):
            proof.before()


def test_verifying_a_history_proof_is_total() -> None:
    rng = random.Random(5)
    for _ in range(500):
        numbers = [rng.getrandbits(rng.choice([1, 4, 64])) for _ in range(2)]
        nodes = [
            tuple(rng.randbytes(80) for _ in range(rng.choice([0, 1, 2, 63]))) for _ in range(2)
        ]
        proof = HistoryProof.from_bytes(encode((*numbers, *nodes)))
        assert not history_range.verify(proof, rng.randbytes(80), rng.randbytes(32))


def test_both_joins_of_the_state_are_one() -> None:
    """The range's own join, which reuses a hasher, and the one for all threads."""
    state, _ = filled(0)
    zero, low, high = SPENT, bytes(31) + b"\1", b"\1" + bytes(31)
    for left, right in [(zero, zero), (zero, low), (high, zero), (low, high), (LEAVES[0], zero)]:
        expected = slow_coin_join(left, right)
        assert state._join(left + right) == state_range.join(left + right) == expected


def test_a_long_state() -> None:
    state, _ = filled(1_000)
    peaks = [mountain.node for mountain in slow_mountains(LEAVES[:1_000], slow_coin_join)]
    assert list(state.peaks()) == peaks
