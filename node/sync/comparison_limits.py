"""How often peers are asked for votes: honest ones behind one address each have their share, and
whoever comes under ever new names has no more than a few."""

from __future__ import annotations

from typing import Final

from unchained.node.base.token_bucket import KeyedTokenBuckets
from unchained.node.transport.address_groups import network_of_host

COMPARISONS_BURST: Final = 8
COMPARISONS_PER_EPOCH: Final = 4.0
"""How often a peer is asked for votes: the whole tree above the fork is weighed for it, by the
chain's writer. Both tips change once an epoch; who changes his more often is looked at later."""
SHARES_OF_HOST: Final = 4
"""All of an address have so many peers' share together: as many as it has connections."""
SHARES_OF_NETWORK: Final = 16
"""The same of a network: IPv4 /16, IPv6 /32, all visitors of an onion service."""


class ComparisonLimits:
    """What is left of that to each peer, address and network. Times in seconds."""

    def __init__(self, epoch_s: float) -> None:
        per_second = COMPARISONS_PER_EPOCH / epoch_s
        self._levels = tuple(
            KeyedTokenBuckets(shares * COMPARISONS_BURST, shares * per_second)
            for shares in (1, SHARES_OF_HOST, SHARES_OF_NETWORK)
        )

    def take(self, peer: str, host: str, now: float) -> bool:
        """Take a turn if a peer, its `host_group` and its network have one left; return whether
        they had."""
        keys = (peer, host, network_of_host(host))
        levels = list(zip(self._levels, keys, strict=True))
        if any(buckets.level(key, now) < 1.0 for buckets, key in levels):
            return False
        for buckets, key in levels:
            buckets.take(key, now)
        return True
