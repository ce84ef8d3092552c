from __future__ import annotations

import base64
import random
import tracemalloc
from hashlib import sha3_256

from unchained.node.peers.address_book import (
    ADDRESSES_LOOKED_AT_MAX,
    ADDRESSES_MAX,
    ANCHORS_MAX,
    FAILURES_OF_NEW_MAX,
    FAILURES_OF_TRIED_MAX,
    NEW_BUCKETS_OF_SOURCE,
    RIVALRY_MS,
    STALE_AFTER_MS,
    TRUSTED_AFTER_SUCCESS_MS,
    AddressBook,
)
from unchained.node.peers.address_table import (
    BUCKET_SIZE,
    FIRST_BACKOFF_MS,
    LONGEST_BACKOFF_OF_OWN_MS,
    OWN,
    PLACES_OF_NETWORK_MAX,
    BookEntry,
)
from unchained.node.primitives.codec import encode
from unchained.node.transport import address_groups
from unchained.node.transport.address import Address
from unchained.node.transport.contract import PeerId
from unchained.storage import schema
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


def test_onion_addresses_are_taken_from_strangers_and_handed_on() -> None:
    book = a_book()
    text = f"/onion3/{onion(1)}:9000/p2p/{PEER}"
    assert book.add(text, "30.1.0.0/16", NOW)
    assert book.sample(8, NOW) == [text]
    book.good(text, NOW)
    picked = book.pick(NOW, lambda _: True)
    assert picked is not None
    assert picked.address == Address("onion3", onion(1), 9000, PeerId(PEER))
    # One place for each service, whatever ports and identities it names.
    assert not book.add(f"/onion3/{onion(1)}:9001/p2p/{'2' * 44}", "31.1.0.0/16", NOW)


