"""Token buckets, one by one and by key."""

from __future__ import annotations

from unchained.node.base.token_bucket import BUCKETS_MAX, KeyedTokenBuckets, TokenBucket


def test_a_bucket_gives_what_it_holds_and_refills() -> None:
    bucket = TokenBucket(3, 2, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert bucket.level(100.0) == 3


def test_what_is_not_there_is_not_taken_in_part() -> None:
    bucket = TokenBucket(10, 1, 0.0)
    assert not bucket.take(0.0, 11)
    assert bucket.level(0.0) == 10
    assert bucket.take(0.0, 10)
    assert not bucket.take(0.5, 1)
    assert bucket.take(1.0, 1)


def test_what_is_spent_says_how_long_to_wait() -> None:
    rate = TokenBucket(3, 2, 0.0)
    assert [rate.spend(0.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert rate.level(0.0) == -2
    assert [rate.spend(2.0) for _ in range(3)] == [0, 0, 0.5]


def test_each_key_has_a_bucket_of_its_own() -> None:
    rate = KeyedTokenBuckets(3, 2)
    assert [rate.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 0.0)
    assert [rate.take("a", 1.0) for _ in range(3)] == [True, True, False]
    assert [rate.spend("c", 0.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]


def test_keys_refill_overflow_and_begin_anew() -> None:
    patience = KeyedTokenBuckets(2_000, 20)
    assert patience.take("a", 0.0, 2_000)
    assert patience.level("a", 10.0) == 200
    assert patience.take("a", 10.0, 200)
    assert not patience.take("a", 10.0, 1)
    patience.forget("a")
    assert patience.level("a", 10.0) == 2_000


def test_keys_are_bounded_and_the_one_used_longest_ago_goes() -> None:
    buckets = KeyedTokenBuckets(1, 1)
    for number in range(BUCKETS_MAX + 10):
        buckets.spend(str(number), 20.0)
    assert len(buckets) == BUCKETS_MAX
    assert buckets.level("9", 20.0) == 1
    assert buckets.level("10", 20.0) == 0
