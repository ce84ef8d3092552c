"""The log that SQLite keeps beside a wallet's database (`-wal`): whether it is damaged before its
end.

SQLite takes the first frame of a log that is not as it was written for what a crash left of the
last commit, and forgets what was committed after it, without a word. A crash leaves one commit in
part, and nothing after it: each is synced before the next is begun, and so is the header. The sums
of a frame go on from those of the frame before it, so that what was written after a commit is told
from what lay there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import Struct, unpack
from typing import BinaryIO, Final

from unchained.node.wallet.errors import DAMAGED_HINT, StoreDamagedError

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
        is_read, follows_commit = True, False
        for frame, content in _frames(file, page):
            _, ends_commit, *its_salts, first, second = _FRAME.unpack(frame)
            is_of_log = its_salts == salts
            is_next = (
                is_of_log
                and (is_read or follows_commit)
                and _sums(frame[:_SUMMED] + content, order, sums) == (first, second)
            )
            if is_next and not is_read:
                raise _damaged("SQLite would drop what was committed after that")
            if is_next and ends_commit and is_empty:
                # It has a page before the log has one; SQLite would delete the log.
                raise StoreDamagedError(
                    f"the wallet's .db file is empty, and its log, .db{LOG_SUFFIX}, is not: "
                    f"{DAMAGED_HINT}"
                )
            is_read = is_read and is_next
            sums, follows_commit = (first, second), is_of_log and ends_commit > 0


def _frames(file: BinaryIO, page: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield header and page of each whole frame that follows."""
    size = _FRAME.size + page
    while len(raw := file.read(size)) == size:
        yield raw[: _FRAME.size], raw[_FRAME.size :]


def _sums(raw: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return SQLite's sums of some words, 32 bits each, that follow those of other `sums`."""
    one, other = sums
    words = iter(unpack(f"{order}{len(raw) // 4}I", raw))
    for even, odd in zip(words, words, strict=True):
        one = (one + even + other) & 0xFFFFFFFF
        other = (other + odd + one) & 0xFFFFFFFF
    return one, other


def _damaged(how: str) -> StoreDamagedError:
    return StoreDamagedError(
        f"the wallet's .db file has a log, .db{LOG_SUFFIX}, damaged before its end: {how}; "
        f"{DAMAGED_HINT}"
    )
