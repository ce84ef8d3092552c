"""What people are told of answers: names and values of theirs, and nothing broken at 80 columns."""

from __future__ import annotations

import re
import sys
from typing import Any

import msgspec
import pytest

from tests.framework.wallets import cheap_wallet
from unchained.node.cli import confirm, facts, main, meaning
from unchained.node.cli.asker import Asker
from unchained.node.cli.facts import (
    contract_facts,
    labelled,
    miner_facts,
    print_facts,
    wallet_facts,
)
from unchained.node.consensus.params import REG
from unchained.node.rpc.core.values import Amount, Hash, encode
from unchained.node.rpc.methods.miner import Harvested, MachineState, MinerSettings, MiningStatus
from unchained.node.rpc.methods.wallet_shapes import (
    ContractInfo,
    UnsignedTransfer,
    WalletEntry,
    WalletProgress,
)
from unchained.node.wallet.contracts import Contract, hash_time_lock, multisig
from unchained.node.wallet.records import ScanProgress, WatchedContract
from unchained.node.wallet.summary import Summary, SummaryOutput, fingerprint_of

WALLET = WalletEntry.of(
    "shop", cheap_wallet(unlocked=False).info(), ScanProgress(8, 8, None, None), ""
)
RAW_NAME = re.compile(r"[a-z]_[a-z]|[a-z]\.[a-z]")
"""How members are called in answers, and not by people."""


def plain(value: object) -> Any:
    return msgspec.to_builtins(value, enc_hook=encode)


