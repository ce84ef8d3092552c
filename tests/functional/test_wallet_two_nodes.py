"""Two people with a node each: money goes from one to the other in every way there is.

All by the command line. In the end a third machine finds every coin from the words alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.framework.processes import node_home
from tests.framework.wallet_shell import PASSPHRASE, Person, command_lines, wait_until

LISTEN = ("--listen", "/ip4/127.0.0.1/tcp/0")


class Pair:
    """Ann and Bob, whose nodes know each other, with an unlocked wallet each."""

    def __init__(self, ann: Person, bob: Person) -> None:
        self.ann = ann
        self.bob = bob
        self.words: dict[str, str] = {}
        for person in (ann, bob):
            person.start(*LISTEN)
            self.words[person.name] = person.json("wallet", "create")["mnemonic"]
            person.json("wallet", "unlock", "--seconds", "3600")
        self.join()

    def join(self) -> None:
        """Connect the nodes."""
        self.bob.json("net", "add-peer", self.ann.client().call("net.info")["addresses"][0])

    def agree(self) -> None:
        """Return once both nodes have one tip and their wallets know of it."""
        ann, bob = self.ann.client(), self.bob.client()
        wait_until(lambda: ann.call("chain.tip")["id"] == bob.call("chain.tip")["id"], "one tip")
        self.ann.caught_up()
        self.bob.caught_up()

    def mine(self, who: Person, *arguments: str) -> None:
        count, *rest = arguments or ("1",)
        who.mine(int(count), *rest)
        self.agree()

    def heard_of(self, who: Person, txid: str) -> None:
        """Return once a node's mempool has a transfer."""
        client = who.client()
        wait_until(
            lambda: txid in {entry["txid"] for entry in client.call("mempool.list")},
            f"{who.name} hears of transfer {txid}",
        )

    def pay(self, to: str, *amount: str) -> dict[str, Any]:
        """Let Ann pay, and return once Bob's node has heard of it."""
        sent: dict[str, Any] = self.ann.json("wallet", "send", to, *amount)
        self.heard_of(self.bob, sent["txid"])
        return sent


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with node_home(request) as home, command_lines() as lines:
        made = Pair(Person(home, "ann"), Person(home, "bob"))
        made.ann.mine(3, "--coins", "2")
        made.agree()
        yield made
        secrets = (PASSPHRASE, *made.words.values())
        shown = [person.shown() for person in (made.ann, made.bob)]
        assert len(lines) > 2
        for secret in secrets:
            assert not any(secret in text for text in shown)
            assert not any(secret in line for line in lines)
        for person in (made.ann, made.bob):
            assert person.node is not None
            assert person.json("stop") == {"stopped": True}
            assert person.node.wait() == 0


def total(person: Person) -> Decimal:
    return Decimal(person.json("wallet", "balance")["total"])


