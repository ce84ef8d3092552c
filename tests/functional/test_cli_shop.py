"""A shop and its customer by the command line alone: invoices, notices, history and exports."""

from __future__ import annotations

import base64
import csv
import io
import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.framework.processes import clean_environment, node_home, node_program
from tests.framework.terminal import on_terminal
from tests.framework.wallet_shell import Person, wait_until
from unchained.node.base.terminal_text import json_line


class Receiver:
    """Listens for what a node sends to a URL, and answers each with 204."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/hook"
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += connection.recv(65_536)
                head, _, body = received.partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(65_536)
                self.heads.append(head.decode().lower())
                self.bodies.append(json.loads(body))
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

    def events(self, subject: str) -> list[str]:
        return [one["event"] for one in self.bodies if one["event"].startswith(subject)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def person(request: pytest.FixtureRequest, receiver: Receiver) -> Iterator[Person]:
    with node_home(request) as home:
        made = Person(home)
        script = home.path / "notify.py"
        script.write_text(
            "import os, sys\n"
            f"with open({str(home.path / 'told')!r}, 'a') as file:\n"
            "    secrets = [name for name in os.environ if 'UNCHAINED' in name]\n"
            "    print(*sys.argv[1:], len(secrets), file=file)\n"
        )
        directory = home.data_dir()
        directory.mkdir(parents=True, exist_ok=True)
        command = json_line([sys.executable, str(script), "%e", "%w", "%s"])
        (directory / "config.toml").write_text(
            f"[notify]\ncommand = {command}\nurl = {json_line(receiver.url)}\n"
            f"secret_file = {json_line(str(home.path / 'hook-secret'))}\n"
        )
        node = made.start()
        yield made
        assert made.json("stop") == {"stopped": True}
        assert node.wait() == 0
        secret = (home.path / "hook-secret").read_text().strip()
        assert secret not in (directory / "node.log").read_text() + node.tail()


def test_a_shop_and_its_customer(person: Person, receiver: Receiver) -> None:
    person.json("wallet", "create")
    person.json("wallet", "create", "-w", "shop")
    person.mine(4, "--coins", "2")

    # what is sold, and how it is paid
    invoice = person.json("wallet", "invoice", "1.5", "-w", "shop", "--label", "three loaves")
    assert (invoice["status"], invoice["amount"]) == ("open", "1.50000000")
    shown = person.run("wallet", "invoice", "0.5", "-w", "shop", "--confirmations", "1")
    assert shown.stdout.startswith("unchained:")
    other = shown.stderr.rpartition("invoice ")[2].strip()
    sent = person.json("wallet", "send", invoice["uri"])
    pending = person.json("wallet", "get-invoice", invoice["id"], "-w", "shop")["pending"]
    assert pending == "1.50000000"
    person.mine(2)
    paid = person.json("wallet", "get-invoice", invoice["id"], "-w", "shop")
    assert (paid["status"], paid["received"], paid["anchors"]) == ("paid", "1.50000000", 2)
    assert [one["txid"] for one in paid["payments"]] == [sent["txid"]]
    assert "is paid" in person.fails("wallet", "cancel-invoice", invoice["id"], "-w", "shop")
    assert person.json("wallet", "cancel-invoice", other, "-w", "shop")["status"] == "cancelled"
    table = person.run("wallet", "invoices", "-w", "shop").stdout
    assert "three loaves" in table
    only = person.json("wallet", "invoices", "-w", "shop", "--status", "cancelled")
    assert [one["id"] for one in only] == [other]

    # URL and command were told, signed and without the node's environment
    told = person.home.path / "told"
    wait_until(lambda: "invoice.cancelled" in receiver.events("invoice"), "the URL is told")
    assert "invoice.paid" in receiver.events("invoice")
    assert {"transfer.waiting", "transfer.included"} <= set(receiver.events("transfer"))
    assert len(receiver.events("anchor")) == 6
    assert all("webhook-signature: v1," in head for head in receiver.heads)
    wait_until(lambda: "invoice.cancelled" in told.read_text(), "the command is run")
    lines = [line.split() for line in told.read_text().splitlines()]
    assert ["invoice.paid", "shop", invoice["id"], "0"] in lines

    # the history, for people and for programs
    transfer = person.json("wallet", "transfer", sent["txid"])
    assert transfer["entry"]["amount"] == f"-{1.5 + float(sent['fee']):.8f}"
    assert transfer["anchors"] == 2
    human = person.run("wallet", "history").stdout
    assert "1970" not in human
    assert "null" not in human
    assert "12 coins" in human or "18 coins" in human or "coins, heights" in human
    assert len(human.splitlines()) == 3  # a title, the payment, a day of mining
    whole = person.run("wallet", "history", "--all", "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(whole)))
    each = person.json("wallet", "history", "--all")
    assert [row["id"] for row in rows] == [one["id"] for one in each]
    assert len(rows) > 10
    found = sum(round(float(row["amount"]) * 10**8) for row in rows if row["status"] == "included")
    total = person.json("wallet", "balance")["total"]
    assert found == round(float(total) * 10**8)
    part = person.json("wallet", "history-since", "0", "--limit", "1")
    assert part["more"]
    rest = person.json("wallet", "history-since", str(part["next"]))
    assert not rest["more"]
    bad = person.run("wallet", "history", "--since", "yesterday")
    assert (bad.returncode, "is no time" in bad.stderr) == (2, True)


def test_events_of_a_wallet_over_http(person: Person) -> None:
    person.json("wallet", "create", "-w", "shop")
    made = [person.json("wallet", "invoice", "1", "-w", "shop")["id"] for _ in range(2)]
    url = (person.home.data_dir() / "rpc.url").read_text()
    host, _, port = url.removeprefix("http://").partition(":")
    cookie = (person.home.data_dir() / "rpc.cookie").read_text()

    def stream(path: str, *headers: str, until: bytes) -> bytes:
        credentials = base64.b64encode(cookie.encode()).decode()
        lines = [f"GET {path} HTTP/1.1", f"host: {host}:{port}", *headers]
        lines += [f"authorization: Basic {credentials}", "", ""]
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall("\r\n".join(lines).encode())
            received = b""
            while until not in received:
                more = connection.recv(65_536)
                assert more, received
                received += more
        return received

    first = stream("/events?wallet=shop&since=0", until=made[1].encode())
    assert b"id: 1\nevent: invoice.open\n" in first
    again = stream("/events?wallet=shop", "last-event-id: 1", until=made[1].encode())
    assert b"id: 2\n" in again
    assert b"id: 1\n" not in again
    assert b"410" in stream("/events?wallet=shop&since=99", until=b"EVENTS_GONE")
    assert b"404" in stream("/events?wallet=none", until=b"NO_SUCH_WALLET")
    assert b"400" in stream("/events?wallet=shop&who=me", until=b"who")
    with person.client().events(1, wallet="shop") as entries:
        event = next(entries)
        assert (event.sequence, event.kind) == (2, "invoice.open")
    token = (person.home.data_dir() / "rpc.token").read_text()
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"GET /events?wallet=shop HTTP/1.1\r\nhost: {host}:{port}\r\n"
            f"authorization: Bearer {token}\r\n\r\n".encode()
        )
        assert b" 401 " in connection.recv(65_536)


def test_sending_as_people_do(person: Person) -> None:
    person.json("wallet", "create")
    person.mine(4, "--coins", "2")
    address = person.json("wallet", "address", "-w", "default")["text"]
    lines: Path = person.home.path / "payees.json"
    lines.write_text(json.dumps([{"payee": address, "amount": "0.25", "memo": ""}]))
    done = person.run("wallet", "send", "--payees", str(lines), "--target", "3", "--wait", "0")
    assert done.returncode == 0, done.stderr
    lines.write_text('[{"payee": "x", "amount": 1}]')
    assert "expected a text, got" in person.fails("wallet", "send", "--payees", str(lines))
    old = person.run("wallet", "send", "--payments", str(lines))
    assert (old.returncode, "--payees" in old.stderr) == (2, True)

    person.mine()
    before = person.json("wallet", "balance")
    for command in (["sweep", address], ["consolidate"], ["send", address, "max"]):
        planned = person.json("wallet", *command, "--dry-run")
        assert {step["status"] for step in planned["sent"]} == {"planned"}
    assert person.json("wallet", "balance") == before
    coin = person.json("wallet", "coins", "--limit", "1")[0]
    sent = person.json("wallet", "send", address, "max", "--coin", coin["id"])["sent"]
    (step,) = sent
    assert float(step["payees"][0]["amount"]) + float(step["fee"]) == float(coin["amount"])
    borne = person.json("wallet", "send", address, "0.5", "--subtract-fee")
    assert float(borne["payees"][0]["amount"]) + float(borne["fee"]) == pytest.approx(0.5)
    results: list[Any] = []

    def send_and_wait() -> None:
        results.append(person.run("wallet", "send", address, "0.125", "--wait", "2", "--json"))

    waited = threading.Thread(target=send_and_wait)
    waited.start()
    wait_until(lambda: len(person.client().call("mempool.list")) == 3, "the payment waits")
    for _ in range(4):
        person.mine()
    waited.join(60)
    assert results[0].returncode == 0, results[0].stderr
    assert json.loads(results[0].stdout)["confirmations"] >= 2
    assert "of 2 confirmations" in results[0].stderr


def test_a_person_is_shown_and_asked(person: Person) -> None:
    person.json("wallet", "create")
    person.mine(3, "--coins", "2")
    address = person.json("wallet", "address")["text"]

    def at_terminal(answer: str, *arguments: str) -> tuple[int, str]:
        command = [node_program(), *arguments, *person.where]
        with on_terminal(command, clean_environment(person.home.path) | person.env) as program:
            program.wait_text(r"\[y/N\]")
            program.type(f"{answer}\n")
            return program.wait(), program.text

    coins = len(person.json("wallet", "coins"))
    for command in (["sweep", address], ["consolidate"]):
        code, seen = at_terminal("n", "wallet", *command)
        assert (code, "not sent" in seen, "UNC  fee" in seen) == (1, True, True)
    assert len(person.json("wallet", "coins")) == coins
    code, seen = at_terminal("y", "wallet", "consolidate")
    assert code == 0, seen
    (waiting,) = person.json("mempool", "list")
    code, seen = at_terminal("y", "wallet", "bump-fee", waiting["txid"], "--fee-rate", "9")
    assert code == 0, seen
    assert [one["txid"] for one in person.json("mempool", "list")] != [waiting["txid"]]
