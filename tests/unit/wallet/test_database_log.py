"""The log of a wallet's database: what a crash may leave is used, what is damaged is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchained.node.wallet.database import Database
from unchained.node.wallet.database_log import _is_in_one_sector, _sums, check_log
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


# Where the header of a frame lies in its sectors


SMALL = 512
"""Bytes of the pages of a log that is made here: its frames lie in sectors as those of 4 KiB do."""
STEP = FRAME + SMALL
SECTOR = 512
TURN = 64
"""Frames after which one lies in its sectors as the first does."""


class Made:
    """A log that is made frame by frame."""

    def __init__(self, rng: Random, before: bytes = b"") -> None:
        self.rng = rng
        self.salts = rng.randbytes(8)
        start = pack(">IIII", 0x377F0682, 3_007_000, SMALL, 0) + self.salts
        self.sums = _sums(start, "<", (0, 0))
        self.raw = start + pack(">II", *self.sums) + before[HEADER:]
        self.length = HEADER
        """Bytes of what was committed."""

    def commit(self, *ends: bool) -> bytes:
        """Return the log with frames more, of which the last should end a commit, and note them as
        committed."""
        raw = bytearray(self.raw)
        for is_end in ends:
            # Few pages and contents: a frame may be in part what another was in its place.
            frame = pack(">II", self.rng.randint(1, 2), 9 * is_end)
            content = bytes([self.rng.randint(0, 2)]) * SMALL
            self.sums = _sums(frame + content, "<", self.sums)
            frame += self.salts + pack(">II", *self.sums) + content
            raw[self.length : self.length + STEP] = frame
            self.length += STEP
        self.raw = bytes(raw)
        return self.raw

    def tear(self, frames: int) -> None:
        """Have a power cut leave a part of a commit of so many frames."""
        before, sums, length = self.raw, self.sums, self.length
        after = self.commit(*[False] * (frames - 1), True)
        left = bytearray(before.ljust(len(after), b"\0"))
        lost = self.rng.randrange(length, length + frames * STEP)
        for at in range(0, len(after), SECTOR):
            if self.rng.randrange(2) and at != lost - lost % SECTOR:
                left[at : at + SECTOR] = after[at : at + SECTOR]
        self.raw, self.sums, self.length = bytes(left), sums, length


def is_refused(home: Path, log: bytes) -> bool:
    (home / "w.db").write_bytes(b"a page")
    (home / "w.db-wal").write_bytes(log)
    try:
        check_log(home / "w.db")
    except StoreDamagedError:
        return True
    return False


def test_no_sectors_that_a_power_cut_leaves_of_commits_are_taken_for_damage(
    tmp_path: Path,
) -> None:
    for seed in range(40):
        rng = Random(seed)
        older = Made(rng)
        older.commit(*(rng.random() < 0.5 for _ in range(2 * TURN)))
        made = Made(rng, older.raw)
        made.commit(*[False] * rng.randrange(3), True)
        for _ in range(3):
            made.tear(rng.choice([rng.randrange(1, TURN), TURN - 2, TURN - 1, TURN, 2 * TURN]))
            assert not is_refused(tmp_path, made.raw), seed


@pytest.mark.parametrize("part", ["page", "commit", "salts", "sums", "content", "all"])
def test_damage_to_what_was_committed_before_is_refused_wherever_the_sectors_end(
    part: str, tmp_path: Path
) -> None:
    at, size = {
        "page": (0, 4),
        "commit": (4, 4),
        "salts": (8, 8),
        "sums": (16, 8),
        "content": (FRAME, SMALL),
        "all": (0, STEP),
    }[part]
    made = Made(Random(1))
    log = made.commit(*[True] * 4)
    for _ in range(TURN):
        # Of commits of a frame each it is the fourth from the end.
        start = made.length - 4 * STEP + at
        damaged = log[:start] + bytes(size) + log[start + size :]
        assert (damaged == log) or is_refused(tmp_path, damaged), made.length
        log = made.commit(True)


@pytest.mark.parametrize("part", [8, 15, 16, 23])
def test_damage_to_the_salts_or_sums_that_end_the_commit_before_the_last_is_refused(
    part: int, tmp_path: Path
) -> None:
    made = Made(Random(1))
    made.commit(True)
    unnoticed = 0
    for _ in range(TURN):
        log = made.commit(True)
        last = made.length - STEP
        if is_refused(tmp_path, flipped(log, last - STEP + part)):
            continue
        # The last frame's header may be of two commits.
        assert not _is_in_one_sector(last)
        unnoticed += 1
    assert unnoticed == 2


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
