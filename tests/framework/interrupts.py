"""Ctrl-C where it may not come at any instant: among tasks each of whose exceptions is taken for a
finding, and while a process is begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import trio


class OrderlyInterrupt:
    """While it is entered, the first Ctrl-C cancels what runs, and KeyboardInterrupt is raised once
    the block is left: no task sees it, so none can take it for a fault of its own.

    Another Ctrl-C raises at once. Where somebody else handles Ctrl-C, or in another thread than the
    main one, nothing is changed.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._cancel: Callable[[], None] | None = None
        self._came = False

    def __enter__(self) -> OrderlyInterrupt:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._came:
            raise KeyboardInterrupt from None

    def cancels(self, scope: trio.CancelScope) -> None:
        """Let it cancel this scope of the running Trio program."""
        token = trio.lowlevel.current_trio_token()
        self._cancel = lambda: token.run_sync_soon(scope.cancel)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        again, self._came = self._came, True
        if again or self._cancel is None:
            raise KeyboardInterrupt
        try:
            self._cancel()
        except trio.RunFinishedError:
            raise KeyboardInterrupt from None


@contextmanager
def signals_held() -> Iterator[None]:
    """Put off what SIGINT and SIGTERM do until the block is left: what it begins is known then to
    whoever has to end it. In another thread than the main one nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for sent in came:
            before[signal.Signals(sent)](sent, None)
