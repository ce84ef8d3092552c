"""What is said of a wallet's files and names, and of tokens."""

from __future__ import annotations

from typing import Any

import pytest

from unchained.node.cli import keeping, main
from unchained.node.cli.asker import Asker
from unchained.node.rpc.core.errors import WalletRefusedError

TOKEN = "704b" + "0" * 12
PAYEE = {"alias": "Shop", "payee": "x", "fingerprint": "ab-cd", "label": "", "confirmed": True}


class Node:
    """Answers as a node with one token and one payee, where each wallet is there already."""

    def call(self, method: str, _params: Any = (), **_: object) -> Any:
        if method == "wallet.restore_backup":
            raise WalletRefusedError(
                "a wallet named 'shop' is there already", error="WALLET_EXISTS"
            )
        return {
            "token.list": [{"id": TOKEN}],
            "token.revoke": [],
            "wallet.backup": {"wallet": "shop", "path": "/x", "size": 12_345},
            "wallet.payee_list": [PAYEE],
        }[method]


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asker, "_connected", lambda _: Node())
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["token", "revoke", "704B"], "revoked 704b"),
        (["wallet", "backup", "FILE"], "12,345 bytes"),
        (["wallet", "payee", "list"], "name"),
    ],
)
def test_a_person_is_told(
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main.run(words) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "alias" not in out


def test_a_name_that_is_taken_is_answered_with_how_another_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["wallet", "restore-backup", "FILE"]) == main.FAILED
    assert capsys.readouterr().err == (
        "unchained-node: a wallet named 'shop' is there already: --wallet NAME calls it otherwise\n"
    )


def test_who_deletes_what_cannot_be_read_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = dict.fromkeys(("total", "pending", "watch_only", "labels", "payees"))
    keeping.print_lost({"wallet": "shop", "damage": "its checksum is wrong", **unknown})
    said = capsys.readouterr().err
    assert "cannot be read: its checksum is wrong" in said
    assert "24 words or a backup" in said
    assert "None" not in said


def test_what_goes_by_a_name_is_said_once_the_name_is_gone() -> None:
    default, mined = keeping.name_remarks("default", "main", runs=True)
    assert "commands without --wallet mean that name, or mining" in default
    assert "goes to main until the node stops" in mined
    (mined,) = keeping.name_remarks("mining", "old", runs=False)
    assert mined.startswith("warning: from its next start the node mines to the wallet default")
    (default,) = keeping.name_remarks("main", "default", runs=True)
    assert "commands without --wallet mean this wallet now" in default
    assert not keeping.name_remarks("main", "other", runs=True)
