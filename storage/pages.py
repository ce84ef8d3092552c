"""The pages of the ranges (Protocol §4) in a store, and what a check or a rebuild makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from unchained.node.crypto import history_range, state_range
from unchained.node.crypto.history_range import HistoryRange
from unchained.node.crypto.ranges import PagedRange, PageSource
from unchained.node.crypto.state_range import StateRange
from unchained.storage.kv import Batch, Getter, Reader
from unchained.storage.tables import PageTable

UPPER_PAGES_MAX: Final = 5_120
"""Pages above the lowest level that a range takes into memory when a store is opened, 5 MB: fewer
than it keeps (`ranges.CLEAN_BYTES_MAX`)."""

_LEAVES_AT_ONCE: Final = 4_096
"""Leaves after which finished pages are given out."""


class StoredPages:
    """Where a range finds its pages in a store."""

    def __init__(self, reader: Getter, table: PageTable) -> None:
        self._reader = reader
        self._table = table

    def get(self, level: int, index: int) -> bytes:
        """Return a page. Raises `StoreCorruptError` where it is missing or damaged."""
        page = self._table.get(self._reader, level, index)
        if page is None:
            raise self._table.corrupt(self._table.key(level, index), "the page is missing")
        return page


def upper_pages(
    reader: Reader, table: PageTable, count: int, page_height: int
) -> Iterator[tuple[int, int, bytes]]:
    """Return level, index and bytes of the pages of a range of `count` leaves that most changes
    pass through: of as many levels, the lowest left out, as have `UPPER_PAGES_MAX` together."""
    level = 1
    while _pages_from(level, count, page_height) > UPPER_PAGES_MAX:
        level += 1
    return table.scan(reader, level)


def _pages_from(level: int, count: int, page_height: int) -> int:
    """Return how many pages of a level and above it a range of `count` leaves has."""
    pages = 0
    while nodes := count >> page_height * level:
        pages += -(-nodes >> page_height)
        level += 1
    return pages


class BatchPages:
    """Where a range writes its pages: into a batch."""

    def __init__(self, batch: Batch, table: PageTable) -> None:
        self._batch = batch
        self._table = table

    def put(self, level: int, index: int, page: bytes) -> None:
        """Record that the page shall be this."""
        self._batch.put(self._table.key(level, index), page)

    def delete(self, level: int, index: int) -> None:
        """Record that the page shall be absent."""
        self._batch.delete(self._table.key(level, index))


class MakeRange(Protocol):
    """Makes a range over pages: `StateRange`, `HistoryRange`."""

    def __call__(self, source: PageSource, count: int) -> PagedRange:
        """Return the range of so many leaves."""


class FinishedPages:
    """Pages made anew from a list of leaves, each given out once, when no later leaf can change it.

    What is not finished is kept: a page or two of each level.
    """

    def __init__(self, make: MakeRange, page_height: int) -> None:
        self._page_height = page_height
        self._pages: dict[tuple[int, int], bytes] = {}
        self._range = make(self, 0)

    @property
    def count(self) -> int:
        """Leaves so far."""
        return self._range.count

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        self._range.append(leaf)

    def finished(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield level, index and bytes of the pages that are finished, once there are many."""
        if self._range.count % _LEAVES_AT_ONCE:
            return
        self._range.flush(self)
        for level, index in sorted(self._pages):
            if self._leaves_before(level, index + 1) <= self._range.count:
                yield level, index, self._pages.pop((level, index))

    def rest(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield all pages that `finished` did not: after the last leaf."""
        self._range.flush(self)
        for level, index in sorted(self._pages):
            yield level, index, self._pages.pop((level, index))

    def strangers(self, reader: Reader, table: PageTable) -> Iterator[bytes]:
        """Yield the keys of stored pages that a range of so many leaves does not have."""
        for level, index in table.scan_keys(reader):
            # a page is there as soon as the first node of its lowest row is
            first = 1 << self._page_height * level
            if self._leaves_before(level, index) + first > self._range.count:
                yield table.key(level, index)

    def _leaves_before(self, level: int, index: int) -> int:
        return index << self._page_height * (level + 1)

    # The range's own pages

    def get(self, level: int, index: int) -> bytes | None:
        """Return a page that is not finished."""
        return self._pages.get((level, index))

    def put(self, level: int, index: int, page: bytes) -> None:
        """Take in a page."""
        self._pages[level, index] = page

    def delete(self, level: int, index: int) -> None:
        """Let go of a page."""
        self._pages.pop((level, index), None)


def state_pages() -> FinishedPages:
    """Return an empty state, to be made anew."""
    return FinishedPages(StateRange, state_range.STATE_PAGE_HEIGHT)


def history_pages() -> FinishedPages:
    """Return an empty history, to be made anew."""
    return FinishedPages(HistoryRange, history_range.HISTORY_PAGE_HEIGHT)
