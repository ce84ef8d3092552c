"""A passphrase comes from one place, or there is none: the same rule for every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import typer

from tests.framework.command_walk import all_commands
from unchained.node.cli import main, passphrases
from unchained.node.cli.asker import Asker
from unchained.node.cli.passphrases import VARIABLE
from unchained.node.rpc.core.errors import WalletRefusedError

BOTH: Final = "expected a passphrase or --no-passphrase, got both"
NAMES: Final = {"wallet change-passphrase": "--new-passphrase-file"}
"""How a file of the passphrase that a wallet is to have is named where it is not the only one."""

CASES: Final = {
    "wallet change-passphrase": (),
    "wallet create": ("--no-confirm",),
    "wallet restore": ("--mnemonic-file", "WORDS"),
    "wallet restore-backup": ("FILE",),
}
"""The commands with `--no-passphrase`, and with what each is called here."""


def test_these_commands_can_do_without_a_passphrase() -> None:
    found = [
        name
        for name, command in all_commands()
        if any("--no-passphrase" in parameter.opts for parameter in command.params)
    ]
    assert sorted(found) == sorted(CASES)


class FakeNode:
    """Answers that all was done, and keeps the passphrases."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def call(self, method: str, params: Any, **_: object) -> Any:
        if "passphrase" in params:
            self.given.append(params.get("new_passphrase", params["passphrase"]))
        return {
            "open": True,
            "watch_only": False,
            "has_passphrase": False,
            "mnemonic": "",
            "failure": "",
        }


@pytest.mark.parametrize("words", sorted(CASES))
def test_one_that_is_named_stands_against_none_and_one_of_the_environment_does_not(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    secret.write_text("the passphrase\n")
    (tmp_path / "WORDS").write_text(" ".join(["abandon"] * 23 + ["art"]))
    node = FakeNode()
    monkeypatch.setattr(Asker, "_connected", lambda _: node)
    files = {"WORDS": str(tmp_path / "WORDS"), "FILE": str(tmp_path / "FILE")}
    command = [*words.split(), *(files.get(word, word) for word in CASES[words]), "--json"]
    option = NAMES.get(words, "--passphrase-file")
    assert main.run([*command, "--no-passphrase", option, str(secret)]) == 1
    assert BOTH in capsys.readouterr().err
    assert node.given == []
    monkeypatch.setenv(VARIABLE, str(secret))
    assert main.run([*command, "--no-passphrase"]) == 0, capsys.readouterr().err
    assert node.given == [""]


class WrongPassphrase(FakeNode):
    """Takes `pass` alone."""

    def call(self, method: str, params: Any, **more: object) -> Any:
        if method not in ("wallet.info", "node.version") and params.get("passphrase") != "pass":
            raise WalletRefusedError("the passphrase is wrong", error="WRONG_PASSPHRASE")
        found = super().call(method, params, **more)
        shown = {"has_passphrase": True, "words": "abandon", "has_bip39_passphrase": False}
        return found | shown if isinstance(found, dict) else found


USES: Final = (
    ["wallet", "unlock"],
    ["wallet", "mnemonic"],
    ["wallet", "add-account"],
    ["wallet", "change-passphrase", "--no-passphrase"],
)
"""Commands that ask for a passphrase that is known already."""


@pytest.mark.parametrize("words", USES, ids=lambda words: words[1])
@pytest.mark.parametrize("typed", [["poss", "pass"], ["poss", "posh"], ["pass"]])
def test_who_has_mistyped_it_is_asked_once_more(
    words: list[str],
    typed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = list(typed)
    monkeypatch.setattr(Asker, "_connected", lambda _: WrongPassphrase())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: left.pop(0))
    assert main.run([*words, "--json"]) == (0 if typed[-1] == "pass" else 1)
    assert left == []
    err = capsys.readouterr().err
    assert err.count("the passphrase is wrong: once more") == (len(typed) > 1)
    assert err.count("the passphrase is wrong") == sum(one != "pass" for one in typed)
    # a file is not read again
    secret = tmp_path / "secret"
    secret.write_text("poss\n")
    assert main.run([*words, "--json", "--passphrase-file", str(secret)]) == 1
    assert "once more" not in capsys.readouterr().err


def test_nobody_chooses_a_new_one_after_a_wrong_old_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def ask(question: str, **_: object) -> str:
        asked.append(question)
        return "poss"

    monkeypatch.setattr(Asker, "_connected", lambda _: WrongPassphrase())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", ask)
    assert main.run(["wallet", "change-passphrase"]) == 1
    assert "the passphrase is wrong" in capsys.readouterr().err
    assert asked == ["Passphrase", "Passphrase"]


@pytest.mark.parametrize("words", sorted(CASES))
def test_a_short_new_one_is_warned_of(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(0o600)
    (tmp_path / "WORDS").write_text(" ".join(["abandon"] * 23 + ["art"]))
    monkeypatch.setattr(Asker, "_connected", lambda _: FakeNode())
    files = {"WORDS": str(tmp_path / "WORDS"), "FILE": str(tmp_path / "FILE")}
    command = [*words.split(), *(files.get(word, word) for word in CASES[words]), "--json"]
    option = NAMES.get(words, "--passphrase-file")
    for passphrase, is_short in (("a", True), ("correct horse", False)):
        secret.write_text(passphrase)
        assert main.run([*command, option, str(secret)]) == 0
        # what a backup already has is not chosen here
        warned = "is soon guessed" in capsys.readouterr().err
        assert warned == (is_short and words != "wallet restore-backup")


def test_an_empty_line_is_asked_again_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["", "", "long enough", "long enough"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    assert passphrases.new_passphrase(False, None, None) == "long enough"
    assert "expected a passphrase, got an empty line" in capsys.readouterr().err
