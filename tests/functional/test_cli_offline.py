"""A machine without a node, a chain or a network: keys are made and transfers signed there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.framework.processes import NodeHome, clean_environment, node_home, node_program
from tests.framework.terminal import on_terminal
from tests.framework.wallet_shell import PASSPHRASE, Person, wait_until


class OfflineMachine:
    """A directory of its own, a passphrase in a file, and no node."""

    def __init__(self, home: NodeHome, name: str) -> None:
        self.directory = home.path / name
        self.directory.mkdir()
        self._home = home
        self._secret = self.directory / "passphrase"
        self._secret.touch(0o600)
        self._secret.write_text(PASSPHRASE)
        self.data = self.directory / "data"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = ("--network", "reg", "--data-dir", str(self.data))
        program = [node_program()]
        if os.geteuid() == 0:
            # not even loopback
            program = ["unshare", "--net", node_program()]
        return subprocess.run(
            [*program, *arguments, *where],
            env=clean_environment(self.directory)
            | {"UNCHAINED_WALLET_PASSPHRASE_FILE": str(self._secret)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command and return what it says: JSON and nothing else on stdout."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1
        return json.loads(done.stdout)

    def fails(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        return done.stderr


@pytest.fixture(scope="module")
def online(request: pytest.FixtureRequest) -> Iterator[Person]:
    with node_home(request) as home:
        made = Person(home, "online")
        node = made.start()
        yield made
        made.json("stop")
        assert node.wait() == 0


def test_from_the_keys_to_the_payment(online: Person) -> None:
    offline = OfflineMachine(online.home, "offline")
    words = offline.json("wallet", "create")["mnemonic"]
    assert len(words.split()) == 24
    assert stat.S_IMODE((offline.data / "wallets/default.wallet").stat().st_mode) == 0o600
    assert offline.json("wallet", "info")["locked"]
    address = offline.json("wallet", "address")["text"]

    # online: a copy that sees everything and spends nothing
    view = online.home.path / "view"
    view.touch(0o600)
    view.write_text(offline.json("wallet", "export-watch"))
    online.json("wallet", "import-watch", "cold", "--file", str(view))
    assert online.json("wallet", "address", "-w", "cold")["text"] == address
    online.json("mine", "generate", "2", "--address", address)
    online.caught_up()
    online.json("wallet", "create", "-w", "shop")
    payee = online.json("wallet", "paycode", "-w", "shop")["text"]
    unsigned, signed = online.home.path / "unsigned", online.home.path / "signed"
    prepared = online.json(
        "wallet", "prepare", payee, "0.75", "--memo", "rent", "-w", "cold", "-o", str(unsigned)
    )

    # offline: what it means, and the signature
    meaning = offline.json("wallet", "describe", str(unsigned))
    assert meaning["outputs"] == prepared["outputs"]
    (paid,) = [output for output in meaning["outputs"] if not output["own"]]
    assert (paid["payee"], paid["amount"], paid["memo"]) == (payee, "0.75000000", "rent")
    assert len(meaning["can_sign"]) == 1
    done = offline.json("wallet", "sign", str(unsigned), "-o", str(signed))
    assert done["signed_by"] == meaning["can_sign"]
    assert offline.json("wallet", "info")["locked"]

    # online: out it goes
    sent = online.json("wallet", "broadcast", str(signed), "-w", "cold")
    assert sent["status"] == "waiting"
    online.mine(1)
    assert online.json("wallet", "balance", "-w", "shop")["confirmed"] == "0.75000000"


def test_a_person_is_asked_beside_the_json(online: Person) -> None:
    """With --json standard output is JSON and nothing else, also where a terminal asks."""
    offline = OfflineMachine(online.home, "asked")
    offline.json("wallet", "create")
    view = online.home.path / "asked-view"
    view.touch(0o600)
    view.write_text(offline.json("wallet", "export-watch"))
    online.json("wallet", "import-watch", "asked", "--file", str(view))
    address = offline.json("wallet", "address")["text"]
    online.json("mine", "generate", "2", "--address", address)
    online.caught_up()
    unsigned, signed = online.home.path / "ask-unsigned", online.home.path / "ask-signed"
    online.json("wallet", "prepare", address, "0.5", "-w", "asked", "-o", str(unsigned))
    out = online.home.path / "stdout"
    where = ["--network", "reg", "--data-dir", str(offline.data), "--json"]
    command = [node_program(), "wallet", "sign", str(unsigned), "-o", str(signed), *where]
    env = clean_environment(offline.directory)
    with out.open("wb") as stdout, on_terminal(command, env, stdout=stdout) as program:
        program.wait_text(r"0\.50000000 UNC")
        program.wait_text(r"Sign it\? \[y/N\]:")
        program.type("y\n")
        program.wait_text("Passphrase:")
        # what is typed before that is thrown away
        wait_until(lambda: program.quiet, "the passphrase is read")
        program.type(f"{PASSPHRASE}\n")
        assert program.wait() == 0
    said = out.read_text()
    assert said.startswith("{")
    assert said.count("\n") == 1
    assert json.loads(said)["missing"] == 0
    assert signed.exists()


def test_from_the_words_to_the_same_keys(online: Person) -> None:
    first, second = OfflineMachine(online.home, "first"), OfflineMachine(online.home, "second")
    words = second.directory / "words"
    words.touch(0o600)
    words.write_text(first.json("wallet", "create")["mnemonic"])
    restored = second.json("wallet", "restore", "--mnemonic-file", str(words))
    assert (restored["locked"], restored["progress"]) == (True, None)
    assert second.json("wallet", "paycode") == first.json("wallet", "paycode")
    file = online.home.path / "said"
    second.json("wallet", "sign-message", "still me", "-o", str(file))
    done = online.home.run("verify-message", str(file), "--network", "reg", "--json")
    assert json.loads(done.stdout)["address"] == first.json("wallet", "address")["text"]


def test_what_takes_a_node_says_so(online: Person) -> None:
    offline = OfflineMachine(online.home, "third")
    assert "no node of network reg is running" in offline.fails("wallet", "balance")
    assert "no wallet is named 'none'" in offline.fails("wallet", "address", "-w", "none")
    offline.json("wallet", "create")
    assert "is there already" in offline.fails("wallet", "create")
    words = offline.directory / "words"
    words.touch(0o600)
    words.write_text(offline.run("wallet", "mnemonic").stdout)
    assert "leave --birth-height out" in offline.fails(
        "wallet", "restore", "-w", "x", "--birth-height", "5", "--mnemonic-file", str(words)
    )
