"""Which inbound peer makes room."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from unchained.node.peers.eviction import (
    SPARED_BY_NETWORK,
    SPARED_BY_NEWS,
    SPARED_BY_ROUND_TRIP,
    Candidate,
    News,
    choose,
    choose_visitor,
)
from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.transport.contract import Direction, PeerId, PeerInfo

SECRET = b"s" * 32
SPARED = SPARED_BY_NETWORK + SPARED_BY_ROUND_TRIP


def peer(
    number: int,
    network: str = "1.2.0.0/16",
    since: float = 0.0,
    round_trip_s: float = math.inf,
    news: dict[News, float] | None = None,
) -> Candidate:
    return Candidate(PeerId(f"peer{number}"), network, since, round_trip_s, news or {})


def flood(count: int, network: str, since: float) -> list[Candidate]:
    """Return peers that came one after the other, from one network, each nearer than the last."""
    return [
        peer(1000 + number, network, since + number, 1.0 - number / 1000) for number in range(count)
    ]


def evictions(candidates: Sequence[Candidate], secret: bytes = SECRET) -> list[PeerId]:
    """Return who goes, one after the other, until all that are left are spared."""
    left, gone = list(candidates), []
    while (found := choose(left, secret)) is not None:
        gone.append(found)
        left = [it for it in left if it.peer != found]
    return gone


def test_few_are_all_spared() -> None:
    assert choose([], SECRET) is None
    assert choose(flood(SPARED, "6.6.0.0/16", 0), SECRET) is None
    assert choose(flood(SPARED + 1, "6.6.0.0/16", 0), SECRET) is not None


def test_the_youngest_of_the_greatest_network_goes() -> None:
    honest = [peer(number, f"{number}.2.0.0/16", since=500 + number) for number in range(1, 20)]
    bad = flood(30, "66.6.0.0/16", since=100)
    # The flood is nearer, so eight of it are spared, not the youngest of the rest.
    expected = max(bad[:-SPARED_BY_ROUND_TRIP], key=lambda it: it.since)
    assert choose([*honest, *bad], SECRET) == expected.peer


def test_who_has_brought_news_of_any_kind_stays() -> None:
    bad = flood(60, "66.6.0.0/16", since=0)
    for kind in News:
        friends = [
            peer(number, "66.6.0.0/16", since=1000 + number, news={kind: float(number)})
            for number in range(SPARED_BY_NEWS)
        ]
        gone = evictions([*bad, *friends])
        assert gone
        assert not set(gone) & {it.peer for it in friends}


def test_half_of_the_rest_stay_for_having_stayed() -> None:
    # Of one network and equally far: 12 are spared in any case, then the older half.
    everybody = [peer(number, since=float(number), round_trip_s=1.0) for number in range(52)]
    shuffled = random.Random(1).sample(everybody, len(everybody))
    assert choose(shuffled, SECRET) in {it.peer for it in everybody[20:]}


def test_which_networks_are_spared_is_a_secret() -> None:
    everybody = [
        peer(number, f"{number}.1.0.0/16", since=float(number), round_trip_s=1.0)
        for number in range(SPARED + 8)
    ]
    gone = {choose(everybody, bytes([secret]) * 32) for secret in range(32)}
    assert len(gone) > 1


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.floats(0, 1e6),
            st.floats(0, 10),
            st.dictionaries(st.sampled_from(News), st.floats(0, 1e6)),
        ),
        max_size=80,
    )
)
def test_one_of_them_goes_unless_there_are_few(
    drawn: list[tuple[int, float, float, dict[News, float]]],
) -> None:
    everybody = [
        Candidate(PeerId(str(number)), f"{group}.1.0.0/16", since, trip, news)
        for number, (group, since, trip, news) in enumerate(drawn)
    ]
    gone = choose(everybody, SECRET)
    if gone is None:
        assert len(everybody) <= SPARED + SPARED_BY_NEWS * len(News)
    else:
        assert gone in {it.peer for it in everybody}
        assert len(everybody) > SPARED


def visitors_gone(*ips: str) -> str:
    """Return which goes of visitors that came from these addresses, one after the other."""
    visitors = [
        PeerInfo(PeerId(f"peer{number}"), ip, "", Direction.INBOUND, float(number))
        for number, ip in enumerate(ips)
    ]
    gone = choose_visitor(visitors, NetworkGroups())
    return f"{next(it.ip for it in visitors if it.peer == gone)} {gone}"


def test_the_oldest_visitor_of_the_greatest_host_of_the_greatest_network_goes() -> None:
    assert visitors_gone("1.1.0.1", "2.1.0.1", "3.1.0.1", "4.1.0.1") == "1.1.0.1 peer0"
    assert visitors_gone("1.1.0.1", "2.1.0.1", "2.1.0.1", "2.1.0.1") == "2.1.0.1 peer1"
    assert visitors_gone("1.1.0.1", "2.1.0.1", "3.1.0.1", "2.1.0.2") == "2.1.0.1 peer1"
    assert visitors_gone("1.1.0.1", "2.1.0.1", "2.1.0.2", "2.1.0.2") == "2.1.0.2 peer2"
    # All nodes of this machine have one address, but are not one.
    assert visitors_gone("1.1.0.1", "127.0.0.1", "127.0.0.1", "2.1.0.2") == "127.0.0.1 peer1"
