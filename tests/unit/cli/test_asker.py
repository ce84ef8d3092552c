"""Commands that ask a node: ids by their first digits, columns, errors in the command's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.guide import hint
from unchained.node.cli.short_ids import ShortIdError, one_of
from unchained.node.rpc.core.credential_files import URL_FILE
from unchained.node.rpc.core.errors import InvalidParamsError, WalletRefusedError
from unchained.storage.lock import DirectoryLock

COIN, OTHER = "ab12" + "0" * 60, "ab13" + "0" * 60
PEER = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"


class FakeClient:
    """Answers as a node that knows two coins, and remembers what it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._error = error

    def call(
        self, method: str, params: Mapping[str, Any] | Sequence[object] = (), **_: object
    ) -> Any:
        self.asked.append((method, params))
        assert isinstance(params, Mapping)
        if method == "chain.find":
            return [
                {"id": id_, "kind": "coin"}
                for id_ in (COIN, OTHER)
                if id_.startswith(params["prefix"])
            ]
        if method == "net.peers":
            return [{"peer": PEER}]
        if method == "wallet.contracts":
            return [{"lock": "cd" * 32, "kind": "htlc"}]
        if method == "token.list":
            return [{"id": "704b" + "0" * 12}, {"id": "704c" + "0" * 12}]
        if method == "wallet.invoices":
            return [{"id": "ee" * 8}]
        if method == "wallet.history":
            return []
        if self._error is not None:
            raise self._error
        return [{"id": COIN, "amount": "1.00000000", "anchor": {"height": 3}}]


def asker_of(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> Asker:
    monkeypatch.setattr(Asker, "_connected", lambda _: client)
    return Asker(None, None, None, json=False)


def test_an_id_is_given_by_its_first_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    node = asker_of(client, monkeypatch)
    node.call("coin.get", coin="ab12")
    node.call("wallet.send", coins=["ab12", OTHER])
    node.call("net.disconnect", peer=PEER[:16])
    node.call("wallet.htlc_claim", lock="cdcd")
    asked = dict(client.asked)
    assert asked["coin.get"] == {"coin": COIN}
    assert asked["wallet.send"] == {"coins": [COIN, OTHER]}
    assert asked["net.disconnect"] == {"peer": PEER}
    assert asked["wallet.htlc_claim"] == {"lock": "cd" * 32}


def test_ids_that_another_method_lists_are_given_by_their_first_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = FakeClient()
    node = asker_of(client, monkeypatch)
    node.call("token.revoke", token="704B")
    node.call("wallet.get_invoice", invoice="eeee", wallet="shop")
    node.call("wallet.contract_info", lock="cdcd", wallet="shop")
    asked = dict(client.asked)
    assert asked["token.revoke"] == {"token": "704b" + "0" * 12}
    assert asked["wallet.get_invoice"] == {"invoice": "ee" * 8, "wallet": "shop"}
    assert asked["wallet.invoices"] == {"wallet": "shop", "limit": 1000, "offset": 0}
    assert asked["wallet.contracts"] == {"wallet": "shop"}
    with pytest.raises(CommandFailedError, match="nothing is known whose id"):
        node.call("token.revoke", token="7040")


@pytest.mark.parametrize(
    ("listed", "method", "parameter", "digits"),
    [
        ("wallet.invoices", "wallet.cancel_invoice", "invoice", 16),
        ("wallet.history", "wallet.transfer", "txid", 64),
    ],
)
def test_first_digits_are_looked_for_in_all_pages_of_what_is_listed(
    listed: str, method: str, parameter: str, digits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"{number:04x}".ljust(digits, "0") for number in range(2001)]
    ids[0] = "07d0".ljust(digits, "f")  # the newest, and the oldest is 07d0…0

    class Many(FakeClient):
        def call(self, called: str, params: Any = (), **more: object) -> Any:
            if called != listed:
                return super().call(called, params, **more)
            first = params["offset"]
            return [{"id": id_} for id_ in ids[first : first + params["limit"]]]

    node = asker_of(Many(), monkeypatch)
    with pytest.raises(CommandFailedError, match=f"07d0 could be {ids[-1]}, {ids[0]}: give more"):
        node.call(method, **{parameter: "07d0"}, wallet="shop")


def test_who_has_no_wallet_yet_hears_how_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(FakeClient):
        def call(self, method: str, params: Any = (), **more: object) -> Any:
            return [] if method == "wallet.list" else super().call(method, params, **more)

    missing = WalletRefusedError("no wallet is named 'default'", error="NO_SUCH_WALLET")
    node = asker_of(Empty(missing), monkeypatch)
    with pytest.raises(CommandFailedError, match="'default': `unchained-node wallet create`"):
        node.call("wallet.balance", wallet="default")
    with pytest.raises(CommandFailedError, match=r"named 'default'$"):
        node.call("wallet.balance", wallet="other")


def test_a_whole_id_and_other_texts_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    node = asker_of(client, monkeypatch)
    node.call("coin.get", coin=COIN)
    node.call("wallet.send", memo="ab12", payee="ab12", request_id="ab12")
    assert [method for method, _ in client.asked] == ["coin.get", "wallet.send"]


def test_an_ambiguous_id_is_answered_with_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    node = asker_of(FakeClient(), monkeypatch)
    with pytest.raises(ShortIdError, match=f"ab1 could be {COIN}, {OTHER}: give more"):
        one_of("ab1", {COIN, OTHER}, "unknown")
    with pytest.raises(CommandFailedError, match="nothing is known whose id begins with ffff"):
        node.call("coin.get", coin="ffff")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("12D3", "12D3 is too short for a peer's id: expected all of it, or its first 12 "),
        (PEER[:11], "is too short for a peer's id"),
        ("Qm1234", "is too short for a peer's id"),
        ("12D3KooWzzzz", "no peer is connected whose id begins with 12D3KooWzzzz"),
    ],
)
def test_the_beginning_of_a_peers_id_has_to_say_which(
    given: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FakeClient()
    node = asker_of(client, monkeypatch)
    with pytest.raises(CommandFailedError) as refused:
        node.call("net.disconnect", peer=given)
    assert says in str(refused.value)
    assert "net.disconnect" not in dict(client.asked)
    # An address that is to be banned is no id.
    node.call("net.ban", peer="12.3.4.5")
    assert ("net.ban", {"peer": "12.3.4.5"}) in client.asked


APP = typer.Typer(rich_markup_mode=None)


@asking(APP, "spend", table=True)
def spend(
    node: Asker,
    payee: Annotated[str, typer.Argument(metavar="PAYEE")],
    fee_rate: Annotated[int | None, typer.Option("--fee-rate")] = None,
    limit: Annotated[int, typer.Option("--limit")] = 1,
) -> None:
    node.show_rows(node.call("wallet.spend_it", payee=payee, limit=limit), ["id"], "none")


@asking(APP, "other")
def other(node: Asker) -> None:
    node.call("wallet.other")


def run(client: FakeClient, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(Asker, "_connected", lambda _: client)
    return CliRunner().invoke(APP, list(words))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("wallet.spend_it: expected 1, got 0 - at `limit`", "--limit: expected 1, got 0"),
        ("wallet.spend_it: an id - at `payee[0].x`", "PAYEE: an id"),
        ("wallet.spend_it needs fee_rate or fee", "spend needs --fee-rate or fee"),
        ("wallet.spend_it needs the parameter 'payee'", "spend needs PAYEE"),
        ("the fee is above the limit", "the fee is above the limit"),
        ("one of the parameters 'fee_rate' and 'limit' or", "one of --fee-rate and --limit or"),
        ("no wallet is named 'limit'", "no wallet is named 'limit'"),
        ("some_thing else", "some_thing else"),
    ],
)
def test_errors_speak_of_flags(monkeypatch: pytest.MonkeyPatch, said: str, shown: str) -> None:
    result = run(FakeClient(InvalidParamsError(said)), monkeypatch, "spend", "x")
    assert isinstance(result.exception, CommandFailedError)
    assert str(result.exception) == shown


