"""``db check --repair`` where what is left cannot be put right in place: the chain is made anew
from what is left, and peers are asked for the rest."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import structlog
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.app import make_network
from unchained.node.base.clock import SystemClock
from unchained.node.base.config import NetworkConfig
from unchained.node.base.node_threads import NodeThreads
from unchained.node.base.ports import LONE_NETWORKS
from unchained.node.base.settings import Settings
from unchained.node.chain.remains import (
    Remains,
    TakenIn,
    begin_chain,
    connect_again,
    put_loose,
    sweep_loose,
    take_in_again,
)
from unchained.node.chain.service import ChainService
from unchained.node.cli.progress import Show, progress
from unchained.node.consensus.params import NETWORKS, Network
from unchained.node.crypto.pow import default_backend
from unchained.node.primitives.types import CoinId
from unchained.node.sync.node_network import NodeNetwork
from unchained.storage.check import CheckReport, check
from unchained.storage.kv import KeyValueStore
from unchained.storage.maintenance import Apart
from unchained.storage.open import open_store
from unchained.storage.progress import Report

NOBODY_S: Final = 60.0
"""How long nobody may be reached before the rest is left to the node."""

NO_PROGRESS_S: Final = 120.0
"""How long peers may bring nothing before the rest is left to the node."""

LOOK_S: Final = 0.2
"""Seconds between looks at how far it is."""

WITHOUT_VISITORS: Final = ("/ip4/127.0.0.1/tcp/0",)
"""Where it listens that asks others and has nothing to tell yet."""


class Remade(msgspec.Struct, frozen=True):
    """A chain that was made anew: `anchors` out of what was left, the others up to `height` from
    peers; `votes` and `waiting` transfers that came back; `lost`: what did not, one line each."""

    kept: str | None
    anchors: int
    height: int
    before: int
    votes: int
    waiting: int
    lost: tuple[str, ...]
    report: CheckReport

    @property
    def whole(self) -> bool:
        """Whether nothing is missing any more that peers can give."""
        return self.report.sound and not self.lost


def remake(settings: Settings, kept: Path | None, report: Report) -> Remade:
    """Make the chain of a data directory anew; `kept`: where its damaged files are, if somebody has
    kept them. One that was cut off is gone on with. Raises a `StoreError`, and what joining the
    network raises."""
    network = NETWORKS[settings.config.node.network]
    apart = Apart(settings.data_dir, kept)
    with closing(apart):
        remains = Remains(apart.reader, network)
        remains.check_network()
        before = remains.height
        lost: list[str] = []
        with closing(open_store(settings.data_dir, network, create=True)) as store:
            begin_chain(store, network, remains)
            with progress("connecting again") as show:
                anchors, height, taken = trio.run(_connect, store, network, remains, show)
            if taken is None:
                # Only now, since a store that lists them itself takes twice the room for nothing.
                put_loose(store, remains)
                with progress("asking peers") as show:
                    height, taken, why = trio.run(
                        _fetch, settings, store, network, remains, before, show
                    )
                if why is not None:
                    lost.append(
                        f"heights {height + 1} to {before} are missing ({why}): "
                        "the node asks for them when it runs"
                    )
            sweep_loose(store)
            found = check(store, network, report)
        kept_at = None if apart.kept is None else str(apart.kept)
        lost += taken.lost
        apart.remove()
    return Remade(
        kept_at, anchors, height, before, taken.votes, taken.transfers, tuple(lost), found
    )


async def _connect(
    store: KeyValueStore, network: Network, remains: Remains, show: Show
) -> tuple[int, int, TakenIn | None]:
    """Connect what is left; return how many anchors, the height, and what came back beside them:
    None if it is too early for that."""
    chain = await _open(store, network, NodeThreads(_cores()))
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        anchors = await connect_again(chain, remains, show)
        height = chain.status.value.height
        taken = await take_in_again(chain, remains) if height >= remains.height else None
        nursery.cancel_scope.cancel()
    return anchors, height, taken


async def _fetch(
    settings: Settings,
    store: KeyValueStore,
    network: Network,
    remains: Remains,
    before: int,
    show: Show,
) -> tuple[int, TakenIn, str | None]:
    """Follow the peers; return the height, what came back beside, and why it is not the height
    that there was before, if so."""
    threads = NodeThreads(_cores())
    chain = await _open(store, network, threads)
    peers = await trio.to_thread.run_sync(
        make_network,
        _quiet(settings.config.network),
        settings.data_dir,
        chain,
        store,
        SystemClock(),
        _log(),
        threads.peers,
        network.name in LONE_NETWORKS,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        with trio.CancelScope() as networking:
            async with trio.open_nursery() as inner:
                await inner.start(peers.run)
                why = await _follow(chain, peers, before, show)
                networking.cancel()
        taken = await take_in_again(chain, remains)
        height = chain.status.value.height
        nursery.cancel_scope.cancel()
    return height, taken, why


async def _follow(chain: ChainService, peers: NodeNetwork, before: int, show: Show) -> str | None:
    """Wait until the chain is where its peers' are; return why it does not come there, if so."""
    now = trio.current_time()
    met = moved = now
    progress_seen = (-1, -1)
    while True:
        await trio.sleep(LOOK_S)
        now = trio.current_time()
        height = chain.status.value.height
        show(height, min(height, before), max(1, before))
        statistics = peers.sync.statistics()
        if (height, statistics.headers) != progress_seen:
            progress_seen = (height, statistics.headers)
            moved = now
        greeted = peers.peers.greeted()
        if greeted:
            met = now
        elif now - met > NOBODY_S:
            return f"no peer was reached in {NOBODY_S:g} s"
        statuses = [peers.peers.status_of(peer) for peer in greeted]
        tips = [status for status in statuses if status is not None]
        known = [await chain.queries.is_known(CoinId(status.tip)) for status in tips]
        highest = max((status.height for status in tips), default=before)
        followed = tips and all(known) and not statistics.syncing
        if followed and height >= min(before, highest):
            return None if height >= before else "no peer has them"
        if now - moved > NO_PROGRESS_S:
            return f"peers brought nothing in {NO_PROGRESS_S:g} s"


async def _open(store: KeyValueStore, network: Network, threads: NodeThreads) -> ChainService:
    return await ChainService.open(
        store,
        network,
        clock=SystemClock(),
        writer=threads.writer,
        verifier=threads.verifier,
        verifiers=_cores(),
        backend=default_backend(),
        log=_log(),
    )


def _quiet(config: NetworkConfig) -> NetworkConfig:
    """Return how somebody is on the network who only asks."""
    return msgspec.structs.replace(
        config, listen=WITHOUT_VISITORS, announce=(), port_mapping="off", tor_control=""
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _log() -> FilteringBoundLogger:
    log: FilteringBoundLogger = structlog.wrap_logger(None, processors=[_drop])
    return log


def _drop(*_: object) -> str:
    """Leave out what chain and network would log: progress is shown, the outcome is said."""
    raise structlog.DropEvent
