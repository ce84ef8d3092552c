"""What follows from the table of §10; the table itself is compared with known answers."""

from __future__ import annotations

import msgspec
import pytest

from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.params import LOCAL, MAIN, NETWORKS, REG, TEST


def test_work_is_how_many_hashes_a_target_takes_on_average() -> None:
    """§2: `floor(2**256 / (target + 1))`"""
    for target, hashes in (
        (0, 2**256),
        (1, 2**255),
        (2, 2**256 // 3),
        (3, 2**254),
        (2**255, 1),
        (2**256 - 2, 1),
        (2**256 - 1, 1),
    ):
        assert work(target) == hashes


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