def told(rows: facts.Facts) -> dict[str, str]:
    found = dict(rows)
    for name, value in found.items():
        assert RAW_NAME.search(name) is None, name
        assert value not in ("", "-", "None"), name
    return found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ({"open": False, "locked": None, "watch_only": None, "has_passphrase": None}, "closed"),
        ({"locked": True, "watch_only": True, "has_passphrase": False}, "watch-only"),
        ({"locked": True, "has_passphrase": False}, "no passphrase"),
        ({"locked": True, "has_passphrase": True}, "locked"),
        ({"locked": False, "has_passphrase": True}, "unlocked"),
        ({"locked": False, "has_passphrase": False}, "unlocked"),
    ],
)
def test_what_it_takes_to_spend_is_told_alike_of_one_wallet_and_of_all(
    members: dict[str, bool | None],
    state: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wallet = plain(WALLET) | members
    assert state in told(wallet_facts(wallet))["state"]
    monkeypatch.setattr(Asker, "call", lambda *_, **__: [wallet])
    assert main.run(["wallet", "list"]) == 0
    assert capsys.readouterr().out == f"wallet\tstate\theight\tfailure\nshop\t{state}\t8\t\n"
    # programs are told what the node says
    assert main.run(["wallet", "list", "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == [wallet]


def test_what_a_wallet_is() -> None:
    assert told(wallet_facts(plain(WALLET))) == {
        "wallet": "shop",
        "state": "open, locked",
        "passphrase": "yes",
        "accounts": "1 (number 0)",
        "has read": "all up to height 8",
    }
    lost = WalletEntry.of("shop", cheap_wallet().info(), ScanProgress(8, 8, None, None), "no disk")
    assert told(wallet_facts(plain(lost))) == {
        "wallet": "shop",
        "state": "open, unlocked",
        "passphrase": "yes",
        "accounts": "1 (number 0)",
        "has read": "up to height 8",
        "attention": "it does not follow the chain: no disk",
    }
    closed = WalletEntry.of("shop", None, None, "")
    assert "`wallet open -w shop`" in told(wallet_facts(plain(closed)))["state"]
    other = plain(WALLET) | {
        "watch_only": True,
        "found_accounts": [3],
        "birth_height": 1_000,
        "progress": plain(WalletProgress.of(ScanProgress(2_000, 9_000, 5, 7))),
        "failure": "no space",
    }
    shown = told(wallet_facts(other))
    assert "watch-only" in shown["state"]
    assert shown["found in the chain"] == "1 (number 3)"
    assert shown["no coins below"] == "height 1,000"
    assert shown["has read"] == "up to height 2,000 of 9,000"
    assert shown["reads again"] == "from height 5 on, is at 7"
    assert "no space" in shown["attention"]
    bare = plain(WALLET) | {"has_passphrase": False, "has_bip39_passphrase": True}
    assert "BIP 39" in told(wallet_facts(bare))["its words"]


def contract_state(contract: Contract, preimage: bytes | None = None) -> Any:
    info = plain(ContractInfo.of(WatchedContract(contract, (), preimage, "the boat", True)))
    names = ("confirmed", "frozen", "immature", "leaving", "pending", "total")
    return {
        "contract": info,
        "status": "holds nothing",
        "balance": dict.fromkeys(names, "0.00000000") | {"pending": "1.00000000"},
        "own_keys": ["ab" * 32],
    }


def test_what_a_contract_is() -> None:
    a, b = cheap_wallet(), cheap_wallet("b")
    shared = multisig(REG, 2, [a.address(), b.address()])
    shown = told(contract_facts(contract_state(shared)))
    assert (shown["name"], shown["kind"]) == ("the boat", "m-of-n: 2 of 2 keys spend")
    assert shown["pay it to"] == shared.to_text()
    assert (shown["confirmed"], shown["pending"]) == ("0.00000000 UNC", "1.00000000 UNC")
    assert {"leaving", "warning"}.isdisjoint(shown)
    restored = contract_state(shared)
    restored["contract"]["confirmed"] = False
    shown = told(contract_facts(restored))
    assert shown["name"] == "the boat"
    assert f"wallet label contract {shown['lock'][:12]} TEXT" in shown["warning"]
    made = hash_time_lock(REG, a.address(), b.address(), 5_000)
    shown = told(contract_facts(contract_state(made.contract)))
    assert (shown["kind"], shown["refund from"]) == ("hash-time-lock", "height 5,000")


MINING = MiningStatus(
    *("paused", ["by hand"], 9, "native", [], 1.0, 2.0, 3.0, 4_000, 5, 1, 1),
    Harvested(3, 1, 0, 1, 0, Amount(5)),
    *(Hash(bytes(32)), "8191", 60_000),
    MinerSettings(2, True, 10, [0, 1], 50, True, True, 20, 300),
    MachineState(0.1, 61.0, None, None),
    None,
)


def test_what_the_miner_does() -> None:
    shown = told(miner_facts(plain(MINING)))
    assert shown["miner"] == "paused (by hand)"
    waits = plain(MINING) | {"status": "waiting", "pauses": [], "waits_for": "no peer"}
    assert told(miner_facts(waits))["miner"] == "waiting (no peer)"
    assert shown["of these"] == "4 on the chain, 1 waiting, 0 lost"
    assert shown["earned"] == "0.00000005 UNC with fees"
    assert shown["pauses when"] == (
        "on battery, others use more than 20 percent, somebody typed in the last 300 s"
    )
    assert (shown["on CPUs"], shown["CPU for each"]) == ("0, 1", "50 percent")
    off = plain(MINING) | dict.fromkeys(("harvest", "settings", "machine", "backend"))
    shown = told(miner_facts(off | {"status": "off", "pauses": [], "expected_ms": None}))
    assert shown == {"miner": "off", "hashes for a coin": "8,191 on average"}


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_facts_and_a_program_members(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_facts(plain(WALLET), wallet_facts)
    assert "state       open, locked" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    print_facts(plain(WALLET), wallet_facts)
    assert "progress.caught_up yes\n" in capsys.readouterr().out


def test_what_is_copied_stands_in_one_piece() -> None:
    assert labelled("lock", "ab" * 4, 80) == ["lock abababab"]
    assert labelled(" " * 26 + "lock", "ab" * 32, 80) == [" " * 26 + "lock", "ab" * 32]


@pytest.mark.usefixtures("terminal")
def test_what_is_asked_about_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = cheap_wallet(), cheap_wallet("b")
    shared = multisig(REG, 2, [a.address(), b.address()])
    payees = (a.address(), a.paycode(), f"lock:{'ab' * 32}", shared.to_text())
    paid = [
        {"payee": payee, "amount": "92233720368.54775807", "alias": alias, "memo": memo}
        for payee in payees
        for alias, memo in ((None, ""), ("x" * 40, "rent"))
    ]
    step = {"payees": paid, "fee": "1.00000000", "joins": 3, "warning": None}
    confirm.print_plan([step], err=True)
    shown = capsys.readouterr().err
    assert max(map(len, shown.splitlines())) <= 80
    for payee in payees:
        assert confirm.shortened(payee) in shown
    terms = f"2 of 2 keys: {'ab' * 32}, {'cd' * 32}"
    own = SummaryOutput(5, b"\1" * 32, True, "", "", "", b"", "", False, "")
    stranger = SummaryOutput(5, b"\2" * 32, False, "", "", "", b"", "", False, "")
    change = SummaryOutput(5, bytes(shared.lock), False, "", "", terms, b"", "", True, "the boat")
    bare = msgspec.structs.replace(change, contract="")
    known = msgspec.structs.replace(change, returns=False)
    named = SummaryOutput(
        *(5, b"\3" * 32, False, a.paycode(), fingerprint_of(a.paycode()), "", b"rent", "Al"),
        *(False, ""),
    )
    summary = Summary(9, 1, 7, (own, stranger, change, bare, known, named), (), (), 2)
    meaning.print_meaning(plain(UnsignedTransfer.of(b"", summary)))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for line in (
        "0.00000005 UNC back to this wallet",
        "0.00000005 UNC back to the contract the boat",
        "0.00000005 UNC back to the contract",
        "0.00000005 UNC to the contract the boat",
        "02" * 32,
        "a lock: the file does not show whose",
        "called Al here",
        "memo rent",
    ):
        assert line in lines


def test_unlocking_says_for_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Node:
        def call(self, method: str, *_: object, **__: object) -> Any:
            opened = plain(WALLET) | {"has_passphrase": False}
            return opened | {"locked": False} if method == "wallet.unlock" else opened

    monkeypatch.setattr(Asker, "_connected", lambda _: Node())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main.run(["wallet", "unlock", "--seconds", "90"]) == 0
    assert "in 1 min 30 s, or by `wallet lock`" in capsys.readouterr().out
