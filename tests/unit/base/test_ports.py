from __future__ import annotations

import re
from typing import get_args

import pytest

from unchained.node.base.config import HostPort, Network
from unchained.node.base.ports import DEFAULT_PORTS, places_to_listen, rpc_place, with_port


def test_every_network_has_ports_of_its_own() -> None:
    assert set(DEFAULT_PORTS) == set(get_args(Network))
    ports = [port for pair in DEFAULT_PORTS.values() for port in pair]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("network", "places"),
    [
        ("local", ("/ip4/127.0.0.1/tcp/auto",)),
        ("reg", ("/ip4/127.0.0.1/tcp/auto",)),
        ("test", ("/ip4/0.0.0.0/tcp/auto", "/ip6/::/tcp/auto")),
        ("main", ("/ip4/0.0.0.0/tcp/auto", "/ip6/::/tcp/auto")),
    ],
)
def test_what_auto_listens_on(network: str, places: tuple[str, ...]) -> None:
    assert places_to_listen(("auto",), network) == places
    assert places_to_listen(("auto", *places), network) == places
    assert places_to_listen(("auto",), network, has_ipv6=False) == places[:1]
    assert places_to_listen(("/ip4/1.2.3.4/tcp/5",), network) == ("/ip4/1.2.3.4/tcp/5",)
    assert places_to_listen((), network) == ()


def test_a_port_that_is_auto() -> None:
    assert with_port("/ip4/1.2.3.4/tcp/auto", 7) == ("/ip4/1.2.3.4/tcp/7", True)
    assert with_port("/ip4/1.2.3.4/tcp/8", 7) == ("/ip4/1.2.3.4/tcp/8", False)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("auto", ("127.0.0.1", 8675, True)),
        ("0.0.0.0:auto", ("0.0.0.0", 8675, True)),
        ("[::1]:80", ("::1", 80, False)),
        ("localhost:0", ("localhost", 0, False)),
    ],
)
def test_where_calls_are_answered(text: str, place: tuple[str, int, bool]) -> None:
    assert re.match(HostPort, text)
    assert rpc_place(text, "main") == place