def onion(number: int) -> str:
    key = bytes([number]) * 32
    checksum = sha3_256(b".onion checksum" + key + b"\3").digest()[:2]
    return base64.b32encode(key + checksum + b"\3").decode().lower()


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
        due = book.pick(now + wait // 2 - 1, lambda entry: entry.text == address(1))
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


def test_who_failed_at_one_moment_comes_back_at_others() -> None:
    dues = set()
    for seed in range(100):
        store = MemoryStore()
        book = a_book(store, seed)
        book.add(address(1), "9.9.0.0/16", NOW)
        book.failed(address(1), NOW)
        save(book, store)
        for kept in (book, a_book(store, seed + 1_000)):
            entry = kept.get(address(1))
            assert entry is not None
            assert FIRST_BACKOFF_MS / 2 < entry.due_ms() - NOW <= FIRST_BACKOFF_MS
            dues.add(entry.due_ms())
    assert len(dues) > 50


def test_what_worked_is_tried_and_survives_a_restart() -> None:
    store = MemoryStore()
    book = a_book(store)
    for number in range(40):
        book.add(address(number), f"{number}.9.0.0/16", NOW)
    for number in range(10):
        book.attempted(address(number), NOW)
        book.good(address(number), NOW)
    book.note_outbound([address(1), address(2)], 8)
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


def test_an_address_that_gave_way_to_another_of_its_host_leaves_the_disk_too() -> None:
    store = MemoryStore()
    book = a_book(store)
    first, second = address(1), address(1).replace("9000", "9001")
    book.add(first, "9.9.0.0/16", NOW)
    book.failed(first, NOW)
    save(book, store)
    assert book.add(second, "9.9.0.0/16", NOW)
    save(book, store)
    again = a_book(store)
    assert [text in again for text in (first, second)] == [False, True]


def test_samples_are_of_good_addresses_and_not_of_all() -> None:
    book = a_book()
    for number in range(400):
        book.add(address(number), f"{number % 200}.9.0.0/16", NOW)
    book.add(f"/dns4/name.example/tcp/9000/p2p/{PEER}", OWN, NOW)
    total = len(book)
    sample = book.sample(256, NOW)
    assert len(sample) == len(set(sample)) == total // 4
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


def at(ip: str, port: int = 9000, peer: str = PEER) -> str:
    kind = "ip6" if ":" in ip else "ip4"
    return f"/{kind}/{ip}/tcp/{port}/p2p/{peer}"


def other_peer(number: int) -> str:
    digits = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return (digits[number // len(digits)] + digits[number % len(digits)]).ljust(44, "2")


def fill(book: AddressBook, texts: list[str]) -> None:
    """Name addresses from many networks, and find all of them that are held good."""
    for number, text in enumerate(texts):
        book.add(text, f"{number % 48}.9.0.0/16", NOW)
    for text in texts:
        book.good(text, NOW)
    for number, text in enumerate(texts):
        book.add(text, f"{number % 48}.8.0.0/16", NOW)


def test_a_host_has_one_place_whatever_ports_and_identities_it_names() -> None:
    for ip in ("21.1.2.3", "2001:db9:1:2::3"):
        for texts in (
            [at(ip, 9000 + number) for number in range(64)],
            [at(ip, peer=other_peer(number)) for number in range(64)],
        ):
            book = a_book()
            for text in texts:
                book.add(text, "9.9.0.0/16", NOW)
            assert (len(book), book.statistics().new) == (1, 1)
            fill(book, texts)
            assert (len(book), book.statistics().tried) == (1, 1)
    book = a_book()
    fill(book, [at(f"2001:db9:1:2::{number:x}") for number in range(1, 64)])
    assert len(book) == 1
    # On one machine, or behind one address at home, the ports tell nodes apart.
    book = a_book()
    fill(book, [at(ip, 9000 + number) for number in range(8) for ip in ("127.0.0.1", "10.0.0.1")])
    assert len(book) == 16


def test_a_network_has_four_places_in_each_table() -> None:
    for texts in (
        [at(f"21.1.{number}.9") for number in range(200)],
        [at(f"2001:db9:{number:x}::9") for number in range(200)],
    ):
        book = a_book()
        for number, text in enumerate(texts):
            book.add(text, f"{number % 48}.9.0.0/16", NOW)
        assert len(book) == PLACES_OF_NETWORK_MAX
        fill(book, texts)
        assert book.statistics().tried == PLACES_OF_NETWORK_MAX
        assert book.statistics().new <= PLACES_OF_NETWORK_MAX
    book = a_book()
    fill(book, [at(f"10.1.{number}.9") for number in range(40)])
    assert len(book) == 40


def test_who_named_a_host_falsely_first_keeps_it_out_neither_untried_nor_failed() -> None:
    false, right = at("21.1.2.3", peer=other_peer(1)), at("21.1.2.3")
    kept_out = 0
    for seed in range(200):
        book = a_book(seed=seed)
        assert book.add(false, "9.9.0.0/16", NOW)
        kept_out += not book.add(right, "8.8.0.0/16", NOW)
    assert 60 < kept_out < 140
    book = a_book()
    book.add(false, "9.9.0.0/16", NOW)
    book.failed(false, NOW)
    assert book.add(right, "8.8.0.0/16", NOW)
    assert false not in book
    # One that worked is not called into question, until it fails.
    book.good(right, NOW)
    assert not book.add(false, "9.9.0.0/16", NOW)
    book.failed(right, NOW)
    assert book.add(false, "9.9.0.0/16", NOW)


def crowd() -> tuple[AddressBook, list[str], str]:
    """Return a book with a network's tried places taken, by whom, and one more of it that is good
    as well and was good after them."""
    book = a_book()
    texts = [at(f"21.1.{number}.9") for number in range(PLACES_OF_NETWORK_MAX)]
    late = NOW + TRUSTED_AFTER_SUCCESS_MS
    for number, text in enumerate(texts):
        assert book.add(text, f"{number}.9.0.0/16", NOW)
        book.good(text, NOW + number)
    heir = at("21.1.99.9")
    assert book.add(heir, "9.9.0.0/16", late)
    book.good(heir, late)
    return book, texts, heir


def test_a_tried_place_is_given_away_only_after_a_test_in_vain() -> None:
    book, texts, heir = crowd()
    late = NOW + TRUSTED_AFTER_SUCCESS_MS
    entry = book.get(heir)
    assert entry is not None
    assert not entry.tried
    rival = book.to_test(late, lambda _: True)
    assert rival is not None
    assert rival.text == texts[0]
    assert book.to_test(late, lambda _: False) is None
    book.failed(rival.text, late)
    assert entry.tried
    assert not rival.tried
    assert rival.text in book
    assert book.to_test(late, lambda _: True) is None


def test_a_tried_place_that_nobody_tells_of_is_tested_all_the_same() -> None:
    book, texts, heir = crowd()
    late = NOW + STALE_AFTER_MS + 1_000
    # What waits since then has waited for too long.
    assert book.to_test(late, lambda _: True) is None
    book.good(heir, late)
    assert all(entry.tried for text in texts if (entry := book.get(text)) is not None)
    rival = book.to_test(late, lambda _: True)
    assert rival is not None
    assert rival.text == texts[0]
    book.good(rival.text, late)
    assert all(text in book for text in (*texts, heir))
    assert rival.tried


def test_who_passes_the_test_keeps_the_place() -> None:
    book, texts, heir = crowd()
    late = NOW + TRUSTED_AFTER_SUCCESS_MS
    rival = book.to_test(late, lambda _: True)
    assert rival is not None
    book.good(rival.text, late)
    assert rival.tried
    assert book.to_test(late, lambda _: True) is None
    entry = book.get(heir)
    assert entry is not None
    assert not entry.tried
    # Nor is a place lost that could not be tested, or whose owner answered a short while ago.
    book, texts, heir = crowd()
    assert book.to_test(late + RIVALRY_MS + 1, lambda _: True) is None
    assert book.to_test(late, lambda _: True) is None
    book, texts, heir = crowd()
    assert book.to_test(NOW, lambda _: True) is None
    assert all(entry.tried for text in texts if (entry := book.get(text)) is not None)
    # What failed too often gives way untested.
    book, texts, heir = crowd()
    oldest = book.get(texts[0])
    assert oldest is not None
    oldest.failures = FAILURES_OF_TRIED_MAX
    book.good(heir, late)
    assert texts[0] not in book


def test_what_the_operator_gave_has_a_place_however_much_there_is_of_it() -> None:
    book = a_book()
    texts = [at("21.1.2.3", 9000 + number) for number in range(100)]
    assert book.add(texts[0], "9.9.0.0/16", NOW)
    assert all(book.add(text, OWN, NOW) for text in texts)
    assert len(book) == 100
    book.good(texts[0], NOW)
    for _ in range(FAILURES_OF_TRIED_MAX):
        book.failed(texts[0], NOW)
    late = NOW + TRUSTED_AFTER_SUCCESS_MS
    book.good(texts[1], late)
    first = book.get(texts[0])
    assert first is not None
    assert first.is_own
    assert book.to_test(late, lambda _: True) is first
    book.failed(texts[0], late)
    assert len(book) == 100


def test_a_few_buckets_filled_to_the_brim_are_not_met_more_often_than_others() -> None:
    book = a_book()
    for number in range(8_000):
        book.add(address(number), "9.9.0.0/16", NOW)
    of_one = len(book)
    honest = {address(8_000 + number) for number in range(1_000)}
    for number, text in enumerate(honest):
        book.add(text, f"{100 + number % 100}.9.0.0/16", NOW)
    picked = [book.pick(NOW, lambda _: True) for _ in range(400)]
    assert of_one > 3 * len(honest)
    assert sum(entry is not None and entry.text in honest for entry in picked) > 300


def test_anchors_stay_until_there_are_enough_others() -> None:
    book = a_book()
    first = [address(number) for number in range(ANCHORS_MAX)]
    book.note_outbound(first, ANCHORS_MAX)
    assert book.anchors == tuple(first)
    hostile = [address(100 + number) for number in range(ANCHORS_MAX)]
    for number in range(ANCHORS_MAX - 1):
        book.note_outbound(hostile[number : number + 1], ANCHORS_MAX)
        assert book.anchors == (hostile[number], *first[:-1])
    book.note_outbound([], ANCHORS_MAX)
    assert book.anchors == tuple(first)
    book.note_outbound(hostile, ANCHORS_MAX)
    assert book.anchors == tuple(hostile)


def test_a_book_of_other_rules_is_read_as_far_as_there_are_places() -> None:
    store = MemoryStore()
    book = a_book(store)
    texts = [at("21.1.2.3", 9000 + number) for number in range(20)]
    for number, text in enumerate(texts):
        entry = BookEntry(text, Address.parse(text), f"{number}.9.0.0/16", NOW)
        book._entries[text] = entry
        book._changed.add(text)
    save(book, store)
    again = a_book(store)
    assert (len(again), again.left_out) == (1, 19)
    save(again, store)
    assert a_book(store).left_out == 0


def test_what_an_address_takes_of_memory_is_little_when_the_book_is_full() -> None:
    texts = [address(number) for number in range(4_000)]
    remembered = [found for found in vars(address_groups).values() if hasattr(found, "cache_clear")]
    assert remembered

    def forget() -> None:
        for function in remembered:
            function.cache_clear()

    # Whatever ran before: what groups are remembered is bounded, and no part of the book.
    forget()
    tracemalloc.start()
    try:
        book = a_book()
        for number, text in enumerate(texts):
            book.add(text, f"{number % 97}.9.0.0/16", NOW)
        forget()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(book) * ADDRESSES_MAX < 72 << 20


def test_rows_that_cannot_be_read_are_dropped_and_counted() -> None:
    store = MemoryStore()
    book = a_book(store)
    assert book.add(address(1), "9.9.0.0/16", NOW)
    assert book.add(address(2), "9.9.0.0/16", NOW)
    save(book, store)
    batch = Batch()
    batch.put(schema.ADDRESS.key(b"anchors"), encode([b"/ip4/1.2.3/tcp/1"]))
    sound = next(raw for name, raw in schema.ADDRESS.scan(store) if name.startswith(b"a:"))
    batch.put(schema.ADDRESS.key(b"a:" + address(2).encode()), sound[:-1])
    unlike = f"/ip4/1.2.3.4/tcp/09000/p2p/{PEER}".encode()
    for name in (b"\xff", b"", b"/ip4/1.2.3.4/tcp/1", unlike):
        batch.put(schema.ADDRESS.key(b"a:" + name), sound)
    store.write(batch, sync=False)
    again = a_book(store)
    assert (len(again), again.unreadable, again.anchors) == (1, 6, ())
    assert address(1) in again
    again.note_outbound([address(1)], 1)
    save(again, store)
    last = a_book(store)
    assert (len(last), last.unreadable, last.anchors) == (1, 0, (address(1),))
