"""A worker process: takes orders from its page, hashes, sends the coins that it finds.

Run as ``python -P -m unchained.miner.worker PAGE_FD PARENT_PID BACKEND`` by the pool. Its
standard input is a pipe whose bytes mean "look at the page" and whose end means that the pool is
gone; frames leave through its standard output. It imports neither Trio nor numpy: a machine may
run a hundred of these.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from unchained.miner.frames import COIN_FOUND, READY, Frame
from unchained.miner.page import (
    ACTIVITY,
    HASHES,
    IDLE,
    MINING,
    PAUSED,
    SEQUENCE,
    TAKEN_AT_NS,
    TAKEN_HASHES,
    TAKEN_JOB,
    TAKEN_NONCE,
    Orders,
    Page,
)
from unchained.miner.search import search
from unchained.node.crypto.pow import (
    POW_BACKEND_VARIABLE,
    NativeArgon2id,
    ProofOfWork,
    default_backend,
)
from unchained.node.primitives.coin import HEADER_SIZE, MIX_SIZE

CAPPED_SLICE_S: Final = 0.02
"""CPU time after which a worker with a CPU-time cap rests, in seconds."""

PR_SET_PDEATHSIG: Final = 1
"""Linux's prctl option for the signal that a process gets when its parent dies."""

PR_SET_THP_DISABLE: Final = 41
"""Linux's prctl option that keeps a process's memory out of huge pages."""


class ResultPipe:
    """The pipe to the pool."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, frame: bytes) -> None:
        """Write a frame; blocks while the pool does not keep up."""
        left = memoryview(frame)
        while left:
            left = left[os.write(self._fd, left) :]


class Worker:
    """Follows the orders in a page for ever.

    Frames leave through `results`; `wake` is set with each order.
    """

    def __init__(
        self,
        page: Page,
        backend: ProofOfWork,
        results: ResultPipe,
        wake: threading.Event,
    ) -> None:
        self._page = page
        self._words = page.words
        self._backend = backend
        self._results = results
        self._wake = wake
        self._nonces = range(0)
        self._coins = 0

    def run(self) -> None:
        """Mine; returns only by an exception."""
        words = self._words
        job_number, cpu_cap, rest_until, huge_pages = 0, 100, 0.0, 1
        while True:
            # Cleared before the page is read: an order that comes later sets it again.
            self._wake.clear()
            reading = self._page.read()
            if reading is None:
                # The pool is between two stores; if it died there, the watching thread ends us.
                time.sleep(0)
                continue
            sequence, orders = reading
            if orders.job_number != job_number:
                job_number = orders.job_number
                self._take(orders)
            if orders.cpu_cap != cpu_cap:
                cpu_cap, rest_until = orders.cpu_cap, 0.0
            if orders.huge_pages != huge_pages:
                huge_pages = orders.huge_pages
                use_huge_pages(self._backend, bool(huge_pages))
            if orders.paused or self._is_done(orders):
                words[ACTIVITY] = PAUSED if orders.paused else IDLE
                self._wake.wait()
                continue
            words[ACTIVITY] = MINING
            rest_s = rest_until - time.monotonic()
            if rest_s > 0:
                self._wake.wait(rest_s)
                continue
            if cpu_cap == 100:
                self._mine(sequence, orders, lambda: False)
            else:
                rest_until = self._mine_slice(sequence, orders)

    def _take(self, orders: Orders) -> None:
        words = self._words
        self._nonces = range(orders.nonce_first, orders.nonce_first + orders.nonce_count)
        self._coins = 0
        words[TAKEN_AT_NS] = time.monotonic_ns()
        words[TAKEN_HASHES] = words[HASHES]
        words[TAKEN_NONCE] = orders.nonce_first
        words[TAKEN_JOB] = orders.job_number

    def _is_done(self, orders: Orders) -> bool:
        return orders.job_number == 0 or not self._nonces or 0 < orders.max_coins <= self._coins

    def _mine(self, sequence: int, orders: Orders, enough: Callable[[], bool]) -> None:
        """Hash until there are other orders, a coin, no nonce left, or it is enough."""
        words = self._words
        before = hashes = words[HASHES]

        def stop() -> bool:
            nonlocal hashes
            hashes += 1
            words[HASHES] = hashes
            return words[SEQUENCE] != sequence or enough()

        found = search(
            self._backend,
            orders.header_prefix,
            int.from_bytes(orders.target, "big"),
            orders.mem_kib,
            self._nonces,
            stop,
        )
        if found is not None:
            self._results.send(Frame(COIN_FOUND, orders.job_number, *found).to_bytes())
            self._coins += 1
            # Counted after it is sent: a worker that replaces this one begins at what is counted.
            hashes += 1
            words[HASHES] = hashes
        self._nonces = self._nonces[hashes - before :]

    def _mine_slice(self, sequence: int, orders: Orders) -> float:
        """Mine for a slice of CPU time. Return until when to rest then, on the monotonic clock."""
        begun, used = time.monotonic(), time.thread_time()
        self._mine(sequence, orders, lambda: time.thread_time() - used >= CAPPED_SLICE_S)
        return begun + (time.thread_time() - used) * 100 / orders.cpu_cap


def watch_pool(fd: int, wake: threading.Event) -> None:
    """Set `wake` for what comes through a pipe; end the process at the pipe's end."""
    while os.read(fd, 4096):
        wake.set()
    os._exit(0)


def use_huge_pages(backend: ProofOfWork, wanted: bool) -> None:
    """Have the backend's memory lie in huge pages from here on where the system gives any, or not.

    Only Linux has such a switch; only a kernel that keeps its memory asks for them.
    """
    if sys.platform == "linux" and isinstance(backend, NativeArgon2id):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, int(not wanted), 0, 0, 0)
        backend.close()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, where it can; exit if it has."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def main() -> None:
    """Run a worker until its pool ends it."""
    # Ctrl-C in a terminal reaches the whole process group; the pool decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    page_fd, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    # What anything prints by mistake must not look like a result.
    results = ResultPipe(os.dup(1))
    os.dup2(2, 1)
    page = Page(page_fd)
    os.close(page_fd)
    wake = threading.Event()
    threading.stack_size(256 * 1024)
    threading.Thread(target=watch_pool, args=(0, wake), daemon=True).start()
    backend = default_backend({POW_BACKEND_VARIABLE: sys.argv[3]})
    ready = Frame(READY, os.getpid(), bytes(HEADER_SIZE), bytes(MIX_SIZE), bytes(32))
    results.send(ready.to_bytes())
    Worker(page, backend, results, wake).run()


if __name__ == "__main__":
    main()
