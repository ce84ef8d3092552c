"""The log that SQLite keeps beside a wallet's database (`-wal`): whether it is damaged before its
end.

SQLite takes the first frame of a log that is not as it was written for what a crash left of the
last commit, and forgets what was committed after it, without a word. A crash leaves one commit in
part, and nothing after it: each is synced before the next is begun, and so is the header. The sums
of a frame go on from those of the frame before it, so that what was written after a commit is told
from what lay there before.

A power cut leaves each sector of the last commit as it was before or as it was to be, in any order,
and before it may have held what an earlier use of the log, or a commit that was torn as well, left
there. So the parts of a frame may be of different commits, and that a commit ends in it is believed
where one sector holds that together with the salts and the sums, or where the frame after it goes
on from the sums that the frame makes with that.

What a power cut could have left so remains unnoticed: damage to the last commit, and damage that
reaches into the one before it, if its last frame tells no more that a commit ends there. Where that
frame's own header lies across two sectors, so does damage to anything in it but salts and sums, and
to the sums of the frame before it; and where the next header does, damage to its salts or sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO, Final

from unchained.node.wallet.errors import DAMAGED_HINT, StoreDamagedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOG_SUFFIX: Final = "-wal"

_HEADER: Final = Struct(">IIIIIIII")
"""Magic, version, bytes of a page, checkpoints, two salts, two sums of all that."""
_FRAME: Final = Struct(">IIIIII")
"""Page, pages of the database if a commit ends here and else 0, two salts, two sums."""
_MAGIC: Final = 0x377F0682
"""With 1 more the sums are of big-endian words."""
_PAGES: Final = frozenset(1 << power for power in range(9, 17))
_SUMMED: Final = 8
"""Bytes of a frame's header that go into its sums, before the page."""
_SECTOR: Final = 512
"""Bytes that a power cut leaves as they were or as they were to be, at the least."""
_MASK: Final = 0xFFFFFFFF


def check_log(database: Path) -> None:
    """Check the log of a database that nobody has open; one that is not there is sound. Raises
    `StoreDamagedError`, OSError."""
    try:
        file = database.with_name(database.name + LOG_SUFFIX).open("rb")
    except FileNotFoundError:
        return
    with file:
        header = file.read(_HEADER.size)
        magic, _, page, _, *salts, first, second = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
        order = ">" if magic & 1 else "<"
        sums = _sums(header[:24].ljust(24, b"\0"), order, (0, 0))
        if magic | 1 != _MAGIC | 1 or page not in _PAGES or sums != (first, second):
            while raw := file.read(1 << 16):
                if raw.strip(b"\0"):
                    raise _damaged("its header is not as it was written")
            return
        is_empty = not database.stat().st_size
        is_read = True
        # What the frame before makes with its own words if it says that a commit ends there, and
        # whether that is sure.
        end, is_end_sure = None, False
        for at, frame, content in _frames(file, page):
            _, ends_commit, *its_salts, first, second = _FRAME.unpack(frame)
            summed, noted = frame[:_SUMMED] + content, (first, second)
            made = _sums(summed, order, sums)
            is_of_log = its_salts == salts
            is_next = is_of_log and made == noted
            is_sure = is_of_log and _is_in_one_sector(at)
            if not is_read and (
                (is_next and is_end_sure)
                or (is_sure and end is not None and _sums(summed, order, end) == noted)
            ):
                raise _damaged("SQLite would drop what was committed after that")
            is_read = is_read and is_next
            if is_read and ends_commit and is_empty:
                # It has a page before the log has one; SQLite would delete the log.
                raise StoreDamagedError(
                    f"the wallet's .db file is empty, and its log, .db{LOG_SUFFIX}, is not: "
                    f"{DAMAGED_HINT}"
                )
            sums = noted
            end, is_end_sure = (made, is_sure) if ends_commit else (None, False)


def _frames(file: BinaryIO, page: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield place, header and page of each whole frame that follows."""
    size = _FRAME.size + page
    at = _HEADER.size
    while len(raw := file.read(size)) == size:
        yield at, raw[: _FRAME.size], raw[_FRAME.size :]
        at += size


def _is_in_one_sector(at: int) -> bool:
    """Return whether a frame's header has all but the number of its page in one sector."""
    return (at + 4) // _SECTOR == (at + _FRAME.size - 1) // _SECTOR


def _sums(raw: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's sums of some words, 32 bits each, that follow those of other `sums`.

    Each word in turn is added to the two sums before it, and that is the next sum, as Fibonacci's
    numbers grow: so each counts in the last two as often as one of those numbers says.
    """
    # Only here: a wallet that was closed well has no log, and numpy takes long to import.
    import numpy as np

    words = np.frombuffer(raw, f"{order}u4")
    one, other = sums
    times = _fibonacci(len(words))
    # of arrays numpy takes products and sums modulo 2^32, as SQLite does
    first = one * int(times[2]) + other * int(times[1]) + int(np.dot(times[2:], words))
    second = one * int(times[1]) + other * int(times[0]) + int(np.dot(times[1:-1], words))
    return first & _MASK, second & _MASK


@cache
def _fibonacci(last: int) -> npt.NDArray[np.uint32]:
    """Return Fibonacci's numbers modulo 2^32, from the one after the `last` down to 0."""
    import numpy as np

    found = [0, 1]
    while len(found) < last + 2:
        found.append((found[-1] + found[-2]) & _MASK)
    return np.array(found[::-1], np.uint32)


def _damaged(how: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"the wallet's .db file has a log, .db{LOG_SUFFIX}, damaged before its end: {how}; "
        f"{DAMAGED_HINT}"
    )
