"""Merkle ranges over lists of leaves, and their nodes in pages (Protocol §4).

A range over n leaves is a list of mountains, one for each one in the binary form of n, from the
highest to the lowest; each is a perfect binary tree over 2**k neighbouring leaves. A node is named
by its level (0: a leaf) and its index in that level. It exists as soon as all leaves below it do,
and no node of a later range has another name: a range grows, shrinks and changes in place.

A page holds `page_height` levels of nodes over 2**page_height neighbours:

    page level 1     [ . . . . ]          the tops of the pages below are the lowest row here
                     /    |     ...
    page level 0  [....][....][....]      lowest row: leaves

Its nodes lie from the top down, each row from left to right; those that do not exist are zeros. So
the pages follow from the list of leaves alone, whatever it went through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import islice
from struct import Struct
from typing import Final, Protocol, Self, TypeAlias

import msgspec

from unchained.node.primitives.types import U64_MAX

Join: TypeAlias = Callable[[bytes], bytes]
"""Makes a node of its left and its right child, joined to one byte string."""

MAX_PEAKS: Final = 64
"""Most mountains of a range: the count of its leaves is a u64."""

RANGE_SIBLINGS_MAX: Final = 63
"""Most siblings of a path: the height of the highest mountain."""

CLEAN_BYTES_MAX: Final = 6 << 20
"""Bytes of pages that a range keeps in memory although the store has them, unless told
otherwise."""


class RangeCorruptError(Exception):
    """A page that must be there is missing or has another length: damage to the store, or a bug."""

    def __init__(self, level: int, index: int, *, expected: int, actual: int | None) -> None:
        found = "none" if actual is None else f"{actual} bytes"
        super().__init__(f"page {index} of level {level}: expected {expected} bytes, found {found}")
        self.level = level
        self.index = index
        self.expected = expected
        self.actual = actual


class PageSource(Protocol):
    """Where a range finds its pages."""

    def get(self, level: int, index: int) -> bytes | None:
        """Return a page, or None."""


class PageSink(Protocol):
    """Where a range writes its pages."""

    def put(self, level: int, index: int, page: bytes) -> None:
        """Record that the page shall be this."""

    def delete(self, level: int, index: int) -> None:
        """Record that the page shall be absent, whether or not it is there."""


class Pages(PageSource, PageSink, Protocol):
    """Both: what is put is got from then on."""


class RangeStatistics(msgspec.Struct, frozen=True):
    """Pages that are not yet flushed, those kept though the source has them, and how many were
    read from the source so far."""

    dirty: int
    clean: int
    read: int


def mountain_of(count: int, index: int) -> tuple[int, int]:
    """Return the height of the mountain that holds leaf `index` of `count`, and its place among
    the mountains. `index` is below `count`."""
    # the highest bit where the two differ is a one of the count: that mountain's
    height = (count ^ index).bit_length() - 1
    return height, (count >> height + 1).bit_count()


def is_path(
    count: int,
    index: int,
    leaf: bytes,
    siblings: Sequence[bytes],
    peaks: Sequence[bytes],
    *,
    width: int,
    join: Join,
) -> bool:
    """Return whether siblings, from the leaf up, lead from leaf `index` of `count` to its peak.

    Nodes are of `width` bytes; anything of another form is no path, and nothing raises.
    """
    # Protocol §4: A proof fails unless its index is below its count, there are as many peaks as
    # ones in the binary form of the count, and as many siblings as the mountain is high
    if not 0 <= index < count <= U64_MAX:
        return False
    height, place = mountain_of(count, index)
    if len(siblings) != height or len(peaks) != count.bit_count():
        return False
    if any(len(node) != width for node in (leaf, *siblings, *peaks)):
        return False
    node = leaf
    for sibling in siblings:
        node = join(sibling + node if index & 1 else node + sibling)
        index >>= 1
    return node == peaks[place]


class PagedRange:
    """A range whose nodes lie in pages. Mutable, one owner, one thread at a time.

    Changes cost next to nothing until `peaks`, `prove`, `overlay` or `flush` wants the nodes: then
    each node above a changed leaf is made once. `source` holds the pages of a range of `count`
    leaves; its owner keeps the count. Whatever needs a page raises `RangeCorruptError` for one that
    is not as it must be, and whatever the source raises; the range is of no use then.
    """

    __slots__ = (
        "_blank",
        "_changes",
        "_clean",
        "_clean_max",
        "_count",
        "_dirty",
        "_gone",
        "_height",
        "_join",
        "_pending",
        "_read",
        "_settled",
        "_source",
        "_unpack",
        "_width",
    )

    def __init__(
        self,
        source: PageSource,
        count: int,
        *,
        width: int,
        join: Join,
        page_height: int,
        clean_pages_max: int | None = None,
    ) -> None:
        nodes = (2 << page_height) - 2
        self._source = source
        self._width = width
        self._join = join
        self._height = page_height
        whole = CLEAN_BYTES_MAX // (width * nodes)
        self._clean_max = whole if clean_pages_max is None else clean_pages_max
        self._unpack = Struct(f"{width}s" * nodes).unpack
        self._blank = bytes(width * nodes)
        self._count = count
        # leaves that the pages do not show yet, by position
        self._pending: dict[int, bytes] = {}
        # leaves that the pages show, but for the pending ones
        self._settled = count
        # for each level of pages: its unflushed ones as nodes in heap order, where those of
        # numbers 2k and 2k + 1 are the children of number k; number 1 is in the page above
        self._dirty: list[dict[int, list[bytes]]] = [{} for _ in range(64 // page_height + 1)]
        # least recently used first
        self._clean: dict[tuple[int, int], bytes] = {}
        self._gone: set[tuple[int, int]] = set()
        self._read = 0
        self._changes = 0

    @property
    def count(self) -> int:
        """Leaves of the range."""
        return self._count

    def statistics(self) -> RangeStatistics:
        """Return what the range holds in memory, and how much it has read."""
        return RangeStatistics(sum(map(len, self._dirty)), len(self._clean), self._read)

    def keep(self, pages: Iterable[tuple[int, int, bytes]]) -> None:
        """Take pages that the source has, by level and index, into memory at once, as if each had
        been asked for. Raises `RangeCorruptError`."""
        for level, index, page in pages:
            self._check_page(level, index, page)
            self._clean[level, index] = page

    # -- leaves -----------------------------------------------------------------------------------

    def append(self, leaf: bytes) -> None:
        """Add a leaf at position `count`. Raises ValueError for one of another width."""
        if len(leaf) != self._width:
            raise ValueError(f"a leaf has {self._width} bytes, got {len(leaf)}")
        self._pending[self._count] = leaf
        self._count += 1
        self._changes += 1

    def set_leaf(self, position: int, leaf: bytes) -> None:
        """Replace a leaf. Raises IndexError for a position that the range does not have,
        ValueError for a leaf of another width."""
        self._check(position)
        if len(leaf) != self._width:
            raise ValueError(f"a leaf has {self._width} bytes, got {len(leaf)}")
        self._pending[position] = leaf
        self._changes += 1

    def leaf(self, position: int) -> bytes:
        """Return a leaf. Raises IndexError for a position that the range does not have."""
        self._check(position)
        pending = self._pending.get(position)
        return self._node(0, position) if pending is None else pending

    def truncate(self, count: int) -> None:
        """Take away all leaves but the first `count`. Raises ValueError for more than there are."""
        if not 0 <= count <= self._count:
            raise ValueError(f"cannot truncate a range of {self._count} leaves to {count}")
        if count < self._settled:
            self._cut(count)
        for position in range(count, self._count):
            self._pending.pop(position, None)
        self._count = count
        self._changes += 1

    # -- what follows from them -------------------------------------------------------------------

    def peaks(self) -> tuple[bytes, ...]:
        """Return the tops of the mountains, left to right."""
        self._settle()
        count = self._count
        return tuple(
            [
                self._node(level, (count >> level) - 1)
                for level in range(count.bit_length() - 1, -1, -1)
                if count >> level & 1
            ]
        )

    def siblings(self, position: int) -> tuple[bytes, ...]:
        """Return the path's siblings, from the leaf at `position` up to its peak. Raises
        IndexError for a position that the range does not have."""
        self._check(position)
        self._settle()
        height, _ = mountain_of(self._count, position)
        return tuple([self._node(level, position >> level ^ 1) for level in range(height)])

    def overlay(self) -> Self:
        """Return a range that begins as this one and takes its own way, at the cost of what is
        changed and asked there. It is of no use once this range changes, and then raises
        RuntimeError where it needs a page."""
        self._settle()
        twin = self.__class__.__new__(self.__class__)
        PagedRange.__init__(
            twin,
            _Under(self),
            self._count,
            width=self._width,
            join=self._join,
            page_height=self._height,
            clean_pages_max=self._clean_max,
        )
        return twin

    def flush(self, sink: PageSink) -> None:
        """Put each changed page once, and delete each that is not needed any more. Whatever the
        sink records must be what the source gives from then on: the range forgets pages."""
        self._settle()
        clean = self._clean
        for level, pages in enumerate(self._dirty):
            for index, nodes in pages.items():
                page = b"".join(nodes[2:])
                sink.put(level, index, page)
                clean[level, index] = page
            pages.clear()
        for level, index in self._gone:
            sink.delete(level, index)
        self._gone.clear()
        excess = len(clean) - self._clean_max
        for key in list(islice(clean, max(excess, 0))):
            del clean[key]

    # -- pages ------------------------------------------------------------------------------------

    def _check(self, position: int) -> None:
        if not 0 <= position < self._count:
            raise IndexError(f"position {position} in a range of {self._count} leaves")

    def _settle(self) -> None:
        """Bring the pages up to date: make each node above a pending leaf that exists, once."""
        if not self._pending:
            return
        height, join = self._height, self._join
        size = 1 << height
        ancestors, ends = _shape(height)
        below = self._pending
        level = 0
        while below:
            stale: dict[int, set[int]] = {}
            dirty = self._dirty[level]
            # neighbours one after the other, as the source has them
            for place, node in sorted(below.items()):
                index = place >> height
                slot = place & size - 1
                above = stale.get(index)
                if above is None:
                    stale[index] = set(ancestors[slot])
                    nodes = self._writable(level, index)
                else:
                    above.update(ancestors[slot])
                    nodes = dirty[index]
                nodes[size + slot] = node
            below = {}
            existing = self._count >> height * level
            for index, slots in stale.items():
                nodes = dirty[index]
                row = existing - (index << height)
                # children have higher numbers than their parents
                for slot in sorted(slots, reverse=True):
                    if ends[slot] <= row:
                        nodes[slot] = join(nodes[2 * slot] + nodes[2 * slot + 1])
                if row >= size:
                    below[index] = nodes[1]
            level += 1
        self._pending.clear()
        self._settled = self._count

    def _cut(self, count: int) -> None:
        """Take all nodes out of the pages that do not exist in a range of `count` leaves."""
        height = self._height
        size = 1 << height
        _, ends = _shape(height)
        zero = bytes(self._width)
        for level, dirty in enumerate(self._dirty):
            before, after = self._settled >> height * level, count >> height * level
            if before == after:
                break
            index, row = divmod(after, size)
            if row:
                nodes = self._writable(level, index)
                for slot in range(2, 2 * size):
                    if ends[slot] > row:
                        nodes[slot] = zero
                index += 1
            for gone in range(index, -(-before // size)):
                dirty.pop(gone, None)
                self._clean.pop((level, gone), None)
                self._gone.add((level, gone))
        self._settled = count

    def _node(self, level: int, index: int) -> bytes:
        """Return a node that exists and is settled."""
        page_level, row = divmod(level, self._height)
        depth = self._height - row
        page = index >> depth
        slot = 1 << depth | index & (1 << depth) - 1
        nodes = self._dirty[page_level].get(page)
        if nodes is not None:
            return nodes[slot]
        start = (slot - 2) * self._width
        return self._page(page_level, page)[start : start + self._width]

    def _page(self, level: int, index: int) -> bytes:
        """Return a settled page."""
        nodes = self._dirty[level].get(index)
        if nodes is not None:
            return b"".join(nodes[2:])
        key = (level, index)
        page = self._clean.pop(key, None)
        if page is None:
            page = self._fetch(level, index)
            if len(self._clean) >= self._clean_max:
                del self._clean[next(iter(self._clean))]
        self._clean[key] = page
        return page

    def _writable(self, level: int, index: int) -> list[bytes]:
        """Return a page's nodes, to be changed and flushed."""
        dirty = self._dirty[level]
        nodes = dirty.get(index)
        if nodes is None:
            # there is a page as soon as there is the first node of its lowest row
            if ((index << self._height) + 1) << self._height * level <= self._settled:
                page = self._clean.pop((level, index), None) or self._fetch(level, index)
            else:
                page = self._blank
            # number 0 is not used
            nodes = dirty[index] = [b"", b"", *self._unpack(page)]
            self._gone.discard((level, index))
        return nodes

    def _fetch(self, level: int, index: int) -> bytes:
        page = self._source.get(level, index)
        self._read += 1
        self._check_page(level, index, page)
        assert page is not None, "it was checked"
        return page

    def _check_page(self, level: int, index: int, page: bytes | None) -> None:
        expected = len(self._blank)
        if page is None or len(page) != expected:
            actual = None if page is None else len(page)
            raise RangeCorruptError(level, index, expected=expected, actual=actual)


class _Under:
    """The pages of a range as they are, flushed or not, for as long as it does not change."""

    __slots__ = ("_changes", "_range")

    def __init__(self, range_: PagedRange) -> None:
        self._range = range_
        self._changes = range_._changes

    def get(self, level: int, index: int) -> bytes:
        """Return a page."""
        if self._range._changes != self._changes:
            raise RuntimeError("the range changed under its overlay")
        return self._range._page(level, index)


@cache
def _shape(height: int) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Return, for a page's nodes in heap order: the numbers above each node of its lowest row, and
    how many nodes that row must have for each number to exist."""
    size = 1 << height
    ancestors = tuple(
        tuple((size + slot) >> up for up in range(1, height + 1)) for slot in range(size)
    )
    ends = [0] * (2 * size)
    for slot in range(1, 2 * size):
        # as deep as its number has bits after the first
        under = height + 1 - slot.bit_length()
        ends[slot] = ((slot + 1) << under) - size
    return ancestors, tuple(ends)
