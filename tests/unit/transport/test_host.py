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
    transport._bound = [Address("ip4", "0.0.0.0", 4031)]
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


@pytest.mark.parametrize(
    "config",
    [HostConfig(announce=("/ip4/9.9.9.9/tcp/1",)), HostConfig(proxy="127.0.0.1:9050")],
    ids=["announced", "hidden"],
)
def test_it_is_not_where_the_operator_or_a_proxy_says_otherwise(config: HostConfig) -> None:
    transport = listening(config)
    assert not transport.set_outer("8.8.4.4")
    assert not any("8.8.4.4" in text for text in transport.addresses())
