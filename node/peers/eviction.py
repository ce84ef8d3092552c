"""Which inbound peer makes room when all places are taken and another one comes.

Who fills all places of a node decides what it hears. So nobody keeps one by having come first: the
peers that an attacker could replace only at a price are spared, by several measures that have
nothing to do with each other, and of the rest one goes (after Bitcoin Core's node/eviction.cpp).
Nor does anybody keep the others out by sitting in the places of visitors and saying nothing.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
from blake3 import blake3

from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.transport.address_groups import host_group
from unchained.node.transport.contract import PeerId, PeerInfo

SPARED_BY_NETWORK: Final = 4
"""By a secret order of networks: nobody can know where to come from to be spared."""
SPARED_BY_ROUND_TRIP: Final = 8
"""The nearest: many addresses are easily had, but not in the same place as an honest peer's."""
SPARED_BY_NEWS: Final = 4
"""Of each kind of news, those who brought some last: proofs of work cannot be made up."""


class News(enum.Enum):
    """What a peer can be the first to bring."""

    COIN = "coin"
    ANCHOR = "anchor"
    TRANSFER = "transfer"


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An inbound peer, as far as eviction compares it. Times are Trio's, in seconds."""

    peer: PeerId
    network: str
    since: float
    round_trip_s: float = math.inf
    """The shortest that was seen."""
    news: Mapping[News, float] = {}
    """When it last brought what nobody had brought before."""


def choose(candidates: Sequence[Candidate], secret: bytes) -> PeerId | None:
    """Return who is to go, None if all are spared; `secret`, of 32 bytes, orders networks."""
    left = list(candidates)

    def spare(count: int, worth: Callable[[Candidate], float]) -> None:
        left.sort(key=worth)
        del left[max(0, len(left) - count) :]

    spare(SPARED_BY_NETWORK, lambda it: _rank(it.network, secret))
    spare(SPARED_BY_ROUND_TRIP, lambda it: -it.round_trip_s)
    for kind in News:
        bringers = sum(kind in it.news for it in left)
        spare(min(SPARED_BY_NEWS, bringers), partial(_last_news, kind=kind))
    # To have stayed for long costs time, however many addresses there are.
    spare(len(left) // 2, lambda it: -it.since)
    if not left:
        return None
    members = Counter(it.network for it in left)
    # Of the network that has most, the youngest.
    return max(left, key=lambda it: (members[it.network], it.since)).peer


def choose_visitor(visitors: Sequence[PeerInfo], groups: NetworkGroups) -> PeerId:
    """Return who of the visitors, one at least, is to go when their places are taken: the oldest of
    the host that has most of the network that has most."""
    of_network = Counter(groups.of(it.ip) for it in visitors)
    of_host = Counter(host_group(it.ip, it.peer) for it in visitors)

    def rank(it: PeerInfo) -> tuple[int, int, float]:
        return of_network[groups.of(it.ip)], of_host[host_group(it.ip, it.peer)], -it.since

    return max(visitors, key=rank).peer


def _last_news(candidate: Candidate, kind: News) -> float:
    return candidate.news.get(kind, -math.inf)


def _rank(network: str, secret: bytes) -> int:
    return int.from_bytes(blake3(network.encode(), key=secret).digest()[:8], "big")
