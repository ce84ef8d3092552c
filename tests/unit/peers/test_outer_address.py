from __future__ import annotations

import structlog

from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.peers.outer_address import OuterAddress
from unchained.node.transport.address import Address
from unchained.node.transport.contract import Direction, PeerId, PeerIdentified, PeerInfo
from unchained.node.transport.libp2p.listener import outer

OUTER = "8.8.4.4"


class Announced:
    def __init__(self) -> None:
        self.ips: list[str] = []

    def set_outer(self, ip: str) -> bool:
        self.ips.append(ip)
        return True


def said(*words: tuple[str, str], direction: Direction = Direction.OUTBOUND) -> list[str]:
    """Return what is announced after peers at addresses have said where they see us."""
    announced = Announced()
    weighed = OuterAddress(announced, NetworkGroups(), structlog.get_logger())
    for ip, seen_at in words:
        info = PeerInfo(PeerId(ip), ip, f"/ip4/{ip}/tcp/1", direction, 0.0)
        weighed.note(PeerIdentified(info, observed=seen_at))
    return announced.ips


def test_two_peers_of_different_networks_are_believed() -> None:
    assert said(("20.1.0.1", OUTER), ("20.2.0.1", OUTER)) == [OUTER]
    assert said(("20.1.0.1", "8.8.8.8"), ("20.2.0.1", OUTER), ("20.3.0.1", OUTER)) == [OUTER]


def test_one_network_is_not_and_neither_are_those_who_dialled_us() -> None:
    assert said(("20.1.0.1", OUTER), ("20.1.9.9", OUTER)) == []
    assert said(("20.1.0.1", OUTER), ("20.2.0.1", "8.8.8.8")) == []
    assert said(("20.1.0.1", OUTER), ("20.1.0.2", "8.8.8.8"), ("20.2.0.1", OUTER)) == []
    inbound = Direction.INBOUND
    assert said(("20.1.0.1", OUTER), ("20.2.0.1", OUTER), direction=inbound) == []


def test_a_few_liars_do_not_outvote_more_witnesses_and_a_new_address_is_soon_believed() -> None:
    honest = [(f"20.{number}.0.1", OUTER) for number in range(6)]
    liars = [(f"66.{number}.0.1", "66.66.66.66") for number in range(2)]
    assert set(said(*honest, *liars)) == {OUTER}
    moved = [(f"30.{number}.0.1", "8.8.9.9") for number in range(5)]
    assert said(*honest, *moved)[-1] == "8.8.9.9"
    both = [("2a00::1", "2600::1"), ("2a01::1", "2600::1")]
    assert said(*honest, *both)[-1] == "2600::1"


def test_private_addresses_say_nothing() -> None:
    assert said(("20.1.0.1", "192.168.1.9"), ("20.2.0.1", "192.168.1.9")) == []
    assert said(("192.168.1.2", OUTER), ("10.0.0.1", OUTER)) == []
    assert said(("20.1.0.1", ""), ("20.2.0.1", "")) == []


def test_it_leads_to_what_listens_on_all_addresses_of_its_kind() -> None:
    bound = [
        Address("ip4", "0.0.0.0", 4031),
        Address("ip4", "127.0.0.1", 5),
        Address("ip6", "::", 6),
    ]
    assert outer(bound, OUTER, PeerId("x")) == [f"/ip4/{OUTER}/tcp/4031/p2p/x"]
    assert outer(bound, "2600::1", PeerId("x")) == ["/ip6/2600::1/tcp/6/p2p/x"]
    assert outer(bound[1:2], OUTER, PeerId("x")) == []
