"""The miner's panel on a real terminal: keys, lost workers, and a terminal that is given back."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil
import pytest

from tests.framework.processes import LUCK_S, NodeHome, clean_environment, node_home, node_program
from tests.framework.terminal import ENTERS, LEAVES, TerminalProgram, on_terminal

MINES = ["start", "--network", "local", "--no-rpc", "--workers", "2"]


@contextmanager
def panel(
    *flags: str, program: Sequence[str] = (), rows: int = 40
) -> Iterator[tuple[TerminalProgram, NodeHome]]:
    with node_home() as home:
        env = clean_environment(home.path) | {"TERM": "xterm-256color"}
        command = [*(program or [node_program()]), *MINES, *flags]
        with on_terminal(command, env, rows) as terminal:
            yield terminal, home


def patched(code: str) -> Sequence[str]:
    """The program with something in it replaced beforehand."""
    main = "import sys; sys.argv[0] = 'unchained-node'\n"
    main += "from unchained.node.cli.main import main; main()"
    return [sys.executable, "-W", "error", "-c", f"{code}\n{main}"]


def wait_mining(terminal: TerminalProgram) -> None:
    terminal.wait_raw(ENTERS)
    terminal.wait_text(r"0 +mining[^\n]*\r?\n1 +mining")


def worker_pids(terminal: TerminalProgram) -> list[int]:
    return [
        child.pid
        for child in psutil.Process(terminal.pid).children()
        if "unchained.miner.worker" in child.cmdline()
    ]


def test_keys_pause_resume_change_workers_and_quit() -> None:
    with panel() as (terminal, home):
        wait_mining(terminal)
        assert terminal.quiet
        assert not terminal.restored
        terminal.wait_text(r"p pause   r resume   \+ - workers   q quit")
        terminal.wait_text(r"node\.started")
        at = terminal.type("p")
        terminal.wait_text(r"PAUSED: by hand", at)
        terminal.wait_text(r"0 +paused[^\n]*\r?\n1 +paused", at)
        # An arrow key means nothing, nor do letters that stand for nothing.
        terminal.type("\x1b[Axyz\x1bOP\x1b[15~")
        at = terminal.type("r")
        terminal.wait_text(r"0 +mining[^\n]*\r?\n1 +mining", at)
        at = terminal.type("+")
        terminal.wait_text(r"0 +mining[^\n]*\r?\n1 +mining[^\n]*\r?\n2 +mining", at)
        assert len(worker_pids(terminal)) == 3
        at = terminal.type("--")
        terminal.wait_text(r"\n0 +mining[^\n]*\r?\nrate", at)
        # One worker always stays.
        at = terminal.type("-")
        terminal.wait_text(r"\n0 +mining[^\n]*\r?\nrate", at)
        at = terminal.type("q")
        assert terminal.wait() == 0
        assert terminal.restored
        # Outside the panel the log goes on where it was.
        after = terminal.raw[terminal.raw.rindex(LEAVES) :]
        assert "q pressed" in after
        assert "node.stopped" in after
        assert (home.path / ".unchained/local/node.log").stat().st_size > 0


def test_coins_are_shown_with_what_became_of_them() -> None:
    with panel() as (terminal, _):
        wait_mining(terminal)
        for pattern in (
            r"coins +[1-9]\d* found   [1-9]\d* included",
            r"anchors +[1-9]\d* found   [1-9][\d.]* UNC",
            r"luck +[\d.]+ expected +\d+%",
        ):
            terminal.wait_text(pattern, patience_s=LUCK_S)


def test_a_worker_killed_while_mining_is_shown_and_replaced() -> None:
    with panel() as (terminal, _):
        wait_mining(terminal)
        before = set(worker_pids(terminal))
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        at = len(terminal.raw)
        terminal.wait_text(r"backing-off[^\n]*1 +the worker ended: killed by SIGKILL", at)
        terminal.wait_text(r"mining[^\n]*1 +the worker ended: killed by SIGKILL", at)
        assert len(set(worker_pids(terminal)) - before) == 1
        assert not terminal.restored
        terminal.type("q")
        assert terminal.wait() == 0
        assert terminal.restored


@pytest.mark.parametrize(
    "end",
    [
        lambda terminal: terminal.type("\x03"),
        lambda terminal: terminal.send(signal.SIGTERM),
        lambda terminal: terminal.send(signal.SIGHUP),
    ],
    ids=["ctrl-c", "SIGTERM", "SIGHUP"],
)
def test_every_signal_gives_the_terminal_back(end: Callable[[TerminalProgram], object]) -> None:
    with panel() as (terminal, _):
        wait_mining(terminal)
        end(terminal)
        assert terminal.wait() == 0
        assert terminal.restored


def test_a_crash_of_the_node_gives_the_terminal_back() -> None:
    program = patched(
        "import unchained.node.app as app, signal, trio\n"
        "async def crash(self, *, task_status):\n"
        "    with trio.open_signal_receiver(signal.SIGUSR1) as signals:\n"
        "        task_status.started()\n"
        "        await anext(signals)\n"
        "        raise RuntimeError('a bug')\n"
        "app.Node._hold_store = crash\n"
    )
    with panel(program=program) as (terminal, _):
        wait_mining(terminal)
        terminal.send(signal.SIGUSR1)
        assert terminal.wait() == 1
        assert terminal.restored
        after = terminal.text[-2000:]
        assert re.search(r"internal error in store: RuntimeError: a bug", after)


def test_a_crash_of_the_panel_leaves_a_node_that_logs() -> None:
    program = patched(
        "from unchained.node.cli import panel\n"
        "def fail(*_, **__): raise RuntimeError('cannot draw')\n"
        "panel._figures = fail\n"
    )
    with panel(program=program) as (terminal, _):
        terminal.wait_text(r"service\.failed[^\n]* service=panel|error=RuntimeError: cannot draw")
        terminal.wait_text(r"coin\.found", patience_s=LUCK_S)
        assert terminal.restored
        terminal.send(signal.SIGTERM)
        assert terminal.wait() == 0
        assert terminal.restored


def test_a_node_that_does_not_stop_gives_the_terminal_back_when_it_is_ended() -> None:
    program = patched(
        "from unchained.node.base import services\n"
        "services.SAME_SIGNAL_S = 0.0\n"
        "import unchained.node.mining.mined_coins as mined, trio\n"
        "async def stay(self, *, task_status):\n"
        "    task_status.started()\n"
        "    with trio.CancelScope(shield=True):\n"
        "        await trio.sleep_forever()\n"
        "mined.MinedCoins.run = stay\n"
        "from unchained.node.cli import screen\n"
        "screen.Screen.leave, leave = lambda self: None, screen.Screen.leave\n"
        "screen.Screen.close = leave\n"
    )
    with panel(program=program) as (terminal, home):
        wait_mining(terminal)
        log = home.path / ".unchained/local/node.log"
        terminal.send(signal.SIGTERM)
        while "node.stopping" not in log.read_text():
            os.sched_yield()
        terminal.send(signal.SIGTERM)
        assert terminal.wait() == 1
        assert terminal.restored


@pytest.mark.parametrize("flag", ["--no-panel", "--json", "--no-mine"])
def test_without_the_panel_there_are_log_lines(flag: str) -> None:
    with panel(flag) as (terminal, _):
        terminal.wait_text(r"node\.started")
        terminal.send(signal.SIGTERM)
        assert terminal.wait() == 0
        assert ENTERS not in terminal.raw
        assert terminal.restored


def test_a_terminal_that_is_too_small_gets_log_lines() -> None:
    with panel(rows=8) as (terminal, _):
        terminal.wait_text(r"coin\.found", patience_s=LUCK_S)
        terminal.send(signal.SIGTERM)
        assert terminal.wait() == 0
        assert ENTERS not in terminal.raw
