from __future__ import annotations

import random

from unchained.node.peers.address_book import (
    ADDRESSES_LOOKED_AT_MAX,
    ADDRESSES_MAX,
    BUCKET_SIZE,
    FAILURES_OF_NEW_MAX,
    FIRST_BACKOFF_MS,
    LONGEST_BACKOFF_OF_OWN_MS,
    NEW_BUCKETS_OF_SOURCE,
    OWN,
    AddressBook,
    BookEntry,
)
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore

NOW = 10**12
PEER = "1" * 44


def address(number: int) -> str:
    ip = f"{20 + number % 50}.{number // 50 % 250}.{number // 12_500 % 250}.7"
    return f"/ip4/{ip}/tcp/9000/p2p/{PEER}"


def a_book(store: MemoryStore | None = None, seed: int = 1) -> AddressBook:
    return AddressBook(store or MemoryStore(), random.Random(seed))


def save(book: AddressBook, store: MemoryStore) -> None:
    batch = Batch()
    book.pending(batch)
    store.write(batch, sync=False)


def test_only_whole_addresses_are_taken() -> None:
    book = a_book()
    for text in (
        "",
        "/ip4/1.2.3.4/tcp/9000",
        f"/ip4/1.2.3.4/tcp/0/p2p/{PEER}",
        f"/ip4/1.2.3.4/udp/9000/p2p/{PEER}",
        f"/dns4/name.example/tcp/9000/p2p/{PEER}",
    ):
        assert not book.add(text, "9.9.0.0/16", NOW)
    assert book.add(f"/dns4/name.example/tcp/9000/p2p/{PEER}", OWN, NOW)
    assert book.add(address(1), "9.9.0.0/16", NOW)
    assert book.add(address(1), "8.8.0.0/16", NOW + 1)
    assert len(book) == 2


def test_one_source_reaches_few_places_and_all_sources_no_more_than_there_are() -> None:
    book = a_book()
    for number in range(5_000):
        book.add(address(number), "9.9.0.0/16", NOW)
    of_one = len(book)
    assert of_one <= NEW_BUCKETS_OF_SOURCE * BUCKET_SIZE
    for number in range(20_000):
        book.add(address(number), f"9.{number % 200}.0.0/16", NOW)
    assert of_one < len(book) <= ADDRESSES_MAX


def test_failures_back_off_and_never_tried_ones_go() -> None:
    book = a_book()
    book.add(address(1), "9.9.0.0/16", NOW)
    book.add(address(2), OWN, NOW)
    now = NOW
    for count in range(1, FAILURES_OF_NEW_MAX):
        book.failed(address(1), now)
        wait = FIRST_BACKOFF_MS << (count - 1)
        due = book.pick(now + wait - 1, lambda entry: entry.text == address(1))
        assert due is None
        due = book.pick(now + wait, lambda entry: entry.text == address(1))
        assert due is not None
        now += wait
    book.failed(address(1), now)
    assert address(1) not in book
    for _ in range(50):
        book.failed(address(2), now)
    # What the operator named is never given up.
    assert book.pick(now + LONGEST_BACKOFF_OF_OWN_MS, lambda _: True) is not None


def test_what_worked_is_tried_and_survives_a_restart() -> None:
    store = MemoryStore()
    book = a_book(store)
    for number in range(40):
        book.add(address(number), f"{number}.9.0.0/16", NOW)
    for number in range(10):
        book.attempted(address(number), NOW)
        book.good(address(number), NOW)
    book.set_anchors([address(1), address(2)])
    statistics = book.statistics()
    assert statistics.tried >= 8
    save(book, store)
    again = a_book(store, seed=2)
    assert again.statistics() == statistics
    assert again.anchors == (address(1), address(2))
    assert again.pick(NOW, lambda _: True, only_new=True) is not None
    for number in range(40):
        again.failed(address(number), NOW)
        for _ in range(FAILURES_OF_NEW_MAX):
            again.failed(address(number), NOW)
    save(again, store)
    assert a_book(store).statistics().tried == statistics.tried
    assert a_book(store).statistics().new == again.statistics().new


def test_samples_are_of_good_addresses_and_not_of_all() -> None:
    book = a_book()
    for number in range(400):
        book.add(address(number), f"{number % 200}.9.0.0/16", NOW)
    book.add(f"/dns4/name.example/tcp/9000/p2p/{PEER}", OWN, NOW)
    total = len(book)
    sample = book.sample(256, NOW)
    assert len(sample) == len(set(sample)) == (total - 1) // 4
    assert not any("dns4" in text for text in sample)
    assert len(book.sample(8, NOW)) == 8
    assert book.sample(256, NOW + 10**11) == []


def test_picks_choose_tried_and_new_alike() -> None:
    book = a_book()
    for number in range(100):
        book.add(address(number), f"{number}.9.0.0/16", NOW)
    book.good(address(0), NOW)
    picked = [book.pick(NOW, lambda _: True) for _ in range(200)]
    tried = sum(entry is not None and entry.tried for entry in picked)
    assert 60 < tried < 140


def test_a_book_full_of_unfit_addresses_costs_little() -> None:
    book = a_book()
    for number in range(8_000):
        book.add(address(number), f"{number % 200}.9.0.0/16", NOW)
    for number in range(400):
        book.good(address(number), NOW)
    assert len(book) > 4 * ADDRESSES_LOOKED_AT_MAX
    looked_at = 0

    def refuse(_entry: BookEntry) -> bool:
        nonlocal looked_at
        looked_at += 1
        return False

    assert book.pick(NOW, refuse) is None
    assert looked_at <= 2 * ADDRESSES_LOOKED_AT_MAX
    only = book.get(address(0))
    assert only is not None
    small = a_book(seed=3)
    for number in range(100):
        small.add(address(number), f"{number}.9.0.0/16", NOW)
    assert small.pick(NOW, lambda entry: entry.text == address(7)) is not None
