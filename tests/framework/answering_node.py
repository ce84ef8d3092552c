"""A node of a simulated network with all that its RPC server works on, in one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import trio

from tests.framework.simulation.simnet import BACKEND, SimNet, SimNode
from tests.framework.wallets import CHEAP
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.base.runner import InlineRunner
from unchained.node.observe.task_trace import TraceRecorder
from unchained.node.observe.task_tree import task_tree
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.rpc.http.criterion import Readiness
from unchained.node.rpc.http.rpc_settings import RpcSettings
from unchained.node.rpc.http.server import Server
from unchained.node.rpc.methods.debug import TaskReport
from unchained.node.rpc.methods.node import LogLevel
from unchained.node.rpc.methods.series import SeriesFound, SeriesShown
from unchained.node.rpc.node_server import ServerParts, node_server
from unchained.node.wallet.manager import WalletManager


class NoParts:
    """A process of which nothing is counted."""

    def by_name(self) -> Mapping[str, Any]:
        return {}


class Process:
    """The process around the node, which keeps levels and counts how often it shall stop."""

    log_level: LogLevel = "info"
    setting_rows: Sequence[tuple[str, str, str]] = (("node.network", '"reg"', "default"),)
    parts: Any = NoParts()

    def __init__(self) -> None:
        self.stops = 0
        self._levels: dict[str, str] = {}

    def request_stop(self, _reason: str) -> None:
        self.stops += 1

    def set_log_level(self, level: LogLevel, subsystem: str | None = None) -> None:
        if subsystem is None:
            self._levels.clear()
        else:
            self._levels[subsystem] = level

    def log_levels(self) -> Mapping[str, str]:
        return self._levels


class NoSeries:
    """A memory of no series."""

    def known(self) -> Mapping[str, SeriesShown]:
        return {}

    def found(self, names: Sequence[str], since_ms: int) -> SeriesFound:
        raise AssertionError("there are no series to be asked for")


class Tasks:
    """The tasks as they are, and nothing that is measured of them."""

    def report(self) -> TaskReport:
        return TaskReport(tasks=task_tree(None), channels={}, threads={}, slowest=[])


class Ready:
    """A node that can be relied upon."""

    def check(self) -> Readiness:
        return Readiness(True, {"peers": "ok"})


async def answering(
    net: SimNet,
    node: SimNode,
    folder: Path,
    process: Process,
    *,
    settings: RpcSettings | None = None,
    randomness: Randomness = SYSTEM,
) -> Server:
    """Return the server of a node that runs, with wallets whose passphrases take no time."""
    assert net.nursery is not None
    clock = TrioClock(net.start_ms + int(trio.current_time() * 1000))
    log = structlog.get_logger()
    wallets = WalletManager(
        folder / "wallets",
        WalletLink(node.chain, node.store, node.network.stem, clock=clock, runner=InlineRunner()),
        clock=clock,
        runner=InlineRunner(),
        log=log,
        cost=CHEAP,
        randomness=randomness,
    )
    await net.nursery.start(lambda task_status: wallets.run(task_status=task_status))
    synced: Watch[bool] = Watch(True)
    parts = ServerParts(
        chain=node.chain,
        intake=node.network.stem,
        store=node.store,
        data_dir=folder,
        clock=clock,
        runner=InlineRunner(),
        backend=BACKEND,
        log=log,
        control=process,
        miner=None,
        payout=node.payout,
        synced=synced,
        readiness=Ready(),
        series=NoSeries(),
        tasks=Tasks(),
        traces=TraceRecorder(folder, InlineRunner()),
        network=node.network,
        wallets=wallets,
    )
    return node_server(parts, settings or RpcSettings(folder))
