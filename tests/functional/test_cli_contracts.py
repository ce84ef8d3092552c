"""Contracts by the command line: one person who is all parties, with a wallet for each."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.framework.processes import node_home
from tests.framework.wallet_shell import Person


@pytest.fixture(scope="module")
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    with node_home(request) as home:
        made = Person(home)
        node = made.start()
        for name in ("default", "b", "c"):
            made.json("wallet", "create", "-w", name)
        made.mine(4)
        yield made
        made.json("stop")
        assert node.wait() == 0


def address(person: Person, wallet: str) -> str:
    text: str = person.json("wallet", "address", "-w", wallet)["text"]
    return text


def test_a_multisig_is_spent_by_files_that_merge(person: Person) -> None:
    parties = [address(person, name) for name in ("default", "b", "c")]
    made = person.json("wallet", "multisig", "create", "2", *parties, "--label", "box")
    for name in ("b", "c"):
        person.json("wallet", "contract", "add", made["text"], "-w", name)
    lock = made["lock"]
    state = person.json("wallet", "contract", "info", lock, "-w", "b")
    assert (state["status"], state["payee"]) == ("nothing has been paid to it yet", f"lock:{lock}")
    person.json("wallet", "send", state["contract"]["text"], "1")
    person.mine(1)
    state = person.json("wallet", "contract", "info", lock, "-w", "b")
    assert state["balance"]["confirmed"] == "1.00000000"
    assert state["status"].endswith("2 of 3 keys spend it, this wallet has 1")
    folder = person.home.path
    unsigned = str(folder / "spend")
    person.json(
        "wallet", "multisig", "prepare", lock, parties[0], "0.25", "-w", "b", "-o", unsigned
    )
    described = person.run("wallet", "describe", unsigned).stdout
    assert "0.74" in described.partition("UNC  back to the contract box")[0], described
    for name in ("b", "c"):
        done = person.json("wallet", "sign", unsigned, "-w", name, "-o", str(folder / name))
        assert done["missing"] == 1
    files = [str(folder / name) for name in ("c", "b")]
    whole = person.json("wallet", "merge", *files, "-o", str(folder / "whole"))
    assert (whole["missing"], len(whole["signed_by"])) == (0, 2)
    sent = person.json("wallet", "broadcast", str(folder / "whole"), "-w", "b")
    person.mine(1)
    entries = person.json("wallet", "contract", "history", lock, "-w", "c")
    assert entries[0]["id"] == sent["txid"]
    assert [entry["sent"] for entry in entries] == ["1.00000000", "0.00000000"]
    assert "party to no contract" in person.fails("wallet", "contract", "info", "00" * 32)


def test_a_contract_that_was_paid_before_is_read_for(person: Person) -> None:
    parties = [address(person, name) for name in ("default", "c")]
    made = person.json("wallet", "multisig", "create", "2", *parties)
    person.json("wallet", "send", made["text"], "0.125")
    person.mine(1)
    person.json("wallet", "contract", "add", made["text"], "-w", "c")
    person.caught_up()
    state = person.json("wallet", "contract", "info", made["lock"], "-w", "c")
    assert state["status"] == "holds 0.125 UNC: 2 of 2 keys spend it, this wallet has 1"
    # told of it again, with a label, the wallet reads nothing again
    person.json("wallet", "contract", "add", made["text"], "-w", "c", "--label", "late")
    assert person.json("wallet", "info", "-w", "c")["progress"]["rescan_next"] is None


def test_a_claim_near_the_refund_warns(person: Person) -> None:
    height = person.client().call("chain.tip")["height"] + 6
    made = person.json(
        "wallet", "htlc", "create", address(person, "b"), address(person, "default"), str(height)
    )
    person.json("wallet", "contract", "add", made["text"], "-w", "b")
    person.json("wallet", "send", made["text"], "0.5")
    person.mine(1)
    state = person.json("wallet", "contract", "info", made["lock"], "-w", "b")
    assert "this wallet can claim it with the preimage" in state["status"]
    planned = person.json(
        *("wallet", "htlc", "claim", made["lock"], "-w", "b", "--preimage", made["preimage"]),
        "--dry-run",
    )
    assert planned["status"] == "planned"
    assert Decimal(planned["to_wallet"]) + Decimal(planned["fee"]) == Decimal("0.5")
    claimed = person.run(
        "wallet", "htlc", "claim", made["lock"], "-w", "b", "--preimage", made["preimage"]
    )
    assert claimed.returncode == 0, claimed.stderr
    assert "warning: the refund is possible 4 anchors from now" in claimed.stderr
    person.mine(1)
    state = person.json("wallet", "contract", "info", made["lock"])
    assert ": claimed by " in state["status"]
