"""Peers, addresses and networks each have so much of it, and no more."""

from __future__ import annotations

from unchained.node.sync.comparison_limits import (
    COMPARISONS_BURST,
    COMPARISONS_PER_EPOCH,
    SHARES_OF_HOST,
    SHARES_OF_NETWORK,
    ComparisonLimits,
)
from unchained.node.transport.address_groups import ONION_VISITOR, host_group
from unchained.node.transport.contract import PeerId

EPOCH_S = 60.0
MANY = 3 * SHARES_OF_NETWORK * COMPARISONS_BURST


def turns(limits: ComparisonLimits, *asking: tuple[str, str], now: float = 0.0) -> int:
    """Return how many of some peers, each with its host, have a turn."""
    return sum(limits.take(peer, host, now) for peer, host in asking)


def test_a_peer_has_its_share_whatever_another_behind_its_address_does() -> None:
    limits = ComparisonLimits(EPOCH_S)
    greedy, modest = ("greedy", "1.2.3.4"), ("modest", "1.2.3.4")
    assert turns(limits, *[greedy] * MANY) == COMPARISONS_BURST
    assert turns(limits, *[modest] * MANY) == COMPARISONS_BURST
    # As before: four times in each epoch.
    later = EPOCH_S
    assert turns(limits, *[greedy] * MANY, now=later) == COMPARISONS_PER_EPOCH


def test_ever_new_names_of_an_address_have_a_few_shares() -> None:
    limits = ComparisonLimits(EPOCH_S)
    names = [(f"name {number}", "1.2.3.4") for number in range(MANY)]
    assert turns(limits, *names) == SHARES_OF_HOST * COMPARISONS_BURST
    assert turns(limits, ("beside", "1.2.3.5")) == 1


def test_ever_new_addresses_of_a_network_have_a_few_more() -> None:
    limits = ComparisonLimits(EPOCH_S)
    hosts = [(f"name {number}", f"1.2.{number // 250}.{number % 250}") for number in range(MANY)]
    assert turns(limits, *hosts) == SHARES_OF_NETWORK * COMPARISONS_BURST
    assert turns(limits, ("beside", "1.3.0.1")) == 1


def test_the_visitors_of_an_onion_service_are_one_network() -> None:
    limits = ComparisonLimits(EPOCH_S)
    visitors = [PeerId(f"visitor {number}") for number in range(MANY)]
    asking = [(peer, host_group(ONION_VISITOR, peer)) for peer in visitors]
    assert turns(limits, *asking) == SHARES_OF_NETWORK * COMPARISONS_BURST
