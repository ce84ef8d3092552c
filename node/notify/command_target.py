"""Runs a command of the operator's for every notice: without a shell, a few at a time, for so long
and no longer, and with nothing of the node's environment that could be a secret."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.notify.notice import Notice, TargetStatistics

PLACEHOLDERS: Final = {
    "s": "the id of what it is about: a txid, a coin, an anchor, an invoice",
    "e": "the event's name",
    "w": "the wallet; empty for what is of the chain",
    "h": "the height; empty where there is none",
    "n": "the sequence number",
    "%": "a percent sign",
}
"""What a command's arguments may hold after a %."""

KEPT_VARIABLES: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Of the node's environment, what a command gets."""

_PLACEHOLDER: Final = re.compile(r"%(.?)", re.DOTALL)


class BadCommandError(Exception):
    """A command that cannot be run; the message is one line."""


class CommandStatistics(TargetStatistics, frozen=True):
    """Commands so far: started, ended with another code than 0, killed, not started."""

    running: int
    started: int
    failed: int
    killed: int
    missing: int


class CommandTarget:
    """Runs the command; `run` has to run for that. `arguments` begin with the program; `most` run
    at a time, each for `seconds` at most. Raises `BadCommandError` for an unknown placeholder."""

    name = "command"

    def __init__(
        self, arguments: Sequence[str], *, most: int, seconds: float, log: FilteringBoundLogger
    ) -> None:
        for argument in arguments[1:]:
            for letter in _PLACEHOLDER.findall(argument):
                if letter not in PLACEHOLDERS:
                    raise BadCommandError(
                        f"notify.command: %{letter} is no placeholder: expected "
                        + ", ".join(f"%{known}" for known in PLACEHOLDERS)
                    )
        self._arguments = tuple(arguments)
        self._seconds = seconds
        self._log = log
        self._places = trio.CapacityLimiter(most)
        self._send, self._take = trio.open_memory_channel[Notice](0)
        self._started = self._failed = self._killed = self._missing = 0

    async def run(self) -> None:
        """Run commands until cancelled; those that still run are killed then."""
        async with trio.open_nursery() as nursery:
            async for notice in self._take:
                # a place of its own until it has ended
                borrower = object()
                await self._places.acquire_on_behalf_of(borrower)
                nursery.start_soon(self._run_one, notice, borrower)

    async def deliver(self, notice: Notice) -> bool:
        """Have the command started, as soon as there is a place for it."""
        await self._send.send(notice)
        return True

    def statistics(self) -> CommandStatistics:
        """Return a snapshot."""
        return CommandStatistics(
            self._places.borrowed_tokens, self._started, self._failed, self._killed, self._missing
        )

    async def _run_one(self, notice: Notice, borrower: object) -> None:
        try:
            await self._execute(arguments_for(self._arguments, notice), notice)
        finally:
            self._places.release_on_behalf_of(borrower)

    async def _execute(self, arguments: list[str], notice: Notice) -> None:
        try:
            process = await trio.lowlevel.open_process(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            self._missing += 1
            self._log.warning("notify.command_missing", why=error.strerror or str(error))
            return
        self._started += 1
        try:
            with trio.move_on_after(self._seconds):
                await process.wait()
        finally:
            was_killed = process.returncode is None
            if was_killed:
                # with all that it has started: the group is its own
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with trio.CancelScope(shield=True):
                    await process.wait()
        if was_killed:
            self._killed += 1
            self._log.warning(
                "notify.command_killed", event_name=notice.event, seconds=self._seconds
            )
        elif process.returncode:
            self._failed += 1
            self._log.warning(
                "notify.command_failed", event_name=notice.event, code=process.returncode
            )


def arguments_for(arguments: Sequence[str], notice: Notice) -> list[str]:
    """Return a command with its placeholders filled in; the program's name is as it is."""
    values = {
        "s": notice.key,
        "e": notice.event,
        "w": notice.wallet,
        "h": "" if notice.height is None else str(notice.height),
        "n": str(notice.sequence),
        "%": "%",
    }
    program, *rest = arguments
    return [program, *(_PLACEHOLDER.sub(lambda found: values[found[1]], part) for part in rest)]