def entry(person: Person, txid: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = person.json("wallet", "history")
    return next(item for item in found if item["id"] == txid)


def test_mining_pays_the_default_wallet_without_being_asked(pair: Pair) -> None:
    assert total(pair.ann) == 9
    assert total(pair.bob) == 0


def test_a_payment_to_a_paycode_arrives_with_growing_confirmations(pair: Pair) -> None:
    uri = pair.bob.json("wallet", "paycode", "--amount", "2.5", "--memo", "rent")["uri"]
    sent = pair.pay(uri)
    wait_until(
        lambda: pair.bob.client().call("wallet.balance")["pending"] == "2.50000000", "it waits"
    )
    assert entry(pair.bob, sent["txid"])["confirmations"] == 0
    votes = []
    for _ in range(3):
        pair.mine(pair.ann, "1", "--coins", "1")
        arrived = entry(pair.bob, sent["txid"])
        votes.append(arrived["confirmations"])
    # the anchor that included it has nothing on top at first; then a coin and an anchor each time
    assert votes == [0, 2, 4]
    assert (arrived["memos"], arrived["received"]) == (["rent"], "2.50000000")

    receipt = pair.bob.home.path / "receipt"
    pair.bob.json("wallet", "receipt", sent["txid"], "-o", str(receipt))
    done = pair.bob.home.run("verify-receipt", str(receipt), "--network", "reg", "--json")
    assert json.loads(done.stdout)["txid"] == sent["txid"]


def test_a_payment_to_an_address_is_replaced(pair: Pair) -> None:
    before = total(pair.bob)
    sent = pair.pay(pair.bob.json("wallet", "address")["text"], "0.25")
    bumped = pair.ann.json("wallet", "bump-fee", sent["txid"], "--fee-rate", "5")
    assert bumped["replaces"] == sent["txid"]
    pair.heard_of(pair.bob, bumped["txid"])
    pair.mine(pair.bob, "1", "--address", pair.ann.json("wallet", "address")["text"])
    assert total(pair.bob) == before + Decimal("0.25")
    assert entry(pair.bob, bumped["txid"])["received"] == "0.25000000"
    assert pair.ann.json("transfer", "get", bumped["txid"])["height"] is not None
    assert sent["txid"] in pair.ann.fails("transfer", "get", sent["txid"])


def test_two_of_two_spend_together(pair: Pair) -> None:
    addresses = [person.json("wallet", "address")["text"] for person in (pair.ann, pair.bob)]
    joint = pair.ann.json("wallet", "multisig", "create", "2", *addresses)
    pair.bob.json("wallet", "contract", "add", joint["text"], "--label", "house")
    pair.pay(joint["text"], "1")
    pair.mine(pair.ann)
    first, second = (pair.ann.home.path / name for name in ("first", "second"))
    pair.bob.json(
        "wallet", "multisig", "prepare", joint["lock"], addresses[1], "0.4", "-o", str(first)
    )
    pair.bob.json("wallet", "sign", str(first), "-o", str(first))
    assert "a signature is missing" in pair.bob.fails("wallet", "broadcast", str(first))
    pair.ann.json("wallet", "sign", str(first), "-o", str(second))
    sent = pair.bob.json("wallet", "broadcast", str(first), str(second))
    pair.heard_of(pair.ann, sent["txid"])
    pair.mine(pair.ann)
    assert entry(pair.bob, sent["txid"])["received"] == "0.40000000"
    (held,) = pair.bob.json("wallet", "contracts")
    assert (held["label"], Decimal(held["amount"])) == (
        "house",
        Decimal("0.6") - Decimal(sent["fee"]),
    )


def test_a_hash_time_lock_is_claimed_and_another_refunded(pair: Pair) -> None:
    ann, bob = (person.json("wallet", "address")["text"] for person in (pair.ann, pair.bob))
    height = pair.ann.json("chain", "tip")["height"]
    swap = pair.ann.json("wallet", "htlc", "create", bob, ann, str(height + 50))
    pair.bob.json("wallet", "contract", "add", swap["text"])
    pair.pay(swap["text"], "0.5")
    pair.mine(pair.ann)
    assert "is not known" in pair.bob.fails("wallet", "htlc", "claim", swap["lock"])
    assert "can be refunded from" in pair.ann.fails("wallet", "htlc", "refund", swap["lock"])
    claimed = pair.bob.json("wallet", "htlc", "claim", swap["lock"], "--preimage", swap["preimage"])
    pair.heard_of(pair.ann, claimed["txid"])
    late = pair.ann.json("wallet", "htlc", "create", bob, ann, str(height + 3))
    pair.pay(late["text"], "0.5")
    pair.mine(pair.ann)
    got = Decimal(entry(pair.bob, claimed["txid"])["received"])
    assert got == Decimal("0.5") - Decimal(claimed["fee"])
    refunded = pair.ann.json("wallet", "htlc", "refund", late["lock"])
    pair.mine(pair.ann)
    assert entry(pair.ann, refunded["txid"])["height"] is not None


def test_a_payment_is_signed_where_there_is_no_node(pair: Pair) -> None:
    """Bob's node keeps a copy of Ann's wallet that sees and does not spend."""
    home = pair.ann.home
    view, unsigned, signed = (home.path / name for name in ("view", "unsigned", "signed"))
    view.touch(0o600)
    view.write_text(pair.ann.run("wallet", "export-watch").stdout)
    pair.bob.json("wallet", "import-watch", "watch", "--file", str(view))
    pair.bob.caught_up()
    assert pair.bob.json("wallet", "balance", "-w", "watch") == pair.ann.json("wallet", "balance")
    to = pair.bob.json("wallet", "address")["text"]
    pair.bob.json("wallet", "prepare", to, "0.125", "-w", "watch", "-o", str(unsigned))

    offline = Person(home, "offline")
    keys = home.data_dir("offline") / "wallets"
    keys.mkdir(parents=True, mode=0o700)
    (keys / "default.wallet").write_bytes(_wallet_file(pair.ann).read_bytes())
    done = offline.run("wallet", "sign", str(unsigned), "-o", str(signed))
    assert done.returncode == 0, done.stderr
    sent = pair.bob.json("wallet", "broadcast", str(signed), "-w", "watch")
    pair.heard_of(pair.ann, sent["txid"])
    pair.mine(pair.ann)
    assert entry(pair.bob, sent["txid"])["received"] == "0.12500000"


def _wallet_file(person: Person) -> Path:
    return person.home.data_dir(person.name) / "wallets" / "default.wallet"


def test_a_reorganisation_undoes_a_payment_and_does_it_again(pair: Pair) -> None:
    before = total(pair.bob)
    bob_id = pair.bob.json("net", "info")["peer"]
    paycode = pair.bob.json("wallet", "paycode")["text"]
    (ban,) = pair.ann.json("net", "ban", bob_id)
    wait_until(lambda: pair.bob.client().call("net.peers") == [], "they part")
    sent = pair.ann.json("wallet", "send", paycode, "0.75")
    pair.ann.mine()
    assert entry(pair.ann, sent["txid"])["height"] is not None
    pair.bob.mine(3, "--coins", "2", "--address", pair.ann.json("wallet", "address")["text"])

    pair.ann.json("net", "unban", ban["address"])
    pair.join()
    pair.agree()
    assert "height" not in entry(pair.ann, sent["txid"])
    assert total(pair.bob) == before
    pair.mine(pair.ann)
    assert entry(pair.ann, sent["txid"])["height"] is not None
    assert entry(pair.bob, sent["txid"])["received"] == "0.75000000"
    assert total(pair.bob) == before + Decimal("0.75")


def test_a_fresh_machine_finds_every_coin_from_the_words_alone(pair: Pair) -> None:
    fresh = Person(pair.ann.home, "fresh")
    for person in (pair.ann, pair.bob):
        pair.mine(person)
    address = pair.ann.client().call("net.info")["addresses"][0]
    node = fresh.start(*LISTEN, "--bootstrap", address)
    words = fresh.home.path / "words"
    words.touch(0o600)
    for person in (pair.ann, pair.bob):
        words.write_text(pair.words[person.name])
        fresh.json("wallet", "restore", "-w", person.name, "--mnemonic-file", str(words))
    tip = pair.ann.json("chain", "tip")["id"]
    wait_until(lambda: fresh.client().call("chain.tip")["id"] == tip, "the fresh node has synced")
    fresh.caught_up()
    for person in (pair.ann, pair.bob):
        balance = person.json("wallet", "balance")
        assert Decimal(balance["total"]) > 0
        assert fresh.json("wallet", "balance", "-w", person.name) == balance
        found, kept = (
            {
                (coin["id"], coin["amount"])
                for coin in who.json("wallet", "coins", *which)
                if coin["origin"] != "contract"
            }
            for who, which in ((fresh, ("-w", person.name)), (person, ()))
        )
        assert found == kept
    assert fresh.json("stop") == {"stopped": True}
    assert node.wait() == 0
    assert not any(secret in fresh.shown() for secret in (PASSPHRASE, *pair.words.values()))
