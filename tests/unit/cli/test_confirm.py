"""Every command that moves money shows a person whom it pays, how much and for what fee, and asks.

Which commands these are is found: those whose code names a method that spends.
"""

from __future__ import annotations

import inspect
import io
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.framework.command_walk import all_commands
from unchained.node.cli import main
from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Registry, Scope
from unchained.node.rpc.methods.rooms import ROOMS

MOVES_NOTHING: Final = {
    "wallet.abandon",
    "wallet.lock",
    "wallet.multisig_prepare",
    "wallet.prepare",
    "wallet.unlock",
}
"""Methods for who may spend by which nothing leaves the wallet, nor can."""

MOVES: Final = {
    *(found.name for found in Registry(*ROOMS).values() if found.scope is Scope.SPEND),
    "transfer.submit",
} - MOVES_NOTHING

LOCK, TXID, AMOUNT, FEE, RATE = "ab" * 32, "cd" * 32, "1.25000000", "0.00001234", 7

CASES: Final = {
    "transfer submit": ("00",),
    "wallet broadcast": ("FILE",),
    "wallet bump-fee": (TXID, "--fee-rate", "3"),
    "wallet consolidate": (),
    "wallet htlc claim": (LOCK,),
    "wallet htlc refund": (LOCK,),
    "wallet send": (f"lock:{LOCK}", "1.25"),
    "wallet sign": ("FILE", "-o", "OUT"),
    "wallet sweep": (f"lock:{LOCK}",),
}
"""The commands that move money, and with what each is called here."""


def test_the_commands_that_move_money_are_these_and_all_ask() -> None:
    found = {}
    for name, command in all_commands():
        run = inspect.unwrap(command.callback)
        # what asks a node is run by a function of the asker's
        code = inspect.getsource(inspect.getclosurevars(run).nonlocals.get("function", run))
        if MOVES & set(re.findall(r'"([a-z]+\.[a-z_]+)"', code)):
            found[name] = {option for it in command.params for option in it.opts}
    assert sorted(found) == sorted(CASES)
    for name, options in found.items():
        assert {"--yes", "-y"} <= options, name


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeNode:
    """Answers as a node whose wallet spends, and keeps what it was asked to do."""

    def __init__(self) -> None:
        self.moved: list[str] = []
        self.moved_with: list[dict[str, Any]] = []
        self.refusals: list[CommandFailedError] = []
        self.rate = RATE
        self.rate_then = RATE
        """What it takes once a transfer was refused."""

    def call(self, method: str, params: Any = (), **_: object) -> Any:
        if method in MOVES and "dry_run" not in params:
            self.moved.append(method)
            self.moved_with.append(dict(params) if isinstance(params, dict) else {})
            if self.refusals:
                self.rate = self.rate_then
                raise self.refusals.pop()
        if method in ("wallet.sweep", "wallet.consolidate"):
            return {"sent": [self._sent(method)], "refused": [], "left": "0.00000000"}
        if method in ("wallet.merge", "wallet.describe", "wallet.sign"):
            return self._unsigned()
        if method == "transfer.decode":
            return {"outputs": [{"amount": AMOUNT, "lock": LOCK}], "fee": FEE}
        if method in ("transfer.submit", "node.version"):
            return {}
        return self._sent(method)

    def _sent(self, method: str) -> dict[str, Any]:
        payee = {"payee": f"lock:{LOCK}", "amount": AMOUNT, "memo": "", "alias": None}
        to_self = method in ("wallet.consolidate", "wallet.htlc_claim", "wallet.htlc_refund")
        return {
            "txid": TXID,
            "fee": FEE,
            "size": 500,
            "status": "waiting",
            "replaces": None,
            "payees": [] if to_self else [payee],
            "joined": [],
            "joins": 0,
            "to_wallet": AMOUNT if to_self else "0.00000000",
            "fee_rate": self.rate,
            "warning": "the refund is near",
        }

    def _unsigned(self) -> dict[str, Any]:
        output = {
            "amount": AMOUNT,
            "lock": LOCK,
            "own": False,
            "payee": f"lock:{LOCK}",
            "fingerprint": None,
            "terms": None,
            "memo": "",
            "alias": None,
            "returns": False,
            "contract": None,
        }
        return {
            "file": "00",
            "spent": AMOUNT,
            "fee": FEE,
            "lock_height": 0,
            "outputs": [output],
            "can_sign": [LOCK],
            "signed_by": [],
            "missing": 0,
        }


