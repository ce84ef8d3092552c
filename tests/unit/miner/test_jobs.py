"""Jobs: their bounds, and the shares that their nonces are cut into."""

from __future__ import annotations

import itertools

import pytest

from unchained.miner.errors import BadJobError
from unchained.miner.jobs import MAX_WORKERS, NONCES, WIDE_RANGE, Job


def job(**fields: object) -> Job:
    return Job(
        **{"number": 1, "header_prefix": bytes(158), "target": 1, "mem_kib": 8, **fields}  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"number": 0}, "number"),
        ({"number": 2**64}, "number"),
        ({"header_prefix": bytes(166)}, "header prefix"),
        ({"target": -1}, "target"),
        ({"target": 2**256}, "target"),
        ({"mem_kib": 7}, "memory"),
        ({"mem_kib": 2**32}, "memory"),
        ({"nonce_start": -1}, "first nonce"),
        ({"nonce_start": NONCES}, "first nonce"),
        ({"nonce_count": 0}, "nonce count"),
        ({"nonce_start": 1, "nonce_count": NONCES}, "nonce count"),
        ({"max_coins": -1}, "bound of coins"),
    ],
)
def test_a_field_out_of_bounds_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(BadJobError, match=f"a job's {named} must be") as caught:
        job(**fields)
    assert caught.value.field == named


@pytest.mark.parametrize("workers", [1, 2, 3, 7, MAX_WORKERS])
@pytest.mark.parametrize(
    ("start", "count"),
    [(0, NONCES), (5, 1), (5, 100), (NONCES - 1000, 1000), (2**40, WIDE_RANGE), (0, 2**32 - 1)],
)
def test_shares_are_disjoint_and_leave_no_nonce_over(start: int, count: int, workers: int) -> None:
    wide = job(nonce_start=start, nonce_count=count)
    parts = wide.parts(workers)
    shares = [wide.share(worker, parts) for worker in range(parts)]
    assert shares[0].start == start
    assert shares[-1].stop == start + count
    assert all(one.stop == other.start for one, other in itertools.pairwise(shares))


def test_a_worker_that_joins_has_a_share_of_a_wide_range_and_none_of_a_small_one() -> None:
    wide, small = job(), job(nonce_count=1000)
    assert wide.share(2, wide.parts(2))
    assert small.share(1, small.parts(2))
    assert not small.share(2, small.parts(2))
