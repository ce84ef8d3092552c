"""What whoever has started a node is told: where to ask it, and how."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unchained.node.base.settings import load
from unchained.node.base.terminal_text import COMMAND
from unchained.node.cli import guide, main
from unchained.node.cli.asker import Asker, CommandFailedError
from unchained.node.cli.guide import Guide, hint
from unchained.node.cli.tables import sentence_lines


def of(flags: dict[str, tuple[str, object]], home: Path) -> Guide:
    return Guide(load(flags, {}, home=home))


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide.shutil, "which", lambda _: "/usr/bin/unchained-node")


def test_nothing_is_said_of_a_node_that_nobody_can_ask(tmp_path: Path) -> None:
    made = of({"rpc.enabled": ("--no-rpc", False)}, tmp_path)
    (tmp_path / ".unchained/local").mkdir(parents=True)
    (tmp_path / ".unchained/local/rpc.url").write_text("http://127.0.0.1:1")
    made.look()
    assert made.facts() == {}
    made.payee = "wallet mining"
    assert made.facts() == {"coins_to": "wallet mining"}


def test_the_address_and_the_next_command_are_told(tmp_path: Path) -> None:
    made = of({}, tmp_path)
    (tmp_path / ".unchained/local").mkdir(parents=True)
    (tmp_path / ".unchained/local/rpc.url").write_text("http://127.0.0.1:8645\n")
    made.look()
    assert made.facts() == {"rpc": "http://127.0.0.1:8645", "next": "unchained-node status"}


def test_the_next_command_has_the_flags_that_lead_to_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, tuple[str, object]] = {
        "node.network": ("--network", "reg"),
        "node.data_dir": ("--data-dir", "/a b"),
    }
    assert of(flags, tmp_path).next == "unchained-node status --network reg --data-dir '/a b'"
    monkeypatch.setattr(guide.shutil, "which", lambda _: None)
    monkeypatch.setattr("sys.argv", [".venv/bin/unchained-node"])
    assert of({}, tmp_path).next == ".venv/bin/unchained-node status"


def test_a_hint_leads_where_the_user_is_at_work() -> None:
    damaged = "run `unchained-node db check --repair`, see docs, `wallet list`"
    place = {"--data-dir": "/a b", "--network": "reg"}
    assert hint(damaged, place) == (
        "run `unchained-node db check --repair --data-dir '/a b' --network reg`, see docs, "
        "`wallet list`"
    )
    assert hint(damaged, {}) == damaged
    # What is said already is not said twice, and not where there is no such option.
    start = "`unchained-node start --network reg`"
    assert hint(start, {"--network": "reg", "--data-dir": "x"}).endswith("reg --data-dir x`")
    password = "`unchained-node config password`"
    assert hint(password, place) == password


PATHS = st.text("a /`'\"$\\;&*~(){}!#-=.", min_size=1) | st.sampled_from(
    ["/a`b", "/a b", "/a 'b'", '/"a"', "$HOME", "`id`", "/x --network y", "/--data-dir", "a  b"]
)


@given(PATHS, PATHS)
def test_a_hint_can_be_typed_whatever_the_path(path: str, name: str) -> None:
    place = {"--data-dir": path, "--network": name}
    told = hint(f"{path.replace('`', '')}: start it with `unchained-node start`, or wait", place)
    (command,) = (it[1] for it in COMMAND.finditer(told) if it[1].startswith("unchained-node"))
    typed = ["unchained-node", "start", "--data-dir", path, "--network", name]
    assert shlex.split(command) == typed
    # nor is it changed where it is read once more, nor broken on a terminal
    assert hint(told, place) == told
    assert any(f"`{command}`" in line for line in sentence_lines(told, 20))
    ours = hint(f"`unchained-node status --data-dir {shlex.quote(path)}` shows it", place)
    assert shlex.split(ours.removeprefix("`").removesuffix("` shows it")) == [
        *("unchained-node", "status", "--data-dir", path, "--network", name)
    ]


def test_a_backtick_in_a_path_begins_no_command() -> None:
    place = {"--data-dir": "/a`b"}
    told = "in /a`b: `unchained-node stop` stops it; /c`d; `unchained-node status`"
    assert hint(told, place) == (
        "in /a`b: `unchained-node stop --data-dir '/a`b'` stops it; /c`d; "
        "`unchained-node status --data-dir '/a`b'`"
    )


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["status", "--data-dir", "/a b", "--network=reg"], "--network reg --data-dir '/a b'"),
        (["status", "--data-dir=/a", "--data-dir", "/b"], "--data-dir /b"),
        (["rpc", "node.status", "--", "--data-dir", "x"], ""),
        (["wallet", "address", "--label", "--data-dir", "-w", "--network"], ""),
        (["wallet", "list", "--data-dir", "--network", "--network", "reg"], None),
    ],
)
def test_a_hint_has_the_options_that_the_parser_took(
    arguments: list[str],
    flags: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandFailedError("look at `unchained-node logs`")

    monkeypatch.setattr(Asker, "call", fail)
    monkeypatch.setattr(Asker, "call_with", fail)
    assert main.run(arguments) == main.FAILED
    expected = "--network reg --data-dir --network" if flags is None else flags
    said = f"unchained-node: look at `unchained-node logs{' ' * bool(expected)}{expected}`\n"
    assert capsys.readouterr().err == said
