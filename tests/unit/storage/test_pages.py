"""Which pages of a range are taken into memory when a store is opened."""

from __future__ import annotations

import pytest

from unchained.storage import pages, schema
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore
from unchained.storage.pages import BatchPages, state_pages, upper_pages

LEAVES = 5_000
"""Pages of 16 leaves each: 313 of them at the lowest level, above it 20, 2 and 1."""


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    made = state_pages()
    batch = Batch()
    into = BatchPages(batch, schema.STATE_PAGE)
    for number in range(LEAVES):
        made.add(number.to_bytes(32, "big"))
    for level, index, page in made.rest():
        into.put(level, index, page)
    store = MemoryStore()
    # What lies behind the pages is another table's.
    batch.put(schema.STATE.key(0), b"another table")
    store.write(batch, sync=False)
    return store


def counted(store: MemoryStore, count: int) -> list[int]:
    """Return how many pages of each level are given out."""
    found = list(upper_pages(store, schema.STATE_PAGE, count, 4))
    for level, index, page in found:
        assert schema.STATE_PAGE.get(store, level, index) == page
    assert sorted(found) == found
    return [sum(level == wanted for level, _, _ in found) for wanted in range(4)]


@pytest.mark.parametrize(
    ("most", "levels"),
    [
        (336, [0, 20, 2, 1]),
        (23, [0, 20, 2, 1]),
        (22, [0, 0, 2, 1]),
        (3, [0, 0, 2, 1]),
        (2, [0, 0, 0, 1]),
        (1, [0, 0, 0, 1]),
        (0, [0, 0, 0, 0]),
    ],
)
def test_as_many_levels_as_fit_are_given_out(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, most: int, levels: list[int]
) -> None:
    monkeypatch.setattr(pages, "UPPER_PAGES_MAX", most)
    assert counted(store, LEAVES) == levels


def test_the_upper_pages_of_a_million_positions_fit_and_those_of_many_more_are_bounded() -> None:
    assert pages.UPPER_PAGES_MAX == 5_120
    assert pages._pages_from(1, 1_000_000, 4) == 3_907 + 245 + 16 + 1
    assert pages._pages_from(1, 16, 4) == 1
    assert pages._pages_from(1, 15, 4) == pages._pages_from(1, 0, 4) == 0
    empty = MemoryStore()
    assert list(upper_pages(empty, schema.STATE_PAGE, 0, 4)) == []
    assert list(upper_pages(empty, schema.STATE_PAGE, 2**63, 4)) == []
