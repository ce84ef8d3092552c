"""A node that is given few descriptors, or little memory: it works, or says in one line what it
lacks, and loses nothing either way."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess

from tests.framework.torture.kills import Survival
from tests.framework.torture.report import PartReport
from tests.framework.torture.world import PATIENCE_S, one_line, world
from unchained.node.rpc.client.client import ClientError, Endpoint
from unchained.node.rpc.core.errors import RpcError

DESCRIPTORS = (64, 16, 80, 63, 72, 96)
MEMORY_MIB = (1_024, 400, 1_200, 1_023, 1_100, 2_000)
CASES = [
    case
    for descriptors, memory in zip(DESCRIPTORS, MEMORY_MIB, strict=True)
    for case in (("descriptors", descriptors), ("MiB of memory", memory))
]
"""What there is of which resource: addresses, as RLIMIT_AS counts them, for memory."""
STAYS_S = 6.0
CONNECTIONS = 64
WORDS = (
    "open files",
    "may open",
    "descriptor",
    "memory",
    "Memory",
    "thread",
    "allocate",
    "shared object",
)


class LimitPart(Survival):
    """One node under one limit after the other."""

    def run(self, times: int) -> None:
        """Take each limit in turn."""

        def happen(number: int) -> str:
            what, much = CASES[(number - 1) % len(CASES)]
            name = f"{number}: {much} {what}"
            wrong = self.world.stop(self.world.victim)
            if wrong is not None:
                self.fail(name, wrong)
            self._limit(name, what, much)
            return name

        self.rounds(times, happen)

    def _limit(self, name: str, what: str, much: int) -> None:
        victim = self.world.victim
        limit = f"--nofile={much}" if what == "descriptors" else f"--as={much << 20}"
        victim.wrapped = lambda command: ["prlimit", limit, "--", *command]
        try:
            victim.start(wait=False)
        finally:
            victim.wrapped = list
        load = None
        try:
            victim.process.wait_event("node.started", timeout_s=30)
            self.report.counts[f"{what}: started"] += 1
            with contextlib.suppress(ClientError, RpcError):
                self.world.unlock()
            load = self.load()
            load.begin()
            with contextlib.ExitStack() as held, contextlib.suppress(OSError, ClientError):
                endpoint = Endpoint.of(victim.data_dir)
                for _ in range(CONNECTIONS):
                    end = held.enter_context(socket.socket(socket.AF_UNIX))
                    end.settimeout(1)
                    end.connect(str(endpoint.socket))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    victim.process.wait(STAYS_S)
        except AssertionError:
            self.report.counts[f"{what}: did not start"] += 1
            self.report.facts[f"least {what} to start with: more than"] = much
        if load is not None:
            load.end()
        code = victim.process.stop(timeout_s=PATIENCE_S)
        text = "\n".join(victim.process.errors)
        if code == 0 and not text:
            return
        self.report.counts[f"{what}: ended with one line"] += 1
        wrong = one_line(text)
        if wrong is None and not any(word in text for word in WORDS):
            wrong = f"does not speak of what it lacks: {text}"
        if wrong is not None:
            self.fail(name, f"exit code {code}: {wrong}")


def run_limits(report: PartReport, times: int) -> None:
    """Take a node's descriptors or memory away so many times."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > max(DESCRIPTORS)
    with world(report.seed) as it:
        LimitPart(it, report).run(times)
