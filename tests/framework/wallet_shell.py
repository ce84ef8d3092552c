"""A person at a shell: a node on reg, its wallets by the command line, and a passphrase in a file.

What the commands and the node's log say is kept, and so are the command lines of every process
that was seen, to be searched for secrets.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess
from unchained.node.rpc.client.client import Client, Endpoint

PASSPHRASE = "correct horse battery staple"


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Return once something holds that no event announces."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.05)


class Person:
    """Somebody at a shell with a node on reg, and a file with the passphrase."""

    def __init__(self, home: NodeHome, name: str = "node") -> None:
        self.home = home
        self.name = name
        self.where = ("--network", "reg", "--data-dir", str(home.data_dir(name)))
        self.file = home.path / "passphrase"
        self.file.touch(0o600)
        self.file.write_text(PASSPHRASE + "\n")
        self.env = {"UNCHAINED_WALLET_PASSPHRASE_FILE": str(self.file)}
        self.heard: list[str] = []
        """All that commands have printed, but for mnemonics that were asked for."""
        self.node: NodeProcess | None = None

    def start(self, *arguments: str) -> NodeProcess:
        """Start the node, and return once it answers."""
        self.node = self.home.start("--network", "reg", *arguments, name=self.name)
        self.node.wait_event("node.started")
        return self.node

    def client(self) -> Client:
        """Return a client of the node, for waiting."""
        return Client(Endpoint.of(self.home.data_dir(self.name)))

    def run(self, *arguments: str, env: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = self.home.run(*arguments, *self.where, env=self.env if env else None)
        self.heard.append(done.stderr)
        if arguments[:2] not in (("wallet", "create"), ("wallet", "mnemonic")):
            self.heard.append(done.stdout)
        return done

    def json(self, *arguments: str) -> Any:
        """Run a command and return what it says as JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fails(self, *arguments: str, env: bool = True) -> str:
        """Run a command that fails, and return its one line."""
        done = self.run(*arguments, env=env)
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def mine(self, count: int = 1, *arguments: str) -> None:
        """Mine anchors, and return once the node's wallets know of them."""
        self.json("mine", "generate", str(count), *arguments)
        self.caught_up()

    def caught_up(self) -> None:
        """Return once the node's open wallets have followed its chain."""
        client = self.client()
        height = client.call("chain.tip")["height"]

        def holds() -> bool:
            found = [one["progress"] for one in client.call("wallet.list") if one["open"]]
            return all(one and one["caught_up"] and one["height"] >= height for one in found)

        wait_until(holds, f"the wallets of {self.name} know of height {height}")

    def shown(self) -> str:
        """Return everything that this person and the node's log were shown."""
        log = self.home.data_dir(self.name) / "node.log"
        tail = "" if self.node is None else self.node.tail()
        return "\n".join([*self.heard, log.read_text() if log.exists() else "", tail])


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect the command lines of all processes below this one while the block runs."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
