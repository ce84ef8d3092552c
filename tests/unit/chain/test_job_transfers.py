from __future__ import annotations

from unchained.node.chain.mempool.job_transfers import JobTransfers
from unchained.node.primitives.types import Wid


def wid(number: int) -> Wid:
    return Wid(number.to_bytes(32, "big"))


def test_bytes_live_as_long_as_a_job_that_lists_them() -> None:
    jobs = JobTransfers()
    first = jobs.hold([wid(1), wid(2)])
    second = jobs.hold([wid(2), wid(3)])
    for number in (1, 2, 3):
        assert jobs.is_listed(wid(number))
        assert jobs.get(wid(number)) is None
        jobs.keep(wid(number), bytes([number]))
    assert [jobs.get(wid(number)) for number in (1, 2, 3)] == [b"\x01", b"\x02", b"\x03"]
    del first
    assert [jobs.get(wid(number)) for number in (1, 2, 3)] == [None, b"\x02", b"\x03"]
    assert not jobs.is_listed(wid(1))
    del second
    assert [jobs.get(wid(number)) for number in (2, 3)] == [None, None]


def test_what_no_job_lists_is_not_kept() -> None:
    jobs = JobTransfers()
    jobs.keep(wid(1), b"raw")
    assert jobs.get(wid(1)) is None
    held = jobs.hold([wid(1)])
    assert jobs.get(wid(1)) is None
    assert len(held) == 1


def test_what_was_listed_first_goes_first_where_there_is_no_room() -> None:
    jobs = JobTransfers(most_bytes=10)
    held = jobs.hold(map(wid, range(4)))
    jobs.keep(wid(1), bytes(4))
    jobs.keep(wid(0), bytes(4))
    jobs.keep(wid(2), bytes(2))
    assert [jobs.get(wid(number)) is not None for number in range(4)] == [True, True, True, False]
    jobs.keep(wid(3), bytes(3))
    # The first listed, not the first that left; and no more than is needed.
    assert [jobs.get(wid(number)) is not None for number in range(4)] == [False, True, True, True]
    jobs.keep(wid(0), bytes(11))
    assert jobs.get(wid(0)) is None
    assert [jobs.get(wid(number)) is not None for number in range(4)] == [False, True, True, True]
    del held


def test_what_has_gone_with_its_job_takes_no_room() -> None:
    jobs = JobTransfers(most_bytes=10)
    gone = jobs.hold([wid(0), wid(1)])
    jobs.keep(wid(0), bytes(5))
    jobs.keep(wid(1), bytes(5))
    del gone
    held = jobs.hold([wid(2), wid(3), wid(4)])
    jobs.keep(wid(2), bytes(4))
    jobs.keep(wid(3), bytes(4))
    assert [jobs.get(wid(number)) is not None for number in (2, 3)] == [True, True]
    jobs.keep(wid(4), bytes(4))
    assert [jobs.get(wid(number)) is not None for number in (2, 3, 4)] == [False, True, True]
    del held
