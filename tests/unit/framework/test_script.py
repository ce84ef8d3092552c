"""Scripts that Ctrl-C ends: one line, 130, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import trio

from tests.framework.benchmarks import run_all
from tests.framework.interrupts import OrderlyInterrupt
from tests.framework.processes import NodeHome, node_home
from tests.framework.simulation.scenario import SCENARIOS
from tests.framework.simulation.simulation import simulate_schedule

ROOT = Path(__file__).parents[3]
LAUNCH = [sys.executable, "-m", "tests.framework.script"]

INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
NOTED = """
import os, signal, sys
assert __name__ == "__main__" and sys.argv[1:] == ["word", "--option"]
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt as error:
    error.add_note("3 simulations held")
    error.add_note("1 failed")
    raise
"""


def run(
    text: str, folder: Path, *words: str, output: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run a module of this text as scripts/simulate would be run."""
    (folder / "a_script.py").write_text(text)
    return subprocess.run(
        [*LAUNCH, "simulate", "a_script", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "code", "errors"),
    [
        (INTERRUPT, 130, "simulate: interrupted\n"),
        (NOTED, 130, "simulate: interrupted: 3 simulations held; 1 failed\n"),
        ("raise SystemExit(3)", 3, ""),
        ("print('done')", 0, ""),
    ],
)
def test_a_script_that_is_interrupted_says_so_in_one_line(
    text: str, code: int, errors: str, tmp_path: Path
) -> None:
    ran = run(text, tmp_path, "word", "--option")
    assert (ran.returncode, ran.stderr) == (code, errors)


@pytest.mark.parametrize(
    "text", ["print('a line\\n' * 100_000)", "print('a line')", "print('a line'); exit(1)"]
)
def test_a_script_whose_reader_has_left_ends_without_a_word(text: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = run(text, tmp_path, output=writer)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_a_connection_that_broke_is_no_reader_that_has_left(tmp_path: Path) -> None:
    ran = run("raise BrokenPipeError('of a connection')", tmp_path)
    assert ran.returncode == 1
    assert "BrokenPipeError: of a connection" in ran.stderr


def test_every_script_that_is_a_module_of_tests_is_run_so_that_it_can_be_interrupted() -> None:
    texts = {path.name: path.read_text(errors="replace") for path in (ROOT / "scripts").iterdir()}
    by_it = {name for name, text in texts.items() if "\nrun_module tests." in text}
    assert by_it >= {"attack", "bench", "fuzz", "mutate", "simulate", "torture", "walks"}
    otherwise = {name for name, text in texts.items() if re.search(r"exec .* -m tests\.", text)}
    assert otherwise == {"environment"}


class Pressing:
    """Presses Ctrl-C as soon as it is told how far a simulation is, in the midst of a task."""

    def __init__(self) -> None:
        self.told = 0

    def show(self, _at_s: float, _of_s: float, _height: int) -> None:
        self.told += 1
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_a_simulation_that_takes_every_exception_for_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.framework.simulation.simulation.os.access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pressing = Pressing()
    with pytest.raises(KeyboardInterrupt):
        simulate_schedule(SCENARIOS["calm"], 1, (), pressing)
    assert pressing.told == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not list(tmp_path.iterdir())


def test_whoever_does_not_stop_is_interrupted_by_the_second_ctrl_c() -> None:
    pressed = []
    scope = trio.CancelScope()

    async def stubborn() -> None:
        interrupt.cancels(scope)
        while True:
            os.kill(os.getpid(), signal.SIGINT)
            pressed.append(scope.cancel_called)

    with pytest.raises(KeyboardInterrupt), OrderlyInterrupt() as interrupt:
        trio.run(stubborn)
    assert pressed == [False]


def test_ctrl_c_before_there_is_anything_to_cancel_is_not_lost() -> None:
    with pytest.raises(KeyboardInterrupt), OrderlyInterrupt():
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_after_the_run_is_not_lost() -> None:
    async def briefly() -> None:
        interrupt.cancels(trio.CancelScope())

    def work() -> None:
        trio.run(briefly)
        os.kill(os.getpid(), signal.SIGINT)
        finished.append(True)

    finished: list[bool] = []
    with pytest.raises(KeyboardInterrupt), OrderlyInterrupt() as interrupt:
        work()
    assert not finished


def test_who_handles_ctrl_c_already_goes_on_to() -> None:
    taken: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: taken.append(number))
    try:
        with OrderlyInterrupt():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert taken == [signal.SIGINT]


@pytest.mark.parametrize(
    ("ends", "stays"),
    [(KeyboardInterrupt(), False), (SystemExit(143), False), (AssertionError("not so"), True)],
)
def test_the_files_of_nodes_stay_where_something_failed_and_not_where_somebody_ended_it(
    ends: BaseException, stays: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    homes: list[NodeHome] = []

    def work() -> None:
        with node_home() as home:
            homes.append(home)
            home.start("-c", "import time; time.sleep(3600)", program=[sys.executable])
            raise ends

    with pytest.raises(type(ends)):
        work()
    (home,) = homes
    assert not home.processes[0].running
    assert home.path.exists() == stays


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("leads_a_group", [True, False])
def test_a_process_that_is_begun_when_somebody_ends_it_all_is_ended_too(
    number: int, leads_a_group: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Slow(subprocess.Popen[str]):
        """Runs already, and is known to nobody yet; a forked one may lead no group yet."""

        def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
            super().__init__(
                command,
                env=dict(env),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=leads_a_group,
            )
            os.kill(os.getpid(), number)

    def end(*_: object) -> NoReturn:
        raise SystemExit(143)

    def work() -> None:
        with node_home() as home:
            homes.append(home)
            home.start("-c", "import time; time.sleep(3600)", program=[sys.executable], run=Slow)

    homes: list[NodeHome] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    (home,) = homes
    assert [process.running for process in home.processes] == [False]
    assert not home.path.exists()


def test_the_process_that_forks_nodes_is_out_of_reach_of_a_terminals_ctrl_c() -> None:
    look = "import tests.framework.torture.preload, os; print(os.getsid(0) == os.getpid())"
    ran = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "True\n"


def test_benchmarks_say_in_which_they_were_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> list[dict[str, object]]:
        raise KeyboardInterrupt

    benches = [("hash", list[dict[str, object]]), ("open", interrupted), ("rpc", interrupted)]
    with pytest.raises(KeyboardInterrupt) as caught:
        run_all(benches, sys.stderr)
    assert caught.value.__notes__ == ["in open; 1 of 3 were through"]
    assert capsys.readouterr().err == ""
