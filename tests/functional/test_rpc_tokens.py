"""Tokens of a real node: one wallet's rights, by every way in, across restarts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
import trio

from tests.framework.processes import PATIENCE_S, NodeHome, NodeProcess, node_home
from tests.framework.wallet_shell import wait_until
from unchained.node.rpc.client.client import Client, Endpoint
from unchained.node.rpc.client.trio_client import TrioClient
from unchained.node.rpc.core.credential_files import URL_FILE
from unchained.node.rpc.core.errors import (
    ForbiddenError,
    RpcError,
    UnauthorizedError,
    WalletRefusedError,
)

PAYEE = "lock:" + "11" * 32


@dataclass
class Shop:
    """A node with the wallets `shop`, which has 6 UNC, and `other`."""

    home: NodeHome
    node: NodeProcess
    owner: Client

    @classmethod
    def open(cls, home: NodeHome) -> Shop:
        shop = cls(home, *cls._start(home))
        for name in ("shop", "other"):
            made = {"passphrase": "", "no_passphrase": True, "wallet": name}
            shop.owner.call("wallet.create", made, seconds=60)
        payee = shop.owner.call("wallet.address", {"wallet": "shop"})["text"]
        shop.owner.call("mine.generate", {"anchors": 6, "address": payee}, seconds=60)
        shop.mature()
        return shop

    @staticmethod
    def _start(home: NodeHome) -> tuple[NodeProcess, Client]:
        node = home.start("--network", "reg")
        node.wait_event("node.started")
        return node, Client(Endpoint.of(home.data_dir()))

    def mature(self) -> None:
        tip = self.owner.call("chain.tip")["height"]
        wait_until(
            lambda: self.owner.call("wallet.info", {"wallet": "shop"})["progress"]["height"] >= tip,
            "the wallet has followed the chain",
        )

    def restart(self) -> None:
        self.owner.call("node.stop")
        assert self.node.wait() == 0
        self.node, self.owner = self._start(self.home)
        self.owner.call("wallet.unlock", {"passphrase": "", "wallet": "shop"}, seconds=60)

    def bearer(self, secret: str) -> Client:
        url = (self.home.data_dir() / URL_FILE).read_text()
        return Client(Endpoint.at(url, token=secret))

    def token(self, *scopes: str, **more: Any) -> Client:
        params = {"wallet": "shop", "scopes": scopes, **more}
        return self.bearer(self.owner.call("token.create", params)["secret"])


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    with node_home(request) as home:
        made = Shop.open(home)
        yield made
        made.owner.call("node.stop")
        assert made.node.wait() == 0


def test_a_token_reads_its_wallet_and_learns_of_no_other(shop: Shop) -> None:
    reader = shop.token("read")
    assert [entry["wallet"] for entry in reader.call("wallet.list")] == ["shop"]
    # Its own wallet is meant where none is named.
    assert reader.call("wallet.balance") == shop.owner.call("wallet.balance", {"wallet": "shop"})
    assert reader.call("wallet.history", {"wallet": "shop"})
    said = set()
    for other in ("other", "default", "never-made"):
        for method in ("wallet.balance", "wallet.info", "wallet.history", "wallet.coins"):
            with pytest.raises(ForbiddenError) as caught:
                reader.call(method, {"wallet": other})
            said.add((caught.value.error, caught.value.message))
    assert said == {("OTHER_WALLET", "the token is for the wallet 'shop' alone")}
    with pytest.raises(ForbiddenError, match=r"needs a token with the scope invoice; .* has read"):
        reader.call("wallet.address")
    with pytest.raises(ForbiddenError, match="scope spend"):
        reader.call("wallet.send", {"payments": [{"payee": PAYEE, "amount": "0.1"}]})
    for closed in ("wallet.mnemonic", "node.stop", "token.list", "mempool.list", "net.peers"):
        with pytest.raises((ForbiddenError, UnauthorizedError)):
            reader.call(closed, {"passphrase": ""} if closed == "wallet.mnemonic" else {})


def test_a_batch_is_checked_call_by_call(shop: Shop) -> None:
    results = shop.token("invoice").batch(
        [
            ("wallet.address", {}),
            ("wallet.address", {"wallet": "other"}),
            ("wallet.balance", {}),
            ("node.version", {}),
            ("wallet.paycode", []),
        ]
    )
    kinds = [result.error if isinstance(result, RpcError) else "" for result in results]
    assert kinds == ["", "OTHER_WALLET", "MISSING_SCOPE", "", ""]


def test_the_nodes_events_are_not_a_wallets(shop: Shop) -> None:
    with pytest.raises(UnauthorizedError), shop.token("read", "invoice").events(0):
        pass


def test_an_open_stream_of_events_ends_with_its_token(shop: Shop) -> None:
    made, other = (
        shop.owner.call("token.create", {"wallet": "shop", "scopes": ["read"]}) for _ in range(2)
    )

    async def follow() -> None:
        url = (shop.home.data_dir() / URL_FILE).read_text()
        first, second = (
            TrioClient(Endpoint.at(url, token=token["secret"])) for token in (made, other)
        )
        own = shop.owner.call("wallet.address", {"wallet": "shop"})["text"]
        with trio.fail_after(PATIENCE_S):
            async with first.events(wallet="shop") as ended, second.events(wallet="shop") as kept:
                revoked = {"token": made["token"]["id"]}
                await trio.to_thread.run_sync(shop.owner.call, "token.revoke", revoked)
                assert [event async for event in ended] == []
                with pytest.raises(UnauthorizedError):
                    async with first.events(wallet="shop"):
                        pass
                mined = {"address": own}
                await trio.to_thread.run_sync(shop.owner.call, "mine.generate", mined)
                assert (await anext(kept)).kind == "coin.mined"

    trio.run(follow)
    shop.mature()


def test_a_limit_holds_for_all_ways_to_spend_and_across_restarts(shop: Shop) -> None:
    shop.owner.call("wallet.unlock", {"passphrase": "", "wallet": "shop"}, seconds=60)
    made = shop.owner.call(
        "token.create", {"wallet": "shop", "scopes": ["spend", "read"], "daily_limit": "2.0"}
    )
    token_id, spender = made["token"]["id"], shop.bearer(made["secret"])

    def pay(client: Client, amount: str) -> Any:
        params = {"payments": [{"payee": PAYEE, "amount": amount}], "allow_high_fee": True}
        return client.call("wallet.send", params, seconds=60)

    def spent() -> Decimal:
        (found,) = (row for row in shop.owner.call("token.list") if row["id"] == token_id)
        return Decimal(found["spent"])

    # Two at once: together they are too much.
    def try_to_pay(_: int) -> str:
        try:
            pay(spender, "1.2")
        except WalletRefusedError as error:
            return error.error
        return "paid"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(try_to_pay, range(2))) == ["SPENDING_LIMIT", "paid"]
    first = spent()
    assert Decimal("1.2") < first < Decimal("1.21")
    shop.restart()
    spender = shop.bearer(made["secret"])
    assert spent() == first
    with pytest.raises(WalletRefusedError, match=r"may spend 2 UNC a day, has spent 1\.2"):
        spender.call("wallet.sweep", {"payee": PAYEE}, seconds=60)
    assert spent() == first
    # What comes back to the wallet costs its fee.
    own = shop.owner.call("wallet.address", {"wallet": "shop"})["text"]
    sent = spender.call("wallet.send", {"payments": [{"payee": own, "amount": "1.5"}]}, seconds=60)
    assert spent() == first + Decimal(sent["fee"])
    unsigned = spender.call(
        "wallet.prepare", {"payments": [{"payee": PAYEE, "amount": "1.0"}]}, seconds=60
    )
    with pytest.raises(WalletRefusedError, match="may spend 2 UNC a day"):
        spender.call("wallet.sign", {"file": unsigned["file"]}, seconds=60)
    assert shop.owner.call("token.revoke", {"token": token_id}) is not None
    with pytest.raises(UnauthorizedError, match="wrong, or revoked"):
        pay(spender, "0.1")


def test_a_token_that_spends_alone_does_not_learn_what_there_is(shop: Shop) -> None:
    shop.owner.call("wallet.unlock", {"passphrase": "", "wallet": "shop"}, seconds=60)
    spender = shop.token("spend", daily_limit="1000.0")
    pay = {"payments": [{"payee": PAYEE, "amount": "500.0"}], "allow_high_fee": True}
    coin = shop.owner.call("wallet.coins", {"wallet": "shop"})[0]["id"]
    with pytest.raises(WalletRefusedError) as caught:
        spender.call("wallet.send", pay, seconds=60)
    told = caught.value
    assert (told.error, told.message) == (
        "INSUFFICIENT_FUNDS",
        "the wallet's coins do not suffice for the transfer",
    )
    assert set(told.data) == {"error"}
    for method, params in (
        ("wallet.send", {**pay, "dry_run": True}),
        ("wallet.send", {**pay, "coins": [coin]}),
        ("wallet.sweep", {"payee": PAYEE}),
        ("wallet.consolidate", {"dry_run": True}),
        ("wallet.prepare", pay),
        ("wallet.balance", {}),
    ):
        with pytest.raises(ForbiddenError, match="scope read"):
            spender.call(method, params, seconds=60)
    pay["payments"] = [{"payee": PAYEE, "amount": "0.01"}]
    # a fee tells how many coins it takes
    for fee, word in (
        (("fee_max", "0.00000001"), "FEE_ABOVE_MAX"),
        (("fee", "0.00000001"), "BAD_PAYMENT"),
    ):
        with pytest.raises(WalletRefusedError, match="fee") as caught:
            spender.call("wallet.send", {**pay, fee[0]: fee[1]}, seconds=60)
        assert caught.value.error == word
        assert not re.search("[0-9]", caught.value.message)
    assert spender.call("wallet.send", pay, seconds=60)["status"] == "waiting"
    # nor is it told whom the wallet has paid before
    invoice = shop.owner.call("wallet.invoice", {"wallet": "shop"}, seconds=60)["text"]
    pay["payments"] = [{"payee": invoice, "amount": "0.01"}]
    for _ in range(2):
        assert spender.call("wallet.send", pay, seconds=60)["warning"] is None
    again = shop.owner.call("wallet.send", {**pay, "wallet": "shop"}, seconds=60)
    assert "has paid 0.01 UNC to that paycode already" in again["warning"]
    with pytest.raises(WalletRefusedError, match=r"500.* UNC can be spent"):
        shop.owner.call(
            "wallet.send",
            {**pay, "wallet": "shop", "payments": [{"payee": PAYEE, "amount": "500.0"}]},
            seconds=60,
        )


def test_a_token_is_for_no_other_wallet_of_its_wallets_name(shop: Shop) -> None:
    new = {"passphrase": "", "no_passphrase": True, "wallet": "till"}
    shop.owner.call("wallet.create", new, seconds=60)
    made = shop.owner.call("token.create", {"wallet": "till", "scopes": ["read"]})
    bearer = shop.bearer(made["secret"])
    with pytest.raises(WalletRefusedError, match="is there already"):
        shop.owner.call("wallet.create", new, seconds=60)
    assert bearer.call("wallet.balance")
    shop.owner.call("wallet.close", {"wallet": "till"})
    for path in (shop.home.data_dir() / "wallets").glob("till.*"):
        path.unlink()
    shop.owner.call("wallet.create", new, seconds=60)
    with pytest.raises(UnauthorizedError):
        bearer.call("wallet.balance")
    shop.owner.call("wallet.delete", {"wallet": "till", "confirm": "till"})


def test_tokens_by_the_command_line(shop: Shop) -> None:
    where = ("--network", "reg", "--data-dir", str(shop.home.data_dir()))
    run = shop.home.run
    made = run("token", "create", "read", "invoice", "--wallet", "shop", "--label", "till", *where)
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert secret.startswith("unct_")
    assert shop.bearer(secret).call("wallet.balance")
    listed = run("token", "list", *where).stdout
    assert "till" in listed
    assert secret not in listed
    file = shop.home.path / "till.token"
    file.touch(0o600)
    file.write_text(secret + "\n")
    balance = run("wallet", "balance", "--token-file", str(file), "-w", "shop", *where)
    assert balance.returncode == 0, balance.stderr
    refused = run("wallet", "balance", "--token-file", str(file), "-w", "other", *where)
    assert (refused.returncode, refused.stderr) == (
        1,
        "unchained-node: the token is for the wallet 'shop' alone\n",
    )
    (token_id,) = (row["id"] for row in shop.owner.call("token.list") if row["label"] == "till")
    assert "till" not in run("token", "revoke", token_id, *where).stdout
    wrong = run("token", "create", "spend", "--wallet", "shop", *where)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "daily" in wrong.stderr