def said(
    words: str,
    typed: str,
    *more: str,
    node: FakeNode | None = None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, list[str], str]:
    """Run a command on a terminal where something is typed; return its exit code, what it did, and
    what it said beside its answer."""
    node = node or FakeNode()
    monkeypatch.setattr(Asker, "_connected", lambda _: node)
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    (tmp_path / "FILE").write_bytes(b"\0")
    files = {"FILE": str(tmp_path / "FILE"), "OUT": str(tmp_path / "OUT")}
    arguments = [files.get(word, word) for word in CASES[words]]
    code = main.run([*words.split(), *arguments, *more])
    return code, node.moved, capsys.readouterr().err


@pytest.mark.parametrize("words", sorted(CASES))
@pytest.mark.parametrize("answer", ["n", "y"])
def test_a_person_is_shown_and_asked(
    words: str,
    answer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, moved, err = said(
        words, f"{answer}\n", tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    before, asks, after = err.partition(" it? [y/N]: ")
    assert asks, err
    assert all(shown in before for shown in (AMOUNT, FEE)), before
    if "lock:" in "".join(CASES[words]) or "FILE" in CASES[words]:
        assert f"lock:{LOCK}" in before
    if "htlc" in words:
        assert "to this wallet itself" in before
        assert "warning: the refund is near" in before
    assert (code, len(moved)) == ((0, 1) if answer == "y" else (1, 0))
    assert ("not s" in after) == (answer == "n")


ESTIMATED: Final = sorted(set(CASES) - {"transfer submit", "wallet broadcast", "wallet sign"})
"""The commands whose fee the node works out."""


@pytest.mark.parametrize("words", ESTIMATED)
def test_it_is_sent_for_the_fee_that_was_shown(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = FakeNode()
    code, _, _ = said(
        words, "y\n", node=node, tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    ((sent),) = node.moved_with
    assert (code, sent["fee_max"], sent["fee_rate"]) == (0, FEE, RATE)
    assert "target" not in sent


@pytest.mark.parametrize("words", ESTIMATED)
@pytest.mark.parametrize("answer", ["n", "y"])
def test_who_agreed_to_less_than_it_takes_by_then_is_shown_and_asked_again(
    words: str,
    answer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = FakeNode()
    node.refusals.append(CommandFailedError("more than agreed to", "FEE_ABOVE_MAX"))
    code, moved, err = said(
        words,
        f"y\n{answer}\n",
        node=node,
        tmp_path=tmp_path,
        monkeypatch=monkeypatch,
        capsys=capsys,
    )
    first, again, rest = err.partition("more than agreed to; it would be, by now:")
    assert again
    assert FEE in first
    assert FEE in rest
    assert err.count("Send it? [y/N]") == 2
    assert (code, len(moved)) == ((0, 2) if answer == "y" else (1, 1))


@pytest.mark.parametrize("words", ESTIMATED)
@pytest.mark.parametrize("word", ["FEE_TOO_LOW", "REPLACEMENT_TOO_CHEAP", "BAD_PAYMENT"])
@pytest.mark.parametrize("rate_then", [RATE, RATE + 1])
def test_what_was_agreed_to_and_does_not_do_by_then_is_shown_anew(
    words: str,
    word: str,
    rate_then: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another bid for its coins, or a mempool that asks for more: what that has changed is asked
    about again, and what is refused just as it was shown ends the command."""
    node = FakeNode()
    node.rate_then = rate_then
    node.refusals.append(CommandFailedError("too little by now", word))
    code, moved, err = said(
        words, "y\ny\n", node=node, tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    anew = rate_then != RATE
    assert (code, len(moved)) == ((0, 2) if anew else (1, 1))
    assert err.count("Send it? [y/N]") == len(moved)
    assert ("too little by now; it would be, by now:" in err) == anew
    assert node.moved_with[-1]["fee_rate"] == rate_then


def test_nobody_is_asked_to_sign_what_the_wallet_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = FakeNode()._unsigned() | {"can_sign": [], "missing": 1}
    monkeypatch.setattr(FakeNode, "_unsigned", lambda _: found)
    code, moved, err = said(
        "wallet sign", "y\n", tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    assert (code, moved) == (1, [])
    assert "signed by 0, 1 missing; this wallet cannot sign it" in err
    assert "[y/N]" not in err
    assert "there is nothing to sign with" in err


@pytest.mark.parametrize("words", ["wallet send", "wallet sweep"])
def test_who_pays_an_invoice_is_told_what_it_is_for_before_he_is_asked(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = "unchained:runc1abc?amount=1.5&label=bread"
    amount = CASES[words][1:]
    monkeypatch.setitem(CASES, words, (uri, *amount))
    _, _, err = said(words, "n\n", tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    before, asks, _ = err.partition("Send it?")
    assert asks
    assert "the payment URI says that it is for: bread\n" in before
    assert "warning: the payment URI asks for 1.5 UNC, not " in before


def test_nobody_is_asked_to_send_what_lacks_a_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = FakeNode.call

    def lacking(self: FakeNode, method: str, params: Any = (), **more: object) -> Any:
        if method == "wallet.broadcast":
            raise WalletRefusedError("a signature is missing: let whoever")
        found = whole(self, method, params, **more)
        return found | {"missing": 1} if method == "wallet.merge" else found

    monkeypatch.setattr(FakeNode, "call", lacking)
    code, moved, err = said(
        "wallet broadcast", "y\n", tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    assert (code, moved) == (1, [])
    assert "[y/N]" not in err
    assert err.splitlines()[-1].endswith("a signature is missing: let whoever")


@pytest.mark.parametrize("words", sorted(CASES))
def test_with_yes_nobody_is_asked(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, moved, err = said(
        words, "", "--yes", tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    assert (code, len(moved)) == (0, 1)
    assert "[y/N]" not in err


def test_who_waits_for_confirmations_is_left_with_how_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = iter([("waiting", 0), ("included", 1), ("included", 3)])

    class Confirming(FakeNode):
        def call(self, method: str, params: Any = (), **more: object) -> Any:
            if method != "wallet.transfer":
                return super().call(method, params, **more)
            status, has = next(states)
            return {"entry": {"status": status, "confirmations": has}}

    monkeypatch.setattr(Asker, "_connected", lambda _: Confirming())
    monkeypatch.setattr("unchained.node.cli.confirm.LOOK_AGAIN_S", 0.0)
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("sys.stderr", screen)
    assert main.run(["wallet", "send", f"lock:{LOCK}", AMOUNT, "--wait", "3", "--yes"]) == 0
    shown = screen.getvalue()
    assert "waits for an anchor" not in shown
    assert re.search(r"included [^\n]*3 of 3 confirmations\s*\S*\s*$", shown), shown


def test_who_was_warned_before_he_agreed_is_not_warned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, moved, err = said(
        "wallet htlc claim", "y\n", tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
    )
    assert (len(moved), err.count("the refund is near")) == (1, 1)


def test_what_a_uri_asks_for_is_said_where_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CASES, "wallet send", ("unchained:runc1abc?amount=1.5", "2"))
    for option in ("--yes", "--dry-run"):
        _, _, err = said(
            "wallet send", "", option, tmp_path=tmp_path, monkeypatch=monkeypatch, capsys=capsys
        )
        assert "warning: the payment URI asks for 1.5 UNC, not 2" in err
