"""What all tests share: how async tests run, and the fixtures that `example_test.py` shows."""

from __future__ import annotations

import functools
import inspect
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

from tests.framework.async_tests import SEED, run_real, run_virtual
from tests.framework.processes import NodeHome, NodeProcess, node_home

if TYPE_CHECKING:
    from tests.framework.simulation.simnet import SimNet


# no test depends on how fast the machine is
settings.register_profile("unchained", deadline=None)
settings.load_profile("unchained")


def pytest_configure() -> None:
    """Let programs that tests start be interrupted, and hung up on.

    A shell starts background jobs with SIGINT ignored, and `nohup` all with SIGHUP, which every
    child inherits: they would do nothing there. A handler, unlike that, ends with the program that
    has it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _ignore)


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing about a signal."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test: in virtual time, or in real time where it is marked `real_time`.

    A fixture that gives an async context manager is entered around the test, which gets what it
    yields.
    """
    test = pyfuncitem.obj
    property_test = getattr(test, "hypothesis", None)
    body = test if property_test is None else property_test.inner_test
    if not inspect.iscoroutinefunction(body):
        return None
    run: Callable[[Callable[[], Awaitable[None]]], None]
    if pyfuncitem.get_closest_marker("real_time"):
        run = run_real
    else:
        marker = pyfuncitem.get_closest_marker("seed")
        run = functools.partial(run_virtual, seed=marker.args[0] if marker else SEED)

    @functools.wraps(body)
    def run_body(*arguments: object, **named: object) -> None:
        async def main() -> None:
            async with AsyncExitStack() as stack:
                for name, value in named.items():
                    if isinstance(value, AbstractAsyncContextManager):
                        named[name] = await stack.enter_async_context(value)
                await body(*arguments, **named)

        run(main)

    if property_test is not None:
        # Hypothesis calls it once for each example.
        property_test.inner_test = run_body
        return None
    names = inspect.signature(body).parameters
    run_body(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


SAID: Final = "said"
"""Property of a test: a line for whoever runs it."""


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Take a line that is shown when all tests have run, also of a test that has passed."""
    return lambda line: record_property(SAID, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have said."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, line in report.user_properties:
                if name == SAID:
                    terminalreporter.write_line(str(line))


@pytest.fixture
def world() -> AbstractAsyncContextManager[SimNet]:
    """A network of whole nodes in memory, in virtual time; see `tests/framework/simulation`."""
    from tests.framework.simulation.simnet import simulate  # the whole node: not for every test

    return simulate(SEED)


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[NodeHome]:
    """A home for real processes: they end with the test, and their files stay if it fails."""
    with node_home(request) as made:
        yield made


@pytest.fixture
def node_process(home: NodeHome) -> NodeProcess:
    """A node that runs on a network of its own and mines nothing."""
    process = home.start("--network", "reg", "--no-mine")
    process.wait_event("node.started")
    return process
