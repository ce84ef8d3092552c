"""What the contract commands show of every kind of contract, from each side of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.framework.wallets import cheap_wallet
from unchained.node.cli import main
from unchained.node.cli.asker import Asker
from unchained.node.consensus.params import REG
from unchained.node.rpc.core.values import Amount, Hash, encode
from unchained.node.rpc.methods.contracts import ContractState
from unchained.node.rpc.methods.wallet_shapes import BalanceInfo, ContractInfo
from unchained.node.wallet.contracts import hash_time_lock, multisig
from unchained.node.wallet.records import WatchedContract

A, B = cheap_wallet().address(), cheap_wallet("b").address()
SHARED = multisig(REG, 2, [A, B])
SWAP = hash_time_lock(REG, A, B, 5_000)
PREIMAGE = SWAP.preimage or b""


def sides() -> Iterator[ContractState]:
    """Yield contracts as each side sees them: who has no key of it may be a stranger or
    watch-only; of a hash-time-lock, whoever drew the preimage knows it, and the claimer in time."""
    key = Hash(bytes(32))
    for contract, preimages in ((SHARED, (None,)), (SWAP.contract, (None, PREIMAGE))):
        for preimage in preimages:
            for label in ("", "the boat"):
                for own in ([], [key], [key, key]):
                    yield ContractState(
                        ContractInfo.of(WatchedContract(contract, (), preimage, label, True)),
                        "lock:00",
                        BalanceInfo(*(Amount(0) for _ in range(6))),
                        "nothing has been paid to it yet",
                        own,
                    )


class FakeNode:
    """Answers each method that concerns contracts as a node does, of one contract."""

    def __init__(self, state: ContractState) -> None:
        self.state = state

    def call(self, method: str, *_: object, **__: object) -> Any:
        if method == "wallet.info":
            return {"progress": None, "failure": ""}
        answer = {"wallet.contract_info": self.state, "wallet.contracts": [self.state.contract]}
        found = answer.get(method, self.state.contract)
        return msgspec.to_builtins(found, enc_hook=encode)


COMMANDS = (
    ("contract", "add", SHARED.to_text()),
    ("contract", "info", "ab" * 32),
    ("multisig", "create", "2", A, B),
    ("htlc", "create", A, B, "5000"),
    ("contracts",),
)


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("words", COMMANDS)
def test_every_contract_is_shown_from_each_side(
    words: tuple[str, ...],
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    for state in sides():
        node = FakeNode(state)
        monkeypatch.setattr(Asker, "_connected", lambda _, node=node: node)
        code = main.run(["wallet", *words])
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, "")
        assert "None" not in shown.out
        contract = state.contract
        if words != ("contracts",):
            assert contract.text in shown.out
            assert (contract.preimage is not None) == (PREIMAGE.hex() in shown.out)
