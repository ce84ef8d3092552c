"""`unchained-node dev`: a private chain that is ready at once and does what it is told."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.framework.processes import PATIENCE_S, NodeHome, clean_environment, node_program
from tests.framework.terminal import TerminalProgram, on_terminal


@contextmanager
def dev(home: NodeHome, *flags: str) -> Iterator[TerminalProgram]:
    env = clean_environment(home.path) | {"TERM": "xterm-256color"}
    with on_terminal([node_program(), "dev", *flags], env, 40, 80) as terminal:
        terminal.wait_text(r"ready: http://127\.0\.0\.1:\d+")
        yield terminal
        terminal.type("\x03")
        assert terminal.wait() == 0, terminal.text


class Builder:
    """Somebody who builds on the chain, in another terminal."""

    def __init__(self, home: NodeHome, directory: Path | None = None) -> None:
        self._home = home
        self._env = {
            "UNCHAINED_NODE__NETWORK": "reg",
            "UNCHAINED_NODE__DATA_DIR": str(directory or home.path / ".unchained" / "dev"),
        }

    def run(self, *words: str) -> Any:
        done = self._home.run(*words, "--json", env=self._env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def height(self) -> int:
        height: int = self.run("chain", "tip")["height"]
        return height


def test_wallets_are_funded_and_marked_as_test_wallets(home: NodeHome) -> None:
    with dev(home) as terminal:
        assert "TEST WORDS THAT EVERYBODY KNOWS" in terminal.text
        assert "abandon (x23) art" in terminal.text
        funds = re.findall(r"(?m)^  (default|bob|carol) +([0-9.]+) UNC", terminal.text)
        assert len(funds) == 3
        builder = Builder(home)
        for name, amount in funds:
            assert float(amount) >= 10
            (address,) = re.findall(rf"{name} [^\n]*\r?\n +address +(runc1\S+)", terminal.text)
            assert builder.run("wallet", "address", "-w", name)["text"] == address


def test_anchors_come_for_transfers_and_on_demand(home: NodeHome) -> None:
    with dev(home):
        builder = Builder(home)
        before = builder.height()
        sent = builder.run("wallet", "send", "bob", "1.5")
        # `dev mine` finds its node by itself.
        done = home.run("dev", "mine", "3", "--json")
        assert len(json.loads(done.stdout)["anchors"]) == 3
        assert builder.run("transfer", "get", sent["txid"])["status"] == "included"
        assert builder.height() == before + 4
        old = [builder.run("chain", "anchor", str(before + n))["header"]["id"] for n in (2, 3, 4)]
        done = builder.run("dev", "reorg", "2")
        assert done["height"] == builder.height() == before + 5
        new = [builder.run("chain", "anchor", str(before + n))["header"]["id"] for n in (2, 3, 4)]
        assert new[0] == old[0]
        assert new[1] != old[1] == done["set_aside"]
        deep = home.run("dev", "reorg", "500")
        assert (deep.returncode, "can be undone, 500 asked for" in deep.stderr) == (1, True)


def test_anchors_come_at_an_interval(home: NodeHome) -> None:
    with dev(home, "--interval", "0.1"):
        first = Builder(home).height()
        deadline = time.monotonic() + PATIENCE_S
        while Builder(home).height() < first + 2:
            assert time.monotonic() < deadline


def test_a_state_goes_round_by_a_file(home: NodeHome) -> None:
    file = home.path / "state.zip"
    builder = Builder(home)
    with dev(home, "--on-demand", "--state", str(file)):
        builder.run("dev", "mine", "7")
        tip = builder.run("chain", "tip")["id"]
        balance = builder.run("wallet", "balance")
        builder.run("dev", "save", str(home.path / "other.zip"))
    with dev(home, "--on-demand", "--state", str(file)):
        assert builder.run("chain", "tip")["id"] == tip
        assert builder.run("wallet", "balance") == balance
    with dev(home, "--on-demand"):
        assert builder.run("chain", "tip")["id"] != tip
    with dev(home, "--on-demand", "--state", str(home.path / "other.zip")):
        assert builder.run("chain", "tip")["id"] == tip


def test_a_second_one_in_its_place_is_refused(home: NodeHome) -> None:
    with dev(home):
        done = home.run("dev")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "runs in" in done.stderr
    with dev(home, "--data-dir", str(home.path / "kept")):
        Builder(home, home.path / "kept").run("dev", "mine", "2")
        height = Builder(home, home.path / "kept").height()
    with dev(home, "--data-dir", str(home.path / "kept")):
        assert Builder(home, home.path / "kept").height() == height
