"""What one shows to others by files, with no node where it is checked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.framework.processes import NodeHome, node_home
from tests.framework.wallet_shell import Person


@pytest.fixture(scope="module")
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    with node_home(request) as home:
        made = Person(home)
        node = made.start()
        made.json("wallet", "create")
        made.mine(4)
        yield made
        made.json("stop")
        assert node.wait() == 0


class Stranger:
    """Somebody without a node and without a wallet."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self._home.run(*map(str, arguments), "--network", "reg")

    def reads(self, *arguments: str | Path) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def is_told_the_network(self, *arguments: str | Path) -> None:
        """See that a file of a private network is not said to hold to whoever means the usual one,
        or another by name."""
        for named, hint in (((), "; `--network reg` if that is meant"), (("test",), "")):
            option = [part for name in named for part in ("--network", name)]
            done = self._home.run(*map(str, arguments), *option)
            assert (done.returncode, done.stdout) == (1, "")
            expected = named[0] if named else "local"
            assert done.stderr.endswith(f" is of the network reg, expected {expected}{hint}\n")

    def declines(self, *arguments: str | Path) -> str:
        done = self.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        return done.stderr


def test_a_receipt_says_whom_it_pays(person: Person) -> None:
    stranger, file = Stranger(person.home), person.home.path / "paid"
    person.json("wallet", "create", "-w", "shop")
    paycode = person.json("wallet", "paycode", "-w", "shop")["text"]
    address = person.json("wallet", "address", "-w", "shop")["text"]
    sent = person.json("wallet", "send", paycode, "1.5", "--memo", "order 7")
    person.mine(2)
    person.json("wallet", "receipt", sent["txid"], "-o", str(file))
    found = stranger.reads("verify-receipt", file, "--to", paycode)
    (payment,) = found["payments"]
    assert payment | {"output": 0} == {
        "payee": paycode,
        "output": 0,
        "amount": "1.50000000",
        "memo": "order 7",
        "found_without_receipt": None,
    }
    assert (found["anchors_on_top"], found["txid"]) == (1, sent["txid"])
    said = stranger.run("verify-receipt", file, "--payee", paycode).stdout
    assert said.startswith("The receipt holds: anchor 5 of reg, 20")
    assert "1 anchor and at least 1 vote on top" in said
    assert "It pays 1.50000000 UNC to " in said
    assert "shows nothing of what came after" in said
    assert "Whether the payee's wallet finds it is not shown" in said
    stranger.is_told_the_network("verify-receipt", file)
    stranger.is_told_the_network("verify-receipt", file, "--payee", paycode)
    assert "does not show that it pays" in stranger.declines(
        "verify-receipt", file, "--payee", address
    )
    nobody = person.home.path / "to nobody"
    person.json("wallet", "receipt", sent["txid"], "-o", str(nobody), "--no-payees")
    assert "does not show" in stranger.declines("verify-receipt", nobody, "--payee", paycode)
    done = stranger.run("verify-receipt", file, "--payee", "nobody")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_message_is_signed_by_an_address(person: Person) -> None:
    stranger, file = Stranger(person.home), person.home.path / "said"
    address = person.json("wallet", "address")["text"]
    signed = person.json("wallet", "sign-message", "I am here", "-o", str(file))
    assert (signed["address"], person.json("wallet", "info")["locked"]) == (address, True)
    found = stranger.reads("verify-message", file, "--signer", address)
    assert (found["address"], found["message"]) == (address, "I am here")
    assert stranger.run("verify-message", file).stdout == (
        f"The signature holds, on the network reg: {address} says\nI am here\n"
    )
    stranger.is_told_the_network("verify-message", file)
    other = person.json("wallet", "address", "-w", "mining")["text"]
    assert f"expected {other}" in stranger.declines("verify-message", file, "--signer", other)
    cut = stranger.run("verify-message", file, "--signer", address[:30])
    assert (cut.returncode, "--signer: no address or paycode" in cut.stderr) == (2, True)
    file.write_bytes(file.read_bytes().replace(b"here", b"gone"))
    assert "altered" in stranger.declines("verify-message", file)


def test_a_reserve_is_proven(person: Person) -> None:
    stranger, file = Stranger(person.home), person.home.path / "reserve"
    person.json("wallet", "prove-reserve", "2", "audit 9", "-o", str(file))
    found = stranger.reads("verify-reserve", file, "--message", "audit 9")
    assert float(found["amount"]) >= 2
    assert found["addresses"] == [person.json("wallet", "address")["text"]]
    said = stranger.run("verify-reserve", file).stdout
    assert said.startswith("The proof holds: after anchor ")
    assert "may have been spent since" in said
    stranger.is_told_the_network("verify-reserve", file)
    assert "answers another message: audit 9" in stranger.declines(
        "verify-reserve", file, "--message", "audit 8"
    )
    assert "expected 1000 UNC" in person.fails(
        "wallet", "prove-reserve", "1000", "x", "-o", str(file.with_name("much"))
    )
