"""Two real nodes on reg, one to be tortured and one that stays well, and what has to hold of a
store after whatever happened to it."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.framework.network import Net, NetNode, network, until
from tests.framework.processes import node_program
from tests.framework.torture.forked import Forked
from unchained.node.chain.core import ChainCore
from unchained.node.consensus.params import REG
from unchained.node.rpc.client.client import Client, Endpoint
from unchained.storage.check import check
from unchained.storage.open import open_store

WALLETS = ("till", "purse")
"""The wallets of the tortured node: all that is mined anywhere is theirs."""
PATIENCE_S = 300.0
"""How long a node or a command may take on a machine that does much else."""
NOT_LINES = re.compile(r"Traceback|internal error|Error\(")
"""What no person should have to read."""


class Standing:
    """Where a store's chain stands that no node has open."""

    def __init__(self, data_dir: Path) -> None:
        with contextlib.closing(open_store(data_dir, REG, create=False)) as store:
            core = ChainCore(store, REG, lambda: 0, 2**62)
            self.height = core.tip.height
            self.tip = core.tip.id.hex()
            self.state_root = core.ledger.state_root().hex()
            self.supply = core.ledger.supply

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Standing) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"height {self.height}, tip {self.tip[:8]}, state {self.state_root[:8]}"


class PatientNode(NetNode):
    """A node on a machine that does much else; `wrapped` says by what else its process is run,
    `seen` where its data directory is seen from outside, `forks` whether it is forked from one that
    has loaded the program."""

    def __init__(self, net: Net, name: str, bootstrap: str, *, forks: bool) -> None:
        super().__init__(net, name, ["--no-mine"], bootstrap)
        self.forks = forks
        self.wrapped: Callable[[list[str]], list[str]] = list
        self.seen: Path | None = None
        self.env: dict[str, str] = {}

    @property
    def data_dir(self) -> Path:
        """Its data directory, as others see it."""
        return self.seen or super().data_dir

    def start(self, *, wait: bool = True) -> None:
        """Run it, and wait until it serves unless asked not to."""
        arguments = [
            "start", "--json", "--data-dir", str(super().data_dir), "--network", "reg",
            *self.arguments, "--listen", f"/ip4/127.0.0.1/tcp/{self.port}",
        ]  # fmt: skip
        arguments += ["--bootstrap", self.bootstrap] if self.bootstrap else []
        self.process = self.net.home.start(
            program=self.wrapped([node_program(), *arguments]),
            env=self.env,
            run=Forked if self.forks else None,
        )
        if wait:
            self.process.wait_event("node.started", timeout_s=PATIENCE_S)

    @property
    def client(self) -> Client:
        """A client of the running process, as patient as everything here."""
        return Client(Endpoint.of(self.data_dir), timeout=PATIENCE_S)


class World:
    """`well` is a node that nothing is done to, `victim` the other one."""

    def __init__(self, net: Net, rng: random.Random, *, forks: bool) -> None:
        self.net = net
        self.rng = rng
        self.well = PatientNode(net, "well", "", forks=forks)
        self.victim = PatientNode(net, "victim", self.well.address, forks=forks)
        net.nodes += [self.well, self.victim]
        self.well.start()
        self.addresses: dict[str, str] = {}

    def begin(self, anchors: int) -> None:
        """Give the victim wallets, and both a chain with payments, forks and late coins on it that
        belongs to these wallets alone."""
        self.victim.start()
        for name in WALLETS:
            self.victim.call("wallet.create", 60, wallet=name, passphrase="", no_passphrase=True)
        self.unlock()
        for name in WALLETS:
            self.addresses[name] = self.victim.call("wallet.address", wallet=name)["text"]
        for node in (self.victim, self.well) * (anchors // 4):
            self.mine(node, 2)
            self.net.agree(within_s=PATIENCE_S)
        self.net.agree(within_s=PATIENCE_S)

    def unlock(self) -> None:
        """Let the victim's wallets pay."""
        for name in WALLETS:
            self.victim.client.call(
                "wallet.unlock", {"wallet": name, "passphrase": "", "seconds": 86_400}
            )

    def mine(self, node: NetNode, anchors: int, coins: int = 1) -> list[str]:
        """Mine anchors on a node for one of the wallets; return their ids."""
        payee = self.addresses[self.rng.choice(WALLETS)]
        found = node.call("mine.generate", 120, anchors=anchors, coins=coins, address=payee)
        return [str(anchor) for anchor in found["anchors"]]

    def pay(self) -> str:
        """Pay from one of the wallets to one of them; return the txid that was acknowledged."""
        payer, payee = (self.rng.choice(WALLETS) for _ in range(2))
        payment = {"payee": self.addresses[payee], "amount": "0.01"}
        sent = self.victim.call("wallet.send", 60, wallet=payer, payments=[payment])
        return str(sent["txid"])

    def settle(self) -> None:
        """Wait until the victim's wallets have read its chain."""

        def read() -> bool:
            height = self.victim.call("chain.tip")["height"]
            found = [one["progress"] for one in self.victim.call("wallet.list") if one["open"]]
            return len(found) == len(WALLETS) and all(
                one and one["caught_up"] and one["height"] == height for one in found
            )

        until(read, "wallets that have read the chain", within_s=PATIENCE_S)

    def balances(self) -> dict[str, dict[str, Any]]:
        """Return what each of the victim's wallets says that it has."""
        return {name: self.victim.call("wallet.balance", wallet=name) for name in WALLETS}

    def check_sums(self) -> str | None:
        """Return what is wrong with the wallets' sums: all coins that there are belong to them."""
        for _ in range(20):
            supply = Decimal(self.victim.call("chain.tip")["supply"])
            on_chain = sum(
                Decimal(balance[part])
                for balance in self.balances().values()
                for part in ("confirmed", "immature", "frozen", "leaving")
            )
            # The chain may go on between the questions.
            if supply == Decimal(self.victim.call("chain.tip")["supply"]):
                return None if supply == on_chain else f"wallets have {on_chain} of {supply}"
            self.settle()
        return "the chain does not stand still"

    def stop(self, node: NetNode) -> str | None:
        """Stop a node in good order; return what it said wrong, if so."""
        code = node.process.stop(timeout_s=PATIENCE_S)
        if code or node.process.errors:
            return f"stopped with {code}: {node.process.errors}"
        return None


def damage_in(data_dir: Path) -> str | None:
    """Return what a check finds in a store that no node has open, None for nothing."""
    with contextlib.closing(open_store(data_dir, REG, create=False)) as store:
        found = check(store, REG)
    return None if found.sound else "; ".join(found.problems[:3])


def one_line(text: str) -> str | None:
    """Return what keeps an error from being one line for a person."""
    lines = text.strip().splitlines()
    if len(lines) != 1 or NOT_LINES.search(text):
        return f"not one clear line: {lines[:3]}"
    return None


@contextlib.contextmanager
def world(seed: int, *, forks: bool = False) -> Iterator[World]:
    """Give a world whose nodes end with it; its files stay if an exception leaves it. `forks`:
    nodes are forked, which is quicker, and share memory with what they are forked from."""
    with network() as net:
        yield World(net, random.Random(seed), forks=forks)
