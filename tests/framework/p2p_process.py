"""Other processes, driven from a test: our own nodes and nodes of stock libp2p."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30


class Process:
    """A process that answers numbered JSON commands, and sends events."""

    def __init__(self, module: str, process: trio.Process, errors: Any) -> None:
        self.module = module
        self.process = process
        self.events: list[list[Any]] = []
        self.addresses: list[str] = []
        self.ended = trio.Event()
        self.listening = False
        self._errors = errors
        self._answers: dict[int, list[Any]] = {}
        self._news = trio.Event()
        self._number = 0
        self._sending = trio.Lock()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def id(self) -> str:
        return self.address.rpartition("/")[2]

    def stderr(self) -> str:
        self._errors.seek(0)
        return str(self._errors.read())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def send(self, name: str, *args: Any) -> int:
        """Have something done there, without waiting for its answer."""
        self._number += 1
        number = self._number
        assert self.process.stdin is not None
        async with self._sending:
            await self.process.stdin.send_all(json.dumps([number, name, *args]).encode() + b"\n")
        return number

    async def outcome(self, name: str, *args: Any) -> list[Any]:
        """Do something there; the answer is a kind ("ok" or an error) and a value."""
        number = await self.send(name, *args)
        await self.until(lambda: number in self._answers)
        return self._answers.pop(number)

    async def ok(self, name: str, *args: Any) -> Any:
        kind, value = await self.outcome(name, *args)
        assert kind == "ok", f"{name}: {kind}: {value}"
        return value

    async def until(self, condition: Callable[[], Any], patience: float = PATIENCE_S) -> Any:
        """Wait for news until a condition holds."""
        with trio.move_on_after(patience):
            while not (found := condition()):
                assert not self.ended.is_set(), f"it ended: {self.stderr()}"
                await self._news.wait()
            return found
        raise AssertionError(f"in vain: {self.events[-20:]}\n{self.stderr()[-3000:]}")

    async def event(self, *start: Any, patience: float = PATIENCE_S) -> list[Any]:
        """Wait for an event that begins so."""

        def find() -> list[Any] | None:
            return next((e for e in self.events if e[: len(start)] == list(start)), None)

        return list(await self.until(find, patience))

    async def state(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Ask for its state until a condition holds."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                state: dict[str, Any] = await self.ok("state")
                if condition(state):
                    return state
                await trio.sleep(0.05)
        raise AssertionError(f"in vain: {state}\n{self.stderr()[-3000:]}")

    async def read(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                value = json.loads(line)
                if value[0] == "listening":
                    self.addresses, self.listening = value[1], True
                elif isinstance(value[0], int):
                    self._answers[value[0]] = value[1:]
                else:
                    self.events.append(value)
            self._stir()
        self.ended.set()
        self._stir()

    def _stir(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


@asynccontextmanager
async def started(module: str, *args: str) -> AsyncIterator[Process]:
    """Run a module of the test framework as a process, without waiting for anything."""
    with tempfile.TemporaryFile("w+") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", f"tests.framework.{module}", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
        )
        other = Process(module, process, errors)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.read)
            try:
                yield other
            finally:
                if process.returncode is None:
                    process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                    assert process.stdin is not None
                    await process.stdin.aclose()
                nursery.cancel_scope.cancel()
        assert process.stdout is not None
        await process.stdout.aclose()


@asynccontextmanager
async def node(
    seed: int, *listen: str, module: str = "p2p_node", takes_any: bool = False
) -> AsyncIterator[Process]:
    """Run a node that listens, on 127.0.0.1 unless asked otherwise, and takes classical links as
    well if asked so."""
    places = listen or ("/ip4/127.0.0.1/tcp/0",)
    options = ("--any",) if takes_any else ()
    async with started(module, str(seed), *options, *places) as process:
        await process.until(lambda: process.listening)
        yield process
