"""Programs of networks: the production and the plain reading of the protocol come to the same end,
and where one of them is changed, that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.framework.programs import network
from tests.framework.programs.network import NODES, DisagreementError, run
from tests.framework.programs.steps import Program
from tests.fuzz.failures import keep_failure, load
from tests.fuzz.programs import programs, written
from tests.fuzz.replay import replay
from tests.fuzz.targets import all_targets
from unchained.node.chain.ledger import Ledger
from unchained.node.consensus import coins, listed_coins, policy
from unchained.node.consensus.errors import UncleHighHashError
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError

TARGETS = all_targets()

WHOLE_NODES = ("conversation", "http", "json-rpc")
"""Targets that tell no rule of the consensus by its name, and take long."""


@given(st.binary(max_size=700))
def test_any_bytes_are_a_program(raw: bytes) -> None:
    program = Program.from_bytes(raw)
    assert Program.from_bytes(program.to_bytes()) == program
    assert Program.from_text(str(program)) == program


@settings(max_examples=12, database=None, phases=(Phase.generate, Phase.shrink))
@given(programs())
def test_programs_that_are_drawn(program: Program) -> None:
    run(program)


def test_the_same_program_says_the_same() -> None:
    program = written()["forks"]
    assert run(program) == run(program)


def named(base: type[Exception]) -> Iterator[str]:
    """Yield the names of all rules below a class."""
    for kind in base.__subclasses__():
        if "name" in vars(kind):
            yield kind.name  # type: ignore[attr-defined]
        yield from named(kind)


def test_the_corpus_reaches_every_error_of_consensus() -> None:
    names = replay(target for name, target in TARGETS.items() if name not in WHOLE_NODES)
    rules = {*named(ProtocolError), *named(policy.PolicyError)}
    assert len(rules) > 50
    assert rules - names == set()


@pytest.mark.parametrize(
    ("rule", "program"),
    [
        ("consensus.coins.check_time_after_parent", "forged-coins"),
        ("consensus.transition.check_listed_time", "listed-coins"),
        ("consensus.transition.check_history_root", "forged-bodies"),
        ("consensus.transfers.check_signatures", "connected"),
        ("chain.mempool.mempool.check_dust", "mempool"),
    ],
)
def test_a_rule_that_is_not_asked_is_told(rule: str, program: str) -> None:
    with (
        patch(f"unchained.node.{rule}", lambda *_: None),
        pytest.raises(DisagreementError, match="the protocol"),
    ):
        run(written()[program])


def test_a_sync_that_refuses_what_counts_is_told() -> None:
    """Before any proof it looks at less than the chain does, and must not ask for more."""

    def refuse(coin: Coin, _target: int) -> None:
        raise UncleHighHashError(expected="less", actual=coin.id.hex())

    with (
        patch.object(listed_coins, "check_uncle_hash", refuse),
        pytest.raises(DisagreementError, match="a sync refuses"),
    ):
        run(written()["uncles"])


def test_what_a_power_cut_takes_may_come_again() -> None:
    said = Counter(run(written()["crashes"]))
    assert {one.what.split()[0] for one, times in said.items() if times > 1} >= {"coin", "transfer"}
    assert any(
        one.verdict == "accepted" and times > 1 and one.what.startswith("body")
        for one, times in said.items()
    )


def test_a_tip_that_is_not_synced_is_told() -> None:
    flush = Ledger.flush

    def unsynced(ledger: Ledger, *, sync: bool, running_ms: int) -> object:
        assert isinstance(sync, bool)
        return flush(ledger, sync=False, running_ms=running_ms)

    with (
        patch.object(Ledger, "flush", unsynced),
        pytest.raises(DisagreementError, match="before it crashed"),
    ):
        run(written()["crashes"])


def test_the_last_node_hears_of_everything_in_an_order_that_the_program_names() -> None:
    program = written()["forks"]
    first, *others = (
        [said for said in run(program._replace(order=order)) if said.node == NODES + 2]
        for order in (0, 1, 2)
    )
    assert all(first != other for other in others)


def test_nodes_that_may_agree_have_to_also_where_little_can_be_undone() -> None:
    with (
        patch.object(network._Run, "_may_agree", lambda *_: True),
        pytest.raises(DisagreementError, match="depends on the order"),
    ):
        run(written()["parted"])
    run(written()["parted"])


def test_a_failure_is_written_as_a_program_that_fails_too(tmp_path: Path) -> None:
    target = TARGETS["program"]
    with patch.object(coins, "check_time_after_parent", lambda *_: None):
        raw = written()["forged-coins"].to_bytes()
        path = keep_failure(target, raw, tmp_path)
        assert path.read_text().splitlines() == ["target program", "network 0", "coin fault=11"]
        found, again = load(path, TARGETS)
        assert found is target
        with pytest.raises(Exception, match="TIME_NOT_AFTER_PARENT"):
            target.check(again)
    target.check(again)
