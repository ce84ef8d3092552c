"""Networks, genesis, amounts and targets against known answers (Protocol §5.4, §7, §10)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.framework.vectors import label, load
from unchained.node.consensus.difficulty import child_target
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.mints import late_value, pool_share, stray_value
from unchained.node.consensus.params import NETWORKS, REG, Network
from unchained.node.consensus.transition import body_root
from unchained.node.crypto.merkle import merkle_root
from unchained.node.crypto.state_range import state_root

GENESIS = load("genesis")
AMOUNTS = load("amounts")
TARGETS = load("asert")["cases"]

COLUMN = {
    "name": "name",
    "chain_id": "chain_id",
    "birth": "birth_ms",
    "T": "epoch_ms",
    "K": "coins_per_epoch",
    "MEM": "mem_kib",
    "TAU": "tau_ms",
    "target0": "target0",
    "MAX_TARGET": "max_target",
    "FUTURE_LIMIT": "future_limit_ms",
    "W": "window",
    "MATURITY": "maturity",
    "MAX_REORG": "max_reorg",
    "MAX_BODY": "max_body_size",
    "SUBSIDY": "subsidy",
}


@pytest.mark.parametrize("case", GENESIS["cases"], ids=label)
def test_columns(case: Any) -> None:
    network = NETWORKS[case["network"]]
    for row, attribute in COLUMN.items():
        expected = case["column"][row]
        if row in {"target0", "MAX_TARGET"}:
            expected = int(expected, 16)
        assert getattr(network, attribute) == expected
    assert network.column_bytes().hex() == case["params"]


@pytest.mark.parametrize("case", GENESIS["cases"], ids=label)
def test_genesis(case: Any) -> None:
    genesis = genesis_of(NETWORKS[case["network"]])
    assert genesis.coin.header.parent.hex() == case["parent"]
    assert genesis.coin.header.lock.hex() == case["lock"]
    assert genesis.coin.header.body_root.hex() == case["body_root"]
    assert genesis.coin.header.to_bytes().hex() == case["header"]
    assert genesis.id.hex() == case["id"]
    assert genesis.id.hex()[:8] == case["p2p_tag"]
    assert body_root(genesis.body) == genesis.coin.header.body_root
    assert state_root(0, 0, 0, ()).hex() == case["state_root_after"]
    assert genesis.history.root().hex() == case["history_root_after"]
    empty = GENESIS["empty_body"]
    assert merkle_root(genesis.body.fresh).hex() == empty["list_root"]
    assert genesis.body.state_root.hex() == empty["state_root"]
    assert genesis.body.history_root.hex() == empty["history_root"]


def test_networks_are_known_by_name() -> None:
    assert list(NETWORKS) == ["main", "test", "local", "reg"]
    assert len({network.chain_id for network in NETWORKS.values()}) == len(NETWORKS)
    assert len({network.address_prefix for network in NETWORKS.values()}) == len(NETWORKS)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_derived_constants(network: Network) -> None:
    assert network.max_listed == 16 * network.coins_per_epoch
    assert network.grade_target(network.target0) == network.target0 // network.coins_per_epoch


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_amounts(network: Network) -> None:
    assert network.subsidy == AMOUNTS["anchor"] == AMOUNTS["fresh"]
    assert stray_value(network) == AMOUNTS["stray"]
    for age, value in AMOUNTS["late"].items():
        assert late_value(int(age), network) == value


@pytest.mark.parametrize("case", AMOUNTS["pool"], ids=lambda case: str(case["before"]))
def test_the_pool(case: Any) -> None:
    share = pool_share(case["before"] + case["fees"])
    assert share == case["share"]
    assert REG.subsidy + share == case["own_coin"]
    assert case["before"] + case["fees"] - share == case["after"]


@pytest.mark.parametrize("case", TARGETS, ids=label)
def test_targets(case: Any) -> None:
    target = child_target(
        NETWORKS[case["network"]], anchor_height=1, elapsed_ms=case["elapsed_ms"], n=case["n"]
    )
    assert target == int(case["target"], 16)
