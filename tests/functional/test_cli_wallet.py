"""A person's wallet, from the mnemonic to the last coin, by the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.framework.processes import NodeHome, clean_environment, node_home, node_program
from tests.framework.wallet_shell import PASSPHRASE, Person


@pytest.fixture(scope="module")
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    with node_home(request) as home:
        made = Person(home)
        node = made.start()
        yield made
        assert made.json("stop") == {"stopped": True}
        assert node.wait() == 0
        seen = (home.data_dir() / "node.log").read_text() + node.tail()
        assert PASSPHRASE not in seen


def funded(person: Person, wallet: str) -> str:
    """Make a wallet that has money, whichever tests came before; return an address of it."""
    person.json("wallet", "create", "-w", wallet)
    address: str = person.json("wallet", "address", "-w", wallet)["text"]
    person.mine(3, "--address", address)
    return address


def test_a_wallet_from_the_first_coin_to_the_last(person: Person) -> None:
    words = person.json("wallet", "create")["mnemonic"]
    assert len(words.split()) == 24
    assert person.run("wallet", "mnemonic").stdout == f"{words}\n"
    person.mine(3, "--coins", "2")
    assert person.json("wallet", "balance")["total"] == "9.00000000"

    # a payment to oneself; the wallet is locked again after it
    paycode = person.json("wallet", "paycode", "--amount", "2.5", "--memo", "rent")
    sent = person.json("wallet", "send", paycode["uri"])
    assert sent["status"] == "waiting"
    assert person.json("wallet", "info")["locked"]
    assert "bump" in person.fails("wallet", "abandon", sent["txid"])
    address = person.json("wallet", "address")["text"]
    planned = person.json("wallet", "send", address, "0.5", "--dry-run")
    assert (planned["status"], planned["txid"]) == ("planned", None)
    assert [paid["payee"] for paid in planned["payees"]] == [address]
    listed = person.home.path / "payments.csv"
    listed.write_text(f"# payroll\n{address},0.25\n{paycode['text']},0.125,bonus\n")
    asked = ("wallet", "send", address, "0.5", "--payees", str(listed), "--request-id", "may")
    several = person.json(*asked)
    paid = [payee["amount"] for payee in several["payees"]]
    assert paid == ["0.25000000", "0.12500000", "0.50000000"]
    assert person.json(*asked)["txid"] == several["txid"]
    other = person.fails("wallet", "send", address, "0.6", "--request-id", "may")
    assert "other parameters" in other
    done = person.run("wallet", "send", address, "1", address)
    assert (done.returncode, "after each payee" in done.stderr) == (2, True)
    assert "--allow-high-fee" in person.fails("wallet", "send", paycode["uri"], "--fee", "1")
    person.mine(2)
    person.json("wallet", "label", "transfer", sent["txid"], "May's rent")
    assert "May's rent" in person.run("wallet", "history").stdout

    receipt = person.home.path / "receipt"
    person.json("wallet", "receipt", sent["txid"], "-o", str(receipt))
    receipt.write_bytes(receipt.read_bytes()[:-1])
    done = person.home.run("verify-receipt", str(receipt), "--network", "reg")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)

    # a copy that sees everything and spends nothing
    view = person.home.path / "view"
    view.touch(0o600)
    view.write_text(person.run("wallet", "export-watch").stdout)
    person.json("wallet", "import-watch", "watch", "--file", str(view))
    person.caught_up()
    assert person.json("wallet", "balance", "-w", "watch") == person.json("wallet", "balance")
    assert "watch-only" in person.fails("wallet", "unlock", "-w", "watch")

    coin = person.json("wallet", "coins", "--limit", "1")[0]["id"]
    assert person.json("wallet", "freeze", coin) is True
    assert person.json("wallet", "balance")["frozen"] != "0.00000000"
    assert person.json("wallet", "freeze", coin, "--thaw") is False
    address = person.json("wallet", "address")["text"]
    asks = f"unchained:{address}?amount=3&label=all"
    done = person.run("wallet", "sweep", asks, "--dry-run")
    assert (done.returncode, address in done.stdout) == (0, True), done.stderr
    assert "asks for 3 UNC, not max" in done.stderr
    assert len(person.json("wallet", "sweep", f"unchained:{address}")["sent"]) == 1
    person.mine()
    assert len(person.json("wallet", "coins", "-w", "watch")) < 10
    done = person.run("wallet", "send", f"unchained:{address}?amount=1", "2", "--dry-run")
    assert "warning: the payment URI asks for 1 UNC, not 2" in done.stderr


def test_who_bumps_without_a_fee_pays_the_least_that_replaces(person: Person) -> None:
    address = funded(person, "haste")
    sent = person.json("wallet", "send", address, "0.1", "--fee-rate", "4", "-w", "haste")
    again = person.json("wallet", "bump-fee", sent["txid"], "-w", "haste")
    assert again["replaces"] == sent["txid"]
    assert float(sent["fee"]) < float(again["fee"]) < 2 * float(sent["fee"])
    person.mine()
    for command in ("abandon", "bump-fee"):
        said = person.fails("wallet", command, again["txid"], "-w", "haste")
        assert "does not wait any more" in said


def test_what_a_wallet_has_no_key_for_is_not_signed(person: Person) -> None:
    person.json("wallet", "create", "-w", "other")
    address = funded(person, "payer")
    unsigned, signed = (str(person.home.path / name) for name in ("unsigned", "signed"))
    person.json("wallet", "prepare", address, "0.1", "-w", "payer", "-o", unsigned)
    said = person.fails("wallet", "sign", unsigned, "-w", "other", "-o", signed)
    assert "wallet other has nothing to sign with here" in said
    assert not os.path.exists(signed)
    assert person.json("wallet", "sign", unsigned, "-w", "payer", "-o", signed)["missing"] == 0
    assert "is there already" in person.fails(
        "wallet", "sign", unsigned, "-w", "payer", "-o", signed
    )
    assert person.json("wallet", "sign", unsigned, "-w", "payer", "-o", unsigned)["missing"] == 0


def test_who_renames_or_deletes_hears_what_goes_by_the_name(person: Person) -> None:
    if all(entry["wallet"] != "default" for entry in person.json("wallet", "list")):
        person.json("wallet", "create")
    done = person.run("wallet", "rename", "default", "main")
    assert done.returncode == 0, done.stderr
    assert "commands without --wallet mean that name, or mining" in done.stderr
    assert "mined to it goes to main until the node stops" in done.stderr
    done = person.run("wallet", "rename", "main", "default")
    assert "commands without --wallet mean this wallet now" in done.stderr
    assert "no wallet is named 'nope'" in person.fails("wallet", "delete", "nope")


def test_a_wallet_without_a_passphrase_asks_for_none(person: Person) -> None:
    person.json("wallet", "create", "-w", "open", "--no-passphrase")
    assert not person.json("wallet", "unlock", "-w", "open")["locked"]
    done = person.run("wallet", "mnemonic", "-w", "open", env=False)
    assert len(done.stdout.split()) == 24, done.stderr
    person.json("wallet", "close", "-w", "open")
    assert "is closed: open it first" in person.fails("wallet", "balance", "-w", "open")


def test_errors_of_a_wallet_are_one_line(person: Person) -> None:
    assert "no wallet is named 'none'" in person.fails("wallet", "balance", "-w", "none")
    assert "no passphrase: use a terminal" in person.fails("wallet", "create", "-w", "x", env=False)
    person.json("wallet", "create", "-w", "poor")
    address = person.json("wallet", "address", "-w", "poor")["text"]
    assert "0 UNC can be spent" in person.fails("wallet", "send", address, "1", "-w", "poor")
    # Mistakes are reported before anybody is asked for a passphrase.
    for payee, why in ((address, "0 UNC can be spent"), ("nobody", "address book")):
        assert why in person.fails("wallet", "send", payee, "1", "-w", "poor", env=False)
    assert "a payment needs an amount" in person.fails("wallet", "send", address, "-w", "poor")
    # before anybody is asked for words and a passphrase
    assert "is there already" in person.fails("wallet", "create", "-w", "poor", env=False)
    assert "is there already" in person.fails("wallet", "restore", "-w", "poor", env=False)
    assert "--wallet: expected 1 to 64 letters, digits, - or _, got 'a/b'" in person.fails(
        "wallet", "create", "-w", "a/b", env=False
    )
    assert "looks like an address that was cut" in person.fails(
        "wallet", "send", address[:20], "1", "-w", "poor", env=False
    )
    wrong = person.home.path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("guess")
    assert "the passphrase is wrong" in person.fails(
        "wallet", "unlock", "-w", "poor", "--passphrase-file", str(wrong)
    )
    assert "No such file" in person.fails(
        "wallet", "unlock", "-w", "poor", "--passphrase-file", "/none/such"
    )
    words = person.home.path / "words"
    words.touch(0o600)
    words.write_text("abandon " * 24)
    assert "checksum" in person.fails("wallet", "restore", "-w", "y", "--mnemonic-file", str(words))


def test_a_passphrase_comes_by_a_file_descriptor(person: Person) -> None:
    person.json("wallet", "create", "-w", "fd")
    read, write = os.pipe()
    os.write(write, f"{PASSPHRASE}\n".encode())
    os.close(write)
    command = [node_program(), "wallet", "unlock", "-w", "fd", "--passphrase-fd", str(read)]
    done = subprocess.run(
        [*command, *person.where, "--json"],
        env=clean_environment(person.home.path),
        pass_fds=[read],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    os.close(read)
    assert not json.loads(done.stdout)["locked"]
    assert person.json("wallet", "lock", "-w", "fd")["locked"]
    new = person.home.path / "new"
    new.touch(0o600)
    new.write_text("another")
    person.json("wallet", "change-passphrase", "-w", "fd", "--new-passphrase-file", str(new))
    assert "the passphrase is wrong" in person.fails("wallet", "mnemonic", "-w", "fd")
    assert person.json("wallet", "add-account", "-w", "fd", "--passphrase-file", str(new)) == 1


def test_a_wallet_is_opened_again_with_the_node(home: NodeHome) -> None:
    person = Person(home)
    node = person.start()
    person.mine(2)
    mined = person.json("wallet", "balance", "-w", "mining")
    assert mined["total"] == "2.00000000", "there is no other wallet yet"
    assert not person.json("wallet", "info", "-w", "mining")["has_passphrase"]
    person.json("wallet", "create")
    person.mine(2)
    assert person.json("wallet", "balance", "-w", "mining")["total"] == mined["total"]
    before = person.json("wallet", "balance")
    assert node.stop() == 0
    node = person.start()
    person.caught_up()
    assert person.json("wallet", "balance") == before
    assert person.json("wallet", "close")["open"] is False
    assert person.json("wallet", "list")[0]["wallet"] == "default"
    assert person.json("wallet", "open")["locked"]
    assert person.json("wallet", "rescan", "--height", "1")["open"]
    assert person.json("wallet", "rescan", "--cancel")["open"]
    assert node.stop() == 0
