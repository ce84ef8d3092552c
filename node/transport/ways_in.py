"""What others reach a node by beside the addresses of its machine, as its settings say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.config import NetworkConfig
from unchained.node.base.ports import DEFAULT_PORTS, LONE_NETWORKS
from unchained.node.transport.libp2p.host import Libp2pTransport
from unchained.node.transport.onion_service import OnionService, TorPlace
from unchained.node.transport.port_mapping import PortMapping
from unchained.node.transport.upnp import UpnpGateway


class WayIn(Protocol):
    """One of them."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it open until cancelled, while the transport runs."""


def ways_in_of(
    config: NetworkConfig,
    network: str,
    transport: Libp2pTransport,
    data_dir: Path,
    log: FilteringBoundLogger,
) -> Mapping[str, WayIn]:
    """Return them by the names of their services. Raises `OnionKeyError`."""
    ways: dict[str, WayIn] = {}
    if config.port_mapping == "auto" and network not in LONE_NETWORKS and not config.proxy:
        ways["port mapping"] = PortMapping(UpnpGateway(), transport, log)
    if config.tor_control:
        tor = TorPlace.parse(
            config.tor_control,
            config.tor_password_file,
            cookie_file=config.tor_cookie_file,
            is_trusted=config.tor_trusted,
        )
        port = DEFAULT_PORTS[network].peers
        ways["onion service"] = OnionService(tor, data_dir, port, transport.onion, log)
    return ways


def onion_is_apart(config: NetworkConfig) -> bool:
    """Return whether all who come through an onion service are known by that: one that the operator
    has set up leads to where all come in."""
    by_hand = any(text.startswith("/onion3/") for text in config.announce)
    return bool(config.tor_control) and not by_hand
