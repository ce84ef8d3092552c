"""The half of the mutation tester that runs inside pytest, in a copy of the tree.

    python -m tests.framework.mutation.runner map FILE       which lines each test of FILE runs
    python -m tests.framework.mutation.runner serve FILE...  a process that forks for each mutant
    python -m tests.framework.mutation.runner import NAME... the same, with only NAME imported yet

What is found goes, as lines of JSON, to the descriptor named by MUTATION_ANSWERS; the last two
read what to run from MUTATION_REQUESTS. No product code is imported before pytest does.

A served mutant is not imported: the process has collected all tests once, and in a fork of it the
code of the functions that live is replaced by the mutant's. So a mutant costs little more than its
tests. This is sound only for code that has not run by then; the rest is imported.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

ROOT: Final = Path.cwd()
PACKAGE: Final = ROOT / "unchained"
SCRATCH: Final = ROOT / ".scratch"
MEMORY_MAX_BYTES: Final = 6 << 30
"""What a mutant may take beyond what the process has mapped: one that fills memory fails."""

Names = tuple[str, ...]


def answer(**fields: Any) -> None:
    """Say one thing to the process that asked."""
    # Shorter than PIPE_BUF, but for maps, of which only one is written at a time.
    text = json.dumps(fields) + "\n"
    sent = 0
    data = text.encode()
    while sent < len(data):
        sent += os.write(ANSWERS, data[sent:])


def relative(filename: str) -> str | None:
    """Return the name that a file of the product has in the tree, or None for others."""
    head = f"{PACKAGE}{os.sep}"
    return filename[len(head) :] if filename.startswith(head) else None


def run_tests(items: Sequence[pytest.Item], *, stop: bool) -> Iterator[tuple[pytest.Item, bool]]:
    """Run tests one after the other, each with whether it passed; `stop` at one that does not."""
    for item, after in zip(items, [*items[1:], None], strict=True):
        reports = runtestprotocol(item, log=False, nextitem=after)
        passed = not any(report.failed for report in reports)
        yield item, passed
        if stop and not passed:
            return


class Tracer:
    """Which lines of the watched files have run, in one context after the other."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = frozenset(files)
        self._kept: list[CodeType] = []  # so that no id is given twice
        self._all: dict[int, tuple[str, frozenset[int]]] = {}
        self._left: dict[int, set[int]] = {}

    def start(self) -> None:
        """Watch this thread and those that it starts."""
        threading.settrace(self._called)
        sys.settrace(self._called)

    def stop(self) -> None:
        """Watch no more."""
        sys.settrace(None)
        threading.settrace(None)

    def take(self) -> dict[str, list[int]]:
        """Return the lines that have run since the last time, by file."""
        lines: dict[str, set[int]] = {}
        for key, left in self._left.items():
            file, known = self._all[key]
            lines.setdefault(file, set()).update(known - left)
        self._left = {}
        return {file: sorted(found) for file, found in lines.items()}

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        left = self._left.get(id(code))
        if left is None:
            left = self._enter(code)
        if not left:
            return None
        left.discard(frame.f_lineno)
        return self._ran

    def _enter(self, code: CodeType) -> set[int]:
        key = id(code)
        if key not in self._all:
            file = relative(code.co_filename)
            if file is None or file not in self._files:
                self._left[key] = set()
                self._all[key] = ("", frozenset())
                self._kept.append(code)
                return self._left[key]
            lines = frozenset(line for _, _, line in code.co_lines() if line)
            self._all[key] = (file, lines)
            self._kept.append(code)
        left = self._left[key] = set(self._all[key][1])
        return left

    def _ran(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            left = self._left.get(id(frame.f_code))
            if left is None:  # entered in an earlier context, as a task that still runs
                left = self._enter(frame.f_code)
            left.discard(frame.f_lineno)
            if not left:
                frame.f_trace_lines = False  # all is known of this one
        return self._ran


class Plugin:
    """Takes the place of pytest's loop over the tests."""

    def pytest_configure(self) -> None:
        """Make each run of a property test the same; a failure need not be made small to count."""
        import hypothesis  # pytest wants to see it first

        hypothesis.settings.register_profile(
            "mutation",
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=False,
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        )
        hypothesis.settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what is asked for."""
        if session.testsfailed:
            answer(event="uncollected")
            return True
        check_origin()
        self.loop(session)
        return True

    def loop(self, session: pytest.Session) -> None:
        """Do the work of one mode."""
        raise NotImplementedError


class MapPlugin(Plugin):
    """Runs the tests of a file twice: watched, and as they are for their times."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def loop(self, session: pytest.Session) -> None:
        """Answer with the lines of the import, then of each test, and with each test's time."""
        self._tracer.stop()
        answer(event="imported", lines=self._tracer.take())
        if (child := os.fork()) == 0:
            self._tracer.start()
            for item, _ in run_tests(session.items, stop=False):
                answer(event="ran", test=item.nodeid, lines=self._tracer.take())
            os._exit(0)
        os.waitpid(child, 0)
        start = time.perf_counter()
        for item, passed in run_tests(session.items, stop=False):
            now = time.perf_counter()
            answer(event="timed", test=item.nodeid, seconds=round(now - start, 4), passed=passed)
            start = now
        answer(event="mapped")


class ServePlugin(Plugin):
    """Forks for each mutant that is asked for, until nobody asks any more."""

    def loop(self, session: pytest.Session) -> None:
        """Answer each request as `run_mutant` does, then with how the fork ended."""
        by_id = {item.nodeid: item for item in session.items}
        functions = live_functions()
        gc.collect()
        gc.freeze()
        answer(event="ready", tests=len(by_id))
        for line in REQUESTS:
            request = json.loads(line)
            if (child := os.fork()) == 0:
                os.setsid()
                answer(event="started", pid=os.getpid())
                if replace_code(functions, request["file"], request["original"]):
                    run_mutant([by_id[test] for test in request["tests"] if test in by_id])
                else:
                    answer(event="cold")
                os._exit(0)
            end(child)


class ImportPlugin(Plugin):
    """Runs one mutant, whose file has been imported as it stands."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests

    def loop(self, session: pytest.Session) -> None:
        """Answer as `run_mutant` does."""
        by_id = {item.nodeid: item for item in session.items}
        run_mutant([by_id[test] for test in self._tests if test in by_id])


def import_each(preloaded: Sequence[str]) -> None:
    """Fork for each mutant that is asked for, and collect its tests there, with its file."""
    for name in preloaded:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    answer(event="ready")
    for line in REQUESTS:
        request = json.loads(line)
        if (child := os.fork()) == 0:
            os.setsid()
            answer(event="started", pid=os.getpid())
            run_pytest(request["files"], ImportPlugin(request["tests"]))
            os._exit(0)
        end(child)


def end(child: int) -> None:
    """Wait for a fork, tidy up behind it, and say how it ended."""
    _, status = os.waitpid(child, 0)
    # What tests have left: those of a mutant that was killed tidy up nothing.
    for left in SCRATCH.glob("*"):
        remove(left)
    answer(event="ended", status=os.waitstatus_to_exitcode(status))


def run_mutant(items: Sequence[pytest.Item]) -> None:
    """Run tests until one fails, and say which it is, before and after each."""
    soft = mapped_bytes() + MEMORY_MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))
    if items:
        answer(event="test", test=items[0].nodeid)
    for at, (item, passed) in enumerate(run_tests(items, stop=True)):
        if not passed:
            answer(event="failed", test=item.nodeid)
            return
        if at + 1 < len(items):
            answer(event="test", test=items[at + 1].nodeid)
    answer(event="passed")


def mapped_bytes() -> int:
    """Return how much address space this process has."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def remove(path: Path) -> None:
    """Remove what tests have made, links as links."""
    if path.is_dir() and not path.is_symlink():
        for each in path.iterdir():
            remove(each)
        path.rmdir()
    else:
        path.unlink()


def check_origin() -> None:
    """Make sure that the product was imported from this copy of the tree and nowhere else."""
    for name, module in list(sys.modules.items()):
        if name.startswith("unchained.") and (file := getattr(module, "__file__", None)):
            assert relative(file), f"{name} was imported from {file}, not from the copy"


def live_functions() -> Mapping[tuple[str, str, int], list[FunctionType]]:
    """Return all functions of the product that exist, by file, qualified name and first line."""
    found: dict[tuple[str, str, int], list[FunctionType]] = {}
    for each in gc.get_objects():
        if type(each) is FunctionType and (file := relative(each.__code__.co_filename)):
            code = each.__code__
            found.setdefault((file, code.co_qualname, code.co_firstlineno), []).append(each)
    return found


def codes_of(code: CodeType, path: Names = ()) -> Iterator[tuple[Names, CodeType]]:
    """Yield the code within some code, each under the names that lead to it."""
    seen: dict[str, int] = {}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            at = seen[each.co_name] = seen.get(each.co_name, -1) + 1
            inner = (*path, f"{each.co_name}#{at}")
            yield inner, each
            yield from codes_of(each, inner)


def replace_code(
    functions: Mapping[tuple[str, str, int], list[FunctionType]], file: str, original: str
) -> bool:
    """Give the living functions of `file` the code that its text has; False if that cannot be.

    `original` is where the text stands that they were made from.
    """
    name = str(PACKAGE / file)
    before = dict(codes_of(compile(Path(original).read_text(), name, "exec", dont_inherit=True)))
    text = Path(name).read_text()
    replaced = 0
    for path, code in codes_of(compile(text, name, "exec", dont_inherit=True)):
        old = before.get(path)
        if old is None or old == code:
            continue
        for function in functions.get((file, old.co_qualname, old.co_firstlineno), ()):
            try:
                function.__code__ = code
            except ValueError:  # other names are shared with a function within it
                return False
            replaced += 1
    return replaced > 0


def run_pytest(files: Sequence[str], plugin: Plugin) -> None:
    """Run pytest over some files, with a plugin that takes its loop over."""
    pytest.main(
        [
            "-qq",
            "--tb=no",
            "-pno:cacheprovider",
            "-ofaulthandler_timeout=0",
            "-otmp_path_retention_policy=none",
            "-mnot slow",
            f"--rootdir={ROOT}",
            f"--basetemp={SCRATCH}",
            *files,
        ],
        plugins=[plugin],
    )


def main(arguments: Sequence[str]) -> None:
    """Run in one of three modes."""
    mode, *files = arguments
    if mode == "map":
        tracer = Tracer(json.loads(os.environ["MUTATION_FILES"]))
        tracer.start()
        run_pytest(files, MapPlugin(tracer))
    elif mode == "serve":
        run_pytest(files, ServePlugin())
    else:
        import_each(files)


if __name__ == "__main__":
    ANSWERS: Final = int(os.environ["MUTATION_ANSWERS"])
    REQUESTS: Final = os.fdopen(int(os.environ["MUTATION_REQUESTS"]), buffering=1)
    # Programs that tests start must not hold the channel open.
    os.set_inheritable(ANSWERS, False)
    main(sys.argv[1:])
