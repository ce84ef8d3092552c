"""A wallet's files and names, and a copy of a running node's store, by the command line."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator

import pytest

from tests.framework.processes import node_home
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


def test_a_payee_has_a_name(person: Person) -> None:
    person.json("wallet", "create", "-w", "shop")
    paycode = person.json("wallet", "paycode", "-w", "shop")
    added = person.json("wallet", "payee", "add", "Shop", paycode["text"], "--label", "bread")
    assert added["fingerprint"] == paycode["fingerprint"]
    planned = person.run("wallet", "send", "shop", "0.5", "--dry-run").stdout
    assert "called Shop here" in planned
    assert f"fingerprint {paycode['fingerprint']}" in planned
    sent = person.json("wallet", "send", "shop", "0.5")
    assert [paid["payee"] for paid in sent["payees"]] == [paycode["text"]]
    (listed,) = person.json("wallet", "payee", "list")
    assert (listed["alias"], listed["label"]) == ("Shop", "bread")
    person.json("wallet", "payee", "remove", "Shop")
    assert "is called 'shop'" in person.fails("wallet", "send", "shop", "0.5")
    person.mine(1)


def test_an_account_has_a_name(person: Person) -> None:
    assert person.json("wallet", "add-account") == 1
    person.json("wallet", "name-account", "1", "savings")
    address = person.json("wallet", "address", "--account", "1")
    assert person.json("wallet", "address", "--account", "savings") == address
    person.json("wallet", "send", address["text"], "0.25")
    person.mine(1)
    found = person.json("wallet", "accounts")
    assert [one["alias"] for one in found] == ["", "savings"]
    assert found[1]["total"] == "0.25000000"
    assert person.json("wallet", "balance", "--account", "savings")["total"] == "0.25000000"
    assert "no account 'none'" in person.fails("wallet", "balance", "--account", "none")


def test_a_wallet_is_backed_up_deleted_and_back(person: Person) -> None:
    if len(person.json("wallet", "accounts")) == 1:
        # run without the test of it, in another process than that
        test_an_account_has_a_name(person)
    file = person.home.path / "backup"
    before = person.json("wallet", "balance")
    person.json("wallet", "backup", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "is there already" in person.fails("wallet", "backup", str(file))
    assert "No such file" in person.fails("wallet", "backup", "/none/such/file")
    person.json("wallet", "rename", "default", "mine")
    assert "--confirm mine" in person.fails("wallet", "delete", "mine")
    assert "takes its name" in person.fails("wallet", "delete", "mine", "--confirm", "other")
    gone = person.json("wallet", "delete", "mine", "--confirm", "mine")
    assert (gone["total"], gone["payees"], gone["labels"]) == (before["total"], 0, 1)
    assert "no wallet is named" in person.fails("wallet", "balance", "-w", "mine")
    # what is wrong besides is told before anybody is asked for the passphrase
    for path, why in (("/none/such", "is no file"), (str(file), "no passphrase: use a terminal")):
        assert why in person.fails("wallet", "restore-backup", path, env=False)
    file.with_name("wrong").touch(0o600)
    wrong = ("--passphrase-file", str(file.with_name("wrong")))
    file.with_name("wrong").write_text("guess")
    assert "is wrong" in person.fails("wallet", "restore-backup", str(file), *wrong)
    person.json("wallet", "restore-backup", str(file))
    person.caught_up()
    assert person.json("wallet", "balance") == before
    assert person.json("wallet", "accounts")[1]["alias"] == "savings"


def test_a_running_node_copies_its_store(person: Person) -> None:
    target = person.home.path / "copy"
    made = person.json("db", "backup", str(target))
    assert made["entries"] > 50
    assert "already exists" in person.fails("db", "backup", str(target))
    tip = person.client().call("chain.tip")["height"]
    # the node goes on, and the copy is a data directory that can be looked at by itself
    person.mine(1)
    done = person.home.run("db", "check", "--network", "reg", "--data-dir", str(target), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sound"]
    assert person.client().call("chain.tip")["height"] == tip + 1
