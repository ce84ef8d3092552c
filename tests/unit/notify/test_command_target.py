"""Commands that are run for notices: real processes, with all that may go wrong with them."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.framework.wallet_node import CapturedLog
from unchained.node.notify.command_target import (
    BadCommandError,
    CommandTarget,
    arguments_for,
)
from unchained.node.notify.notice import Notice

NOTICE = Notice("reg", "wallet", "shop", 7, "transfer.included", "ab" * 32, 12, {})
pytestmark = pytest.mark.real_time


@asynccontextmanager
async def running(
    *arguments: str, most: int = 2, seconds: float = 60
) -> AsyncIterator[CommandTarget]:
    target = CommandTarget(arguments, most=most, seconds=seconds, log=CapturedLog().logger())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(target.run)
        yield target
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - of other processes
            await trio.sleep(0.01)


def test_placeholders_are_filled_in_but_for_the_program() -> None:
    given = ["/bin/%s", "%e:%w", "%h", "%n%%", "plain"]
    filled = arguments_for(given, NOTICE)
    assert filled == ["/bin/%s", "transfer.included:shop", "12", "7%", "plain"]
    with pytest.raises(BadCommandError, match=r"notify\.command: %x is no placeholder"):
        CommandTarget(["a", "%x"], most=1, seconds=1, log=CapturedLog().logger())


async def test_runs_without_a_shell_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNCHAINED_WALLET_PASSPHRASE_FILE", "/secret")
    monkeypatch.setenv("MY_TOKEN", "secret")
    out = tmp_path / "out"
    script = (
        "import os, sys, pathlib; "
        f"pathlib.Path({str(out)!r}).write_text(repr((sys.argv[1:], sorted(os.environ), "
        "sys.stdin.read())))"
    )
    async with running(sys.executable, "-c", script, "%s", "$HOME; echo") as target:
        assert await target.deliver(NOTICE)
        await until(lambda: target.statistics().started and not target.statistics().running)
    arguments, names, given = eval(out.read_text())
    assert arguments == ["ab" * 32, "$HOME; echo"]
    assert given == ""
    assert set(names) <= {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
    }


async def test_so_many_at_a_time_and_killed_at_the_deadline_with_their_children(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! >> {pids}; wait"
    async with running("/bin/sh", "-c", script, most=2, seconds=1) as target:
        await target.deliver(NOTICE)
        await target.deliver(NOTICE)
        await until(lambda: target.statistics().running == 2)
        with trio.move_on_after(0.1) as waiting:
            await target.deliver(NOTICE)
            await target.deliver(NOTICE)
        assert waiting.cancelled_caught
        assert target.statistics().running == 2
        await until(lambda: target.statistics().killed >= 2)
    for pid in map(int, pids.read_text().split()):
        await until(lambda pid=pid: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def test_stopping_kills_what_runs(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    async with running("/bin/sh", "-c", f"echo $$ > {pids}; exec sleep 600") as target:
        await target.deliver(NOTICE)
        await until(lambda: pids.exists() and pids.read_text().strip())
    assert not is_running(int(pids.read_text()))
    assert os.getpid() != int(pids.read_text())


async def test_what_fails_or_is_not_there_is_counted() -> None:
    async with running("/none/such") as target:
        await target.deliver(NOTICE)
        await until(lambda: target.statistics().missing == 1)
    async with running("/bin/false") as target:
        await target.deliver(NOTICE)
        await until(lambda: target.statistics().failed == 1)
