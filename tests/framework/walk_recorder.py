"""Records which functions of this project one event makes a node run, in order.

`sys.setprofile` sees every function that is entered. Of these, only what the event causes at the
watched node is kept:

- A step of a Trio task belongs to the event if it was scheduled by a step that does, so what runs
  by itself (heartbeats, reports, other peers' news) does not. A task that is woken by the clock
  belongs where its last step did: a task that waits for a delay on the event's
  account goes on with it.
- A step belongs to the node if its task descends from the node's own. What the in-memory network
  delivers runs in a task of the network's: there the receiving end of the connection decides.
"""

from __future__ import annotations

import dis
import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import trio


class Entry(NamedTuple):
    """A function that was entered: its file, relative to the project, and its qualified name. What
    is defined inside a function, a lambda for one, goes by that function's name: `is_inner`."""

    file: str
    function: str
    line: int
    is_inner: bool


class _Known(NamedTuple):
    """What there is to know of a code object: `start` is where a call of it begins, for what is
    beyond is a coroutine that goes on."""

    entry: Entry
    start: int
    is_listed: bool
    is_counted: bool


class Recorder(trio.abc.Instrument):
    """Keeps what is entered inside `recording`.

    parts: folders of the project that are looked at. omitted: files and folders in them that are
    not listed. counted: names of functions whose calls are counted in `calls`, by the function of
    another folder that they were called for. whose: whether a frame of a task that is
    nobody's, or everybody's, works for the watched node.
    """

    def __init__(
        self,
        root: Path,
        parts: Sequence[str],
        *,
        omitted: Sequence[str],
        counted: Sequence[str],
        whose: Callable[[FrameType], bool],
    ) -> None:
        self._root = root
        self._parts = tuple(f"{part}/" for part in parts)
        self._omitted = tuple(omitted)
        self._counted = frozenset(counted)
        self._whose = whose
        self._known: dict[CodeType, _Known | None] = {}
        self._me: trio.lowlevel.Task | None = None
        self._outside: frozenset[trio.Nursery] = frozenset()
        self._owners: frozenset[trio.lowlevel.Task] = frozenset()
        self._is_of_event: dict[trio.lowlevel.Task, bool] = {}
        self._step: trio.lowlevel.Task | None = None
        self._may_record = False
        self._is_owned = False
        self.entries: list[Entry] = []
        """Every entry, in order."""
        self.is_under_way: dict[Entry, bool] = {}
        """By function, in order of first entries: whether another of its file was under way."""
        self.calls: dict[str, Counter[str]] = {}
        """By counted function: how often it was called, and for whom."""

    @contextmanager
    def recording(self, *owners: trio.lowlevel.Task) -> Iterator[None]:
        """Record inside the block what it causes at the node whose outermost tasks are given; what
        the block's own task runs, and the tasks that it starts, are the node's too."""
        me = trio.lowlevel.current_task()
        self.entries, self.is_under_way = [], {}
        self.calls = {name: Counter() for name in self._counted}
        self._me, self._owners = me, frozenset(owners)
        self._outside = frozenset(me.child_nurseries)
        self._is_of_event = {me: True}
        trio.lowlevel.add_instrument(self)
        self.before_task_step(me)
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            trio.lowlevel.remove_instrument(self)

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Leave out what the block runs itself, without a checkpoint; not what it causes."""
        before, self._is_owned = self._is_owned, False
        try:
            yield
        finally:
            self._is_owned = before

    def total(self, names: Sequence[str]) -> Counter[str]:
        """Return how often any of some counted functions was called, and for whom."""
        return sum((self.calls[name] for name in names), Counter[str]())

    # Trio's side

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if self._step is not None:
            self._is_of_event[task] = self._may_record

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._step = task
        self._may_record = self._is_of_event.get(task, False)
        self._is_owned = self._descends(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._step = None
        self._may_record = False

    def _descends(self, task: trio.lowlevel.Task) -> bool:
        while task is not self._me and task not in self._owners:
            nursery = task.parent_nursery
            if nursery is None or nursery in self._outside:
                return False
            task = nursery.parent_task
        return True

    # The interpreter's side

    def _profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not self._may_record:
            return
        code = frame.f_code
        if code in self._known:
            known = self._known[code]
        else:
            known = self._known[code] = self._look_at(code)
        if known is None or frame.f_lasti > known.start:
            return
        if not (self._is_owned or self._whose(frame)):
            return
        if known.is_counted:
            self.calls[known.entry.function][self._caller(frame, known.entry.file)] += 1
        if known.is_listed:
            self.entries.append(known.entry)
            if known.entry not in self.is_under_way:
                self.is_under_way[known.entry] = any(
                    above.f_code.co_filename == code.co_filename for above in _above(frame)
                )

    def _look_at(self, code: CodeType) -> _Known | None:
        path = Path(code.co_filename)
        if not path.is_relative_to(self._root) or not code.co_flags & inspect.CO_OPTIMIZED:
            return None
        file = path.relative_to(self._root).as_posix()
        if not file.startswith(self._parts):
            return None
        function = code.co_qualname.split(".<locals>")[0]
        is_counted = code.co_qualname in self._counted
        is_listed = not file.startswith(self._omitted)
        # Comprehensions and generator expressions are part of the function that they stand in.
        if code.co_name.startswith("<") and code.co_name != "<lambda>":
            is_listed = False
        if not (is_listed or is_counted):
            return None
        entry = Entry(file, function, code.co_firstlineno, "<locals>" in code.co_qualname)
        return _Known(entry, _start_of(code), is_listed, is_counted)

    def _caller(self, frame: FrameType, file: str) -> str:
        """Return the function of another folder that is nearest above a frame."""
        folder = file.rpartition("/")[0]
        for above in _above(frame):
            known = self._look_at(above.f_code)
            if known is None or not known.is_listed:
                continue
            if known.entry.file.rpartition("/")[0] != folder:
                return f"{known.entry.file} {known.entry.function}"
        return "the walk itself"


def _above(frame: FrameType) -> Iterator[FrameType]:
    """Return the frames that wait for a frame: its callers, and who awaits them."""
    above = frame.f_back
    while above is not None:
        yield above
        above = above.f_back


def _start_of(code: CodeType) -> int:
    """Return the offset of the instruction at which a call of a function, or the first step of a
    coroutine, begins."""
    return next(
        step.offset
        for step in dis.get_instructions(code)
        if step.opname == "RESUME" and step.arg == 0
    )
