"""The network of one node, joined: peers, relay, sync, and what they serve, on a transport.

Constructed before the transport runs. Order of starting: the chain, then `services()`, of which
the transport is the first.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import Runner
from unchained.node.base.services import ServiceEndedError, ServiceRun
from unchained.node.chain.service import ChainService
from unchained.node.consensus.genesis import genesis_of
from unchained.node.peers.dialler import PeerSettings
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.outer_address import OuterAddress
from unchained.node.peers.peer_statistics import PeerStatistics
from unchained.node.peers.seeds import Resolver
from unchained.node.relay.fetcher import Fetcher
from unchained.node.relay.relay import Relay, RelayStatistics
from unchained.node.relay.serve_chain import serve_chain
from unchained.node.relay.stem import StemRouter, StemStatistics
from unchained.node.sync.own_status import OwnStatus
from unchained.node.sync.service import SyncService, SyncSettings, SyncStatistics
from unchained.node.transport.contract import Transport, TransportStatistics
from unchained.storage.kv import KeyValueStore

if TYPE_CHECKING:
    from unchained.node.transport.ways_in import WayIn


class NetworkStatistics(msgspec.Struct, frozen=True):
    """A snapshot of every part."""

    transport: TransportStatistics
    peers: PeerStatistics
    relay: RelayStatistics
    stem: StemStatistics
    sync: SyncStatistics


class NodeNetwork:
    """All that joins a chain to others; `synced` says whether it may mine."""

    def __init__(
        self,
        chain: ChainService,
        transport: Transport,
        store: KeyValueStore,
        *,
        peer_settings: PeerSettings,
        sync_settings: SyncSettings,
        clock: Clock,
        rng: random.Random,
        writer: Runner,
        log: FilteringBoundLogger,
        resolver: Resolver | None = None,
        ways_in: Mapping[str, WayIn] | None = None,
    ) -> None:
        """`writer` is one thread: it saves what peers are known, and reads the headers that are
        served. `ways_in` have the names of their services. Raises `BadAddressError`."""
        genesis_id = genesis_of(chain.network).id
        self._ways_in = dict(ways_in or {})
        self.transport = transport
        self.status = OwnStatus(chain, genesis_id, clock)
        self.peers = PeerManager(
            transport,
            store,
            peer_settings,
            genesis_id=genesis_id,
            own_status=self.status,
            clock=clock,
            rng=rng,
            writer=writer,
            log=log,
            resolver=resolver,
        )
        transport.observe(OuterAddress(transport, peer_settings.groups, log).note)
        serve_chain(chain, store, writer, self.peers.exchanges)
        fetcher = Fetcher(chain.network, chain.queries, self.peers.exchanges, self.peers.reputation)
        self.sync = SyncService(
            chain,
            self.peers,
            fetcher,
            settings=sync_settings,
            clock=clock,
            rng=rng,
            log=log,
        )
        self.stem = StemRouter(
            chain, transport, self.peers, genesis_id=genesis_id, rng=rng, log=log
        )
        self.relay = Relay(
            chain,
            transport,
            fetcher,
            self.peers,
            self.sync,
            self.stem,
            genesis_id=genesis_id,
            rng=rng,
            log=log,
        )

    @property
    def synced(self) -> Watch[bool]:
        """Whether mining makes sense."""
        return self.sync.synced

    def services(self) -> list[tuple[str, ServiceRun]]:
        """Return what runs, in the order of starting; the transport first."""
        return [
            ("transport", self._run_transport),
            ("peers", self.peers.run),
            ("relay", self.relay.run),
            ("stem", self.stem.run),
            ("sync", self.sync.run),
            *((name, way_in.run) for name, way_in in self._ways_in.items()),
        ]

    async def _run_transport(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await self.transport.run(task_status)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all of it until cancelled; started when all parts are."""
        async with trio.open_nursery() as nursery:
            for name, service in self.services():
                part = f"network.{name}"
                await nursery.start(_run_part, part, service, name=part)
            task_status.started()

    def statistics(self) -> NetworkStatistics:
        """Return a snapshot of every part."""
        return NetworkStatistics(
            self.transport.statistics(),
            self.peers.statistics(),
            self.relay.statistics(),
            self.stem.statistics(),
            self.sync.statistics(),
        )


async def _run_part(
    name: str, run: ServiceRun, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a part until cancelled. Raises `ServiceEndedError` if it ends by itself: without it the
    others would go on, and the node would seem well."""
    await run(task_status=task_status)
    raise ServiceEndedError(name)
