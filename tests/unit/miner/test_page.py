"""The shared page: orders arrive whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from unchained.miner.page import (
    CHECKSUM,
    HASHES,
    NO_JOB,
    ORDERS_OFFSET,
    SEQUENCE,
    Orders,
    Page,
    make_page_file,
)

ORDERS = Orders(1, 55, 7, 1024, 2**64 - 1, 2**54, 3, bytes(range(32)), bytes(range(158)))


@pytest.fixture
def pages() -> Iterator[tuple[Page, Page]]:
    """Both sides of a page."""
    fd = make_page_file()
    sides = Page(fd), Page(fd)
    os.close(fd)
    yield sides
    for side in sides:
        side.close()


def test_orders_and_counters_cross(pages: tuple[Page, Page]) -> None:
    pool, worker = pages
    pool.write(NO_JOB)
    assert worker.read() == (2, NO_JOB)
    pool.write(ORDERS)
    assert worker.read() == (4, ORDERS)
    worker.words[HASHES] = 12345
    assert pool.words[HASHES] == 12345


def test_the_worker_region_lies_beyond_the_orders() -> None:
    assert ORDERS_OFFSET + 7 * 8 + 32 + 158 <= HASHES * 8


def test_a_page_never_written_holds_no_orders(pages: tuple[Page, Page]) -> None:
    assert pages[1].read() is None


def test_orders_being_written_are_not_read(pages: tuple[Page, Page]) -> None:
    pool, worker = pages
    pool.write(ORDERS)
    pool.words[SEQUENCE] += 1
    assert worker.read() is None


def test_torn_orders_are_not_read(pages: tuple[Page, Page]) -> None:
    pool, worker = pages
    pool.write(ORDERS)
    pool.words[CHECKSUM] ^= 1
    assert worker.read() is None


def test_a_system_without_memory_files_has_pages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = make_page_file()
    page = Page(fd)
    os.close(fd)
    page.write(ORDERS)
    assert page.read() == (2, ORDERS)
    page.close()
