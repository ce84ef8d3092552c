"""The pool's side of a worker process: start it, hear it, wake it, end it.

`subprocess.Popen` is called in the event loop's own thread, not through Trio's `open_process`:
that one starts children from a worker thread, and Linux sends a child its parent-death signal
when the *thread* that started it ends. See docs/decisions/mining-processes.md.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Final, Protocol

import trio

from unchained.miner.frames import FRAME_SIZE

WORKER_GRACE_S: Final = 1.0
"""Seconds from the polite signal to the one that cannot be ignored."""

ERROR_TAIL: Final = 2048
"""Bytes kept of what a worker wrote to its standard error."""

PASSED_ENVIRONMENT: Final = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "TMPDIR",
)
"""What a worker's environment holds of the node's, which may hold secrets."""


class WorkerHandle(Protocol):
    """A running worker, as the pool sees it."""

    @property
    def pid(self) -> int:
        """The process's id."""

    async def receive(self) -> bytes:
        """Return the next frame; fewer bytes than a frame's once there is no more to come."""

    async def drain_errors(self) -> None:
        """Read what the worker writes to its standard error, until it ends."""

    def wake(self) -> None:
        """Have the worker look at its page; never blocks."""

    def terminate(self) -> None:
        """Ask the worker to end; returns at once."""

    async def end(self) -> None:
        """End the worker if it still runs, by force if need be, and reap it."""

    def describe_end(self) -> str:
        """Return how the worker, ended, came to its end, and its last word."""

    def close(self) -> None:
        """Close the pipes of a worker that was ended."""


class Spawn(Protocol):
    """Starts a worker for a page. Raises OSError."""

    def __call__(self, page_fd: int, backend: str) -> WorkerHandle:
        """Return the running worker; the page's descriptor remains the caller's."""


class WorkerProcess:
    """A worker in a process of its own, started by exec. Raises OSError if it cannot be."""

    def __init__(self, page_fd: int, backend: str) -> None:
        with contextlib.ExitStack() as on_failure, contextlib.ExitStack() as child_ends:

            def make_pipe(child_end: int) -> tuple[int, int]:
                ends = os.pipe()
                child_ends.callback(os.close, ends[child_end])
                on_failure.callback(os.close, ends[1 - child_end])
                return ends

            wake_in, self._wake = make_pipe(0)
            frames, frames_out = make_pipe(1)
            errors, errors_out = make_pipe(1)
            self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                # -P: a stray file in the working directory must not pass for a module.
                [
                    *(sys.executable, "-P", "-m", "unchained.miner.worker"),
                    *(str(page_fd), str(os.getpid()), backend),
                ],
                stdin=wake_in,
                stdout=frames_out,
                stderr=errors_out,
                pass_fds=(page_fd,),
                env={name: os.environ[name] for name in PASSED_ENVIRONMENT if name in os.environ},
            )
            on_failure.pop_all()
        os.set_blocking(self._wake, False)
        self._frames = trio.lowlevel.FdStream(frames)
        self._errors = trio.lowlevel.FdStream(errors)
        self._received = bytearray()
        self._error_tail = b""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    async def receive(self) -> bytes:
        """Return the next frame; fewer bytes than a frame's once there is no more to come."""
        while len(self._received) < FRAME_SIZE:
            chunk = await self._frames.receive_some()
            if not chunk:
                break
            self._received += chunk
        frame = bytes(self._received[:FRAME_SIZE])
        del self._received[:FRAME_SIZE]
        return frame

    async def drain_errors(self) -> None:
        """Read what the worker writes to its standard error, until it ends; keep the tail."""
        async for chunk in self._errors:
            self._error_tail = (self._error_tail + bytes(chunk))[-ERROR_TAIL:]

    def wake(self) -> None:
        """Have the worker look at its page; never blocks."""
        # A full pipe wakes as well as one more byte, and a worker that is gone needs no waking.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._wake, b"\n")

    def close_wake(self) -> None:
        """Have the worker end by itself, as it does when this process is gone."""
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def terminate(self) -> None:
        """Ask the worker to end; returns at once."""
        self._popen.terminate()

    async def end(self) -> None:
        """End the worker if it still runs, by force after WORKER_GRACE_S, and reap it.

        Cannot be cancelled: it takes WORKER_GRACE_S and a moment at most.
        """
        with trio.CancelScope(shield=True):
            self._popen.terminate()
            await trio.to_thread.run_sync(self._reap, limiter=trio.CapacityLimiter(1))

    def _reap(self) -> None:
        try:
            self._popen.wait(WORKER_GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def describe_end(self) -> str:
        """Return how the worker, ended, came to its end, and the last line that it wrote."""
        status = self._popen.returncode
        how = f"exit status {status}" if status >= 0 else f"killed by {signal_name(-status)}"
        lines = self._error_tail.decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    def close(self) -> None:
        """Close the pipes of a worker that was ended."""
        self.close_wake()
        self._frames.close()
        self._errors.close()


def signal_name(number: int) -> str:
    """Return SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
