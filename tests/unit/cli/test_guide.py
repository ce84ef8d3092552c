"""What whoever has started a node is told: where to ask it, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from unchained.node.base.settings import load
from unchained.node.cli import guide
from unchained.node.cli.guide import Guide, hint, place_in


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
    place = place_in(["db", "check", "--data-dir", "/a b", "--network=reg", "--json"])
    assert place == {"--data-dir": "/a b", "--network": "reg"}
    assert hint(damaged, place) == (
        "run `unchained-node db check --repair --data-dir '/a b' --network reg`, see docs, "
        "`wallet list`"
    )
    assert hint(damaged, place_in(["db", "check"])) == damaged
    # What is said already is not said twice, and not where there is no such option.
    start = "`unchained-node start --network reg`"
    assert hint(start, {"--network": "reg", "--data-dir": "x"}).endswith("reg --data-dir x`")
    password = "`unchained-node config password`"
    assert hint(password, place) == password
