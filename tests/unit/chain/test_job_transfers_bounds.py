"""Bytes of transfers live as long as a job that lists them, within a bound."""

from __future__ import annotations

import gc

from unchained.node.chain.mempool.job_transfers import LEFT_BYTES_MAX, JobTransfers
from unchained.node.primitives.types import Wid

ONE, TWO, THREE, FOUR = (Wid(bytes([number]) * 32) for number in range(1, 5))


def test_what_no_job_lists_is_not_kept() -> None:
    jobs = JobTransfers()
    jobs.keep(ONE, b"bytes")
    assert not jobs.is_listed(ONE)
    assert jobs.get(ONE) is None


def test_a_listed_transfer_is_kept_once_it_has_left() -> None:
    jobs = JobTransfers()
    job = jobs.hold([ONE, TWO])
    assert len(job) == 2
    assert jobs.is_listed(ONE)
    assert jobs.get(ONE) is None, "it has not left"
    jobs.keep(ONE, b"bytes")
    assert jobs.get(ONE) == b"bytes"
    assert jobs.get(TWO) is None


def test_bytes_go_with_the_last_job_that_lists_them() -> None:
    jobs = JobTransfers()
    first = jobs.hold([ONE])
    second = jobs.hold([ONE, TWO])
    assert first[0] is second[0], "shared by all"
    jobs.keep(ONE, b"bytes")
    del first
    gc.collect()
    assert jobs.get(ONE) == b"bytes"
    del second
    gc.collect()
    assert not jobs.is_listed(ONE)
    assert jobs.get(ONE) is None


def test_where_there_is_no_room_what_was_listed_first_goes_first() -> None:
    jobs = JobTransfers(most_bytes=10)
    job = jobs.hold([ONE, TWO, THREE, FOUR])
    jobs.keep(TWO, b"22222")
    jobs.keep(ONE, b"11111")
    assert (jobs.get(ONE), jobs.get(TWO)) == (b"11111", b"22222"), "exactly as many as fit"
    jobs.keep(THREE, b"3")
    assert jobs.get(ONE) is None
    assert (jobs.get(TWO), jobs.get(THREE)) == (b"22222", b"3")
    jobs.keep(FOUR, b"4444")
    assert [jobs.get(wid) for wid in (ONE, TWO, THREE, FOUR)] == [None, b"22222", b"3", b"4444"]
    jobs.keep(FOUR, b"444444444")
    assert [jobs.get(wid) for wid in (ONE, TWO, THREE, FOUR)] == [None, None, b"3", b"4" * 9]
    jobs.keep(ONE, b"1" * 11)
    assert [jobs.get(wid) for wid in (ONE, TWO, THREE, FOUR)] == [None, None, b"3", b"4" * 9]
    assert len(job) == 4


def test_as_many_bytes_are_kept_as_a_mempool_holds() -> None:
    assert LEFT_BYTES_MAX == 67_108_864
    assert JobTransfers()._most_bytes == LEFT_BYTES_MAX
