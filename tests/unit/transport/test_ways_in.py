"""Which ways in a node has, by its settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from unchained.node.base.config import NetworkConfig
from unchained.node.transport.identity import Identity
from unchained.node.transport.libp2p.host import HostConfig, Libp2pTransport
from unchained.node.transport.ways_in import ways_in_of

MAPPED = NetworkConfig(port_mapping="auto")
BY_TOR = NetworkConfig(tor_control="127.0.0.1:9051")


@pytest.mark.parametrize(
    ("config", "network", "names"),
    [
        (NetworkConfig(), "main", set()),
        (MAPPED, "main", {"port mapping"}),
        (MAPPED, "test", {"port mapping"}),
        (MAPPED, "local", set()),
        (MAPPED, "reg", set()),
        (NetworkConfig(port_mapping="auto", proxy="127.0.0.1:9050"), "main", set()),
        (BY_TOR, "main", {"onion service"}),
        (BY_TOR, "local", {"onion service"}),
    ],
)
def test_a_node_has_the_ways_in_that_its_settings_name(
    config: NetworkConfig, network: str, names: set[str], tmp_path: Path
) -> None:
    log = structlog.get_logger()
    transport = Libp2pTransport(HostConfig(), Identity.from_seed(bytes(32)), log)
    assert set(ways_in_of(config, network, transport, tmp_path, log)) == names