def test_columns_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(*words: str) -> list[str]:
        out: str = run(FakeClient(), monkeypatch, "spend", "x", *words).output
        return out.splitlines()

    assert table() == ["id", COIN]
    assert table("--columns", "amount,anchor.height") == ["amount\theight", "1.00000000\t3"]
    assert table("--columns", "all")[0] == "id\tamount\theight"
    wrong = "\n".join(table("--columns", "value"))
    assert "'value' is no column; there are id, amount, anchor.height" in " ".join(wrong.split())


def test_a_node_that_does_not_run_is_told_by_network_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    node = Asker("reg", None, None, json=False)
    with pytest.raises(CommandFailedError) as failure:
        node.call("node.status")
    place = tmp_path / ".unchained" / "reg"
    assert str(failure.value) == (
        f"no node of network reg is running in {place}: "
        "start it with `unchained-node start --network reg`"
    )


def test_what_runs_instead_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Asker, "_runs", lambda _, network: network == "test")
    with pytest.raises(CommandFailedError, match=r"; one of test runs \(--network test\)"):
        Asker(None, None, None, json=False).call("node.status")


def test_a_node_that_was_killed_is_no_running_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    left = tmp_path / ".unchained" / "test"
    left.mkdir(parents=True)
    (left / URL_FILE).write_text("http://127.0.0.1:1")
    (left / "rpc.cookie").write_text("__cookie__:00")
    assert not Asker(None, None, None, json=False)._runs("test")


@pytest.mark.parametrize("method", ["wallet.restore_backup", "wallet.list", "chain.tip"])
def test_a_node_that_starts_is_said_to(tmp_path: Path, method: str) -> None:
    lock = DirectoryLock(tmp_path)
    try:
        node = Asker("reg", str(tmp_path), None, json=False)
        with pytest.raises(CommandFailedError, match=r"is starting or stopping.*in a moment"):
            node.call(method)
    finally:
        lock.release()
    with pytest.raises(CommandFailedError, match="start it with"):
        node.call("chain.tip")


def test_a_hint_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["/opt/my node/bin/unchained-node", "status"])
    assert hint("start it with `unchained-node start`; `wallet create`") == (
        "start it with `'/opt/my node/bin/unchained-node' start`; `wallet create`"
    )
