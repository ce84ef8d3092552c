"""The log of a wallet's database: what a crash may leave is used, what is damaged is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from struct import unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchained.node.wallet.database import Database
from unchained.node.wallet.database_log import _sums, check_log
from unchained.node.wallet.errors import StoreDamagedError

HEADER, FRAME, PAGE = 32, 24, 4_096
SIZE = FRAME + PAGE


def opened(path: Path) -> Database:
    return Database(path, network_id=b"n", owner=b"o", seed=bytes(32))


def put(database: Database, number: int) -> None:
    database.run("INSERT INTO labels VALUES (?, ?, ?)", "kind", b"%d" % number, bytes(3_000))


def labels(path: Path) -> int:
    with closing(opened(path)) as database:
        return len(database.rows("SELECT key FROM labels"))


class Crashed:
    """What a crash has left of a database with 6 labels, each of a commit of its own."""

    def __init__(self, home: Path, *, write_back_after: int = 0) -> None:
        self.path, live = home / "w.db", home / "live.db"
        self.log = home / "w.db-wal"
        with closing(opened(live)) as database:
            for number in range(6):
                put(database, number)
                if number + 1 == write_back_after:
                    database.rows("PRAGMA wal_checkpoint")
            for end in ("", "-wal"):
                shutil.copyfile(f"{live}{end}", f"{self.path}{end}")
        self.sound = self.log.read_bytes()
        self.frames = (len(self.sound) - HEADER) // SIZE

    def ends(self) -> list[int]:
        """Return where commits end in the log."""
        starts = (HEADER + SIZE * number for number in range(self.frames))
        salts = self.sound[16:24]
        return [
            at + SIZE
            for at in starts
            if any(self.sound[at + 4 : at + 8]) and self.sound[at + 8 : at + 16] == salts
        ]

    def refuses(self, log: bytes) -> bool:
        """Return whether the database is refused with this log; it stays as it is then."""
        self.log.write_bytes(log)
        before = self.path.read_bytes()
        try:
            check_log(self.path)
        except StoreDamagedError:
            with pytest.raises(StoreDamagedError, match=r"damaged before its end: .*put back"):
                opened(self.path)
            assert (self.path.read_bytes(), self.log.read_bytes()) == (before, log)
            return True
        return False


def flipped(raw: bytes, at: int) -> bytes:
    changed = bytearray(raw)
    changed[at] ^= 1
    return bytes(changed)


def test_a_log_that_is_sound_is_read_to_its_end(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    assert len(crashed.ends()) > 6
    assert not crashed.refuses(crashed.sound)
    assert labels(crashed.path) == 6


def test_a_log_that_was_begun_anew_may_hold_what_it_held_before(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path, write_back_after=5)
    assert len(crashed.ends()) == 1 < crashed.frames
    assert not crashed.refuses(crashed.sound)
    assert labels(crashed.path) == 6


@pytest.mark.parametrize("left", [0, 1, HEADER - 1, HEADER, HEADER + FRAME, HEADER + SIZE])
def test_a_log_that_has_hardly_begun_is_sound(left: int, tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    assert not crashed.refuses(crashed.sound[:left])


def test_no_log_is_sound(tmp_path: Path) -> None:
    check_log(tmp_path / "w.db")
    assert labels(tmp_path / "w.db") == 0


def test_what_a_crash_may_leave_of_the_last_commit_is_taken_for_that(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    before, end = crashed.ends()[-2:]
    for at in range(before, end, 512):
        assert not crashed.refuses(crashed.sound[:at])
        torn = crashed.sound[:at] + bytes(min(512, end - at)) + crashed.sound[at + 512 :]
        assert not crashed.refuses(torn)
    assert not crashed.refuses(crashed.sound[: end - 1])
    assert labels(crashed.path) == 5


def test_what_two_crashes_have_left_of_two_commits_is_taken_for_that(tmp_path: Path) -> None:
    path, log = tmp_path / "w.db", tmp_path / "w.db-wal"
    found = []
    for number, size in enumerate((9, 20_000, 9, 3_000)):
        is_torn = size > 9
        with closing(opened(path)) as database:
            found.append(len(database.rows("SELECT key FROM labels")))
            before = log.read_bytes() if log.exists() else b""
            database.run("INSERT INTO labels VALUES ('kind', ?, ?)", b"%d" % number, bytes(size))
            database_left, written = path.read_bytes(), log.read_bytes()
        path.write_bytes(database_left)
        if is_torn:
            # all of the commit but its first frame
            at = next(
                at for at in range(len(written)) if before[at : at + 1] != written[at : at + 1]
            )
            written = written[:at] + bytes(SIZE) + written[at + SIZE :]
        log.write_bytes(written)
        check_log(path)
    assert [*found, labels(path)] == [0, 1, 1, 2, 2]


def test_damage_before_the_last_commits_is_refused(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    last = crashed.ends()[-3]
    offsets = {HEADER + SIZE * number + at for number in range(4) for at in (0, 5, 9, 17, 500)}
    for at in [*offsets, last - 1]:
        assert crashed.refuses(flipped(crashed.sound, at)), at
    gone = crashed.sound[:PAGE] + bytes(PAGE) + crashed.sound[2 * PAGE :]
    assert crashed.refuses(gone)


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: flipped(log, 3),
        lambda log: flipped(log, 10),
        lambda log: flipped(log, 17),
        lambda log: flipped(log, 31),
        lambda log: bytes(PAGE) + log[PAGE:],
    ],
)
def test_a_damaged_header_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    assert crashed.refuses(damage(crashed.sound))


def test_a_database_that_was_emptied_beside_its_log_is_refused(tmp_path: Path) -> None:
    crashed = Crashed(tmp_path)
    crashed.path.write_bytes(b"")
    with pytest.raises(StoreDamagedError, match="is empty, and its log"):
        opened(crashed.path)
    assert crashed.log.read_bytes() == crashed.sound
    crashed.log.write_bytes(b"")
    assert labels(crashed.path) == 0


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=1, max_size=256).map(lambda raw: raw * 16),
    st.sampled_from("<>"),
)
def test_the_sums_are_those_of_the_file_format(
    first: int, second: int, raw: bytes, order: str
) -> None:
    words = iter(unpack(f"{order}{len(raw) // 4}I", raw))
    one, other = first, second
    for even, odd in zip(words, words, strict=True):
        # as https://sqlite.org/fileformat2.html#checksum_algorithm has it
        one = (one + even + other) % 2**32
        other = (other + odd + one) % 2**32
    assert _sums(raw, order, (first, second)) == (one, other)
