"""The addresses that a node gives to others, once it has learnt its outer one."""

from __future__ import annotations

import pytest
import structlog

from unchained.node.transport.address import Address
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport

OURS = Identity.from_seed(bytes(32))


def listening(config: HostConfig) -> Libp2pTransport:
    """Return a transport as if it listened on all addresses, without doing so."""
    transport = Libp2pTransport(config, OURS, structlog.get_logger())
    transport._own.bind([Address("ip4", "0.0.0.0", 4031)])
    return transport


def test_the_outer_address_is_announced_beside_those_of_the_machine() -> None:
    transport = listening(HostConfig())
    assert transport.set_outer("8.8.4.4")
    assert transport.addresses()[-1] == f"/ip4/8.8.4.4/tcp/4031/p2p/{OURS.peer}"
    assert len(transport.addresses()) > 1
    assert not transport.set_outer("8.8.4.4")
    # Another one takes its place.
    assert transport.set_outer("9.9.9.9")
    assert not any("8.8.4.4" in text for text in transport.addresses())
    # Nothing listens there.
    assert not transport.set_outer("2600::1")


def test_outer_addresses_of_both_families_are_announced_beside_each_other() -> None:
    transport = listening(HostConfig())
    transport._own.bind([Address("ip4", "0.0.0.0", 4031), Address("ip6", "::", 4031)])
    assert transport.set_outer("8.8.4.4")
    assert transport.set_outer("2600::1")
    both = [f"/ip4/8.8.4.4/tcp/4031/p2p/{OURS.peer}", f"/ip6/2600::1/tcp/4031/p2p/{OURS.peer}"]
    assert list(transport.addresses()[-2:]) == both
    # Neither is news again, however often they are said by turns.
    assert not any(transport.set_outer(ip) for ip in ("8.8.4.4", "2600::1", "8.8.4.4"))
    assert transport.set_outer("2600::2")
    assert not any("2600::1/" in text for text in transport.addresses())
    assert both[0] in transport.addresses()
    assert len(set(transport.addresses())) == len(transport.addresses())


@pytest.mark.parametrize(
    "config",
    [HostConfig(announce=("/ip4/9.9.9.9/tcp/1",)), HostConfig(proxy="127.0.0.1:9050")],
    ids=["announced", "hidden"],
)
def test_it_is_not_where_the_operator_or_a_proxy_says_otherwise(config: HostConfig) -> None:
    transport = listening(config)
    assert not transport.set_outer("8.8.4.4")
    assert not any("8.8.4.4" in text for text in transport.addresses())
