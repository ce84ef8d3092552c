"""Commands are made when they are run, and not before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.framework.command_walk import all_commands
from unchained.node.cli import main
from unchained.node.cli.commands import LazyGroup
from unchained.node.cli.wallet_help import WALLET_SECTIONS

NEVER_FOR_A_QUESTION = ("trio", "rich", "pydantic", "structlog", "numpy", "cryptography", "libp2p")
"""Libraries of which each takes longer to import than a command that asks a node once."""

COMPLETION = {
    "_UNCHAINED_NODE_COMPLETE": "complete_bash",
    "COMP_WORDS": "unchained-node wallet bal",
    "COMP_CWORD": "2",
}

SCRIPT = """
import sys
from unchained.node.cli import main
try:
    main.run(sys.argv[1:])
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(home: Path, *words: str, env: dict[str, str] | None = None) -> set[str]:
    """Return what a command imports."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        env={"HOME": str(home), "PATH": os.environ["PATH"], **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words", [(), ("--help",), ("--version",), ("wallet", "--help"), ("status", "--help")]
)
def test_help_and_version_import_no_library_but_the_parser(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    found = imported(tmp_path, *words)
    assert "typer" in found
    assert found.isdisjoint(NEVER_FOR_A_QUESTION)
    assert found.isdisjoint({"http.client", "ssl"})


def test_help_of_all_imports_no_command(tmp_path: Path) -> None:
    of_commands = {
        f"unchained.node.cli.{name}" for entry in main.COMMANDS.values() for name in entry.modules
    }
    assert imported(tmp_path, "--help").isdisjoint({*of_commands, "msgspec"})


def test_completion_imports_no_library_but_the_parser(tmp_path: Path) -> None:
    assert imported(tmp_path, env=COMPLETION).isdisjoint(NEVER_FOR_A_QUESTION)


@pytest.mark.parametrize("words", [("status",), ("wallet", "balance"), ("peers",), ("stop",)])
def test_a_question_to_a_node_imports_little(tmp_path: Path, words: tuple[str, ...]) -> None:
    found = imported(tmp_path, *words)
    assert "http.client" in found
    assert found.isdisjoint(NEVER_FOR_A_QUESTION)


def test_a_number_too_large_for_any_use_is_refused_by_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    large, seen = str(10**20), 0
    for words, command in all_commands():
        arguments: list[str] = []
        for parameter in command.params:
            is_number = parameter.type_descriptor.annotation in (int, float)
            option = parameter.opts[:1] if parameter.param_type_name == "option" else []
            if is_number:
                assert main.run([*words.split(), *arguments, *option, large]) == main.WRONG_USE
                out, err = capsys.readouterr()
                assert not out
                assert err.count("\n") == 1
                assert "number" in err, err
                assert err.partition(f", got '{large}'")[1], err
                seen += 1
            if not option:
                arguments.append("1" if is_number else "x")
    assert seen > 40


def test_what_the_help_lists_is_what_the_commands_say_of_themselves() -> None:
    parser = main.command_line()
    for name, entry in main.COMMANDS.items():
        made = parser.made(name)
        assert made.name == name
        text = " ".join((made.help or "").split())
        assert text.startswith(entry.line), name


def test_a_command_of_a_command_is_made_too() -> None:
    wallet = main.command_line().made("wallet")
    assert isinstance(wallet, LazyGroup)
    multisig = wallet.made("multisig")
    assert isinstance(multisig, LazyGroup)
    assert [parameter.name for parameter in multisig.made("create").params][:1] == ["threshold"]


def test_a_word_that_is_nearly_a_command_is_answered_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["walet"]) == main.WRONG_USE
    assert "Did you mean 'wallet'?" in capsys.readouterr().err


def test_the_help_of_wallet_lists_each_command_once_under_what_it_is_for() -> None:
    group = main.command_line().made("wallet")
    listed = [name for names in WALLET_SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(group.commands)


def test_a_token_is_for_something_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["token", "create"]) == main.WRONG_USE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "spend (pay, with --daily-limit)" in said


def test_help_says_what_each_parameter_is_and_names_no_type_of_python() -> None:
    for name, command in all_commands():
        context = command.make_context(name, [], resilient_parsing=True)
        shown = command.get_help(context)
        assert re.search(r"<|INTEGER|FLOAT|\bPATH\b|RANGE|x>=|\{[A-Z]", shown) is None, shown
        silent = [p.opts for p in command.get_params(context) if not p.help]
        assert silent == [], name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("unlock", "--seconds", "0"), "'--seconds': expected a number, 0.1 to 604800, got '0'"),
        (("unlock", "--seconds", "nan"), "expected a number, 0.1 to 604800, got 'nan'"),
        (("coins", "--limit", "x"), "'--limit': expected a whole number, 1 to 1000, got 'x'"),
        (("coins", "--limit", "1001"), "1 to 1000, got '1001'"),
        (("coins", "--limit", "9" * 5000), "1 to 1000, got a text of 5000 characters"),
        (("coins", "--offset", "-1"), "'--offset': expected a whole number, at least 0, got '-1'"),
        (("multisig", "create", "17", "x"), "'M': expected a whole number, 1 to 16, got '17'"),
    ],
)
def test_a_wrong_number_is_told_in_words(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["wallet", *words]) == main.WRONG_USE
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
