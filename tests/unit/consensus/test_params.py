"""What follows from the table of §10; the table itself is compared with known answers."""

from __future__ import annotations

import msgspec
import pytest

from unchained.node.consensus.params import LOCAL, MAIN, NETWORKS, REG, TEST


@pytest.mark.parametrize("network", [MAIN, TEST, LOCAL, REG], ids=lambda network: network.name)
def test_what_a_body_may_list(network: object) -> None:
    assert isinstance(network, type(MAIN))
    assert network.max_listed == 16 * network.coins_per_epoch
    assert network.max_transfers == 4_096


def test_limits_follow_from_the_column() -> None:
    other = msgspec.structs.replace(REG, coins_per_epoch=7, max_body_size=10_239)
    assert other.max_listed == 112
    assert other.max_transfers == 9
    assert other.grade_target(69) == 9
    assert other.grade_target(70) == 10


def test_networks_go_by_their_names() -> None:
    assert list(NETWORKS) == ["main", "test", "local", "reg"]
    assert [NETWORKS[name] for name in NETWORKS] == [MAIN, TEST, LOCAL, REG]


TABLE: dict[str, tuple[int, int, int, int]] = {
    "chain_id": (0x554E4301, 0x554E4302, 0x554E4303, 0x554E4304),
    "birth_ms": (1_795_219_200_000,) * 4,
    "epoch_ms": (120_000, 60_000, 8_000, 1_000),
    "coins_per_epoch": (16, 8, 4, 4),
    "mem_kib": (16_384, 16_384, 1_024, 8),
    "tau_ms": (7_200_000, 3_600_000, 120_000, 0),
    "target0": (2**244, 2**244, 2**243, 2**254),
    "max_target": (2**246, 2**246, 2**250, 2**254),
    "future_limit_ms": (120_000, 60_000, 8_000, 7_200_000),
    "window": (16,) * 4,
    "maturity": (8, 8, 4, 1),
    "max_reorg": (720,) * 4,
    "max_body_size": (4_194_304,) * 4,
    "subsidy": (10**8,) * 4,
}
"""The table of §10, row by row."""


@pytest.mark.parametrize("row", TABLE)
def test_the_table_of_the_text(row: str) -> None:
    assert tuple(getattr(network, row) for network in (MAIN, TEST, LOCAL, REG)) == TABLE[row]
