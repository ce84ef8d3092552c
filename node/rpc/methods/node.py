"""node.* and debug.*: the node as a whole."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Protocol, cast

import msgspec
from msgspec import Meta

from unchained.node.base.clock import Clock
from unchained.node.base.process_parts import ProcessParts
from unchained.node.base.user_text import user_text
from unchained.node.chain.service import ChainService
from unchained.node.mining.own_miner import OwnMiner
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash
from unchained.node.rpc.http.criterion import ReadinessSource
from unchained.node.rpc.http.readiness import GreetedPeers

SUBSYSTEM: Final = r"^[a-z][a-z_]*$"
SUBSYSTEM_WORDS: Final = "at most 32 lower-case letters or _, a letter first"

LogLevel = Literal["debug", "info", "warning", "error"]


class Control(Protocol):
    """What the process around the node lets a caller do and see."""

    @property
    def log_level(self) -> LogLevel:
        """The level of the log at the start."""

    @property
    def setting_rows(self) -> Sequence[tuple[str, str, str]]:
        """Key, value as text and origin of each setting, secrets masked."""

    @property
    def parts(self) -> ProcessParts:
        """The process's own parts."""

    def request_stop(self, reason: str) -> None:
        """Begin a stop in good order."""

    def set_log_level(self, level: LogLevel, subsystem: str | None = None) -> None:
        """Change the level of the log, or of one subsystem's events."""

    def log_levels(self) -> Mapping[str, str]:
        """Return the levels of the subsystems that have one of their own."""


@user_text("A better chain that would undo more than the node undoes by itself (Protocol §6).")
class ReorgInfo(msgspec.Struct, frozen=True):
    fork_height: int
    depth: int
    winner: Hash


@user_text(
    """The node at a glance. Times in ms; `hashrate` in hashes per second, 0 where it does not mine;
    `pool` holds the fees that no anchor's coin has received yet (Protocol §5.4); `last_event` is
    the number of the newest event of /events. `peers` is missing where the node has no network."""
)
class NodeStatus(msgspec.Struct, frozen=True):
    version: str
    network: str
    genesis: Hash
    uptime_ms: int
    height: int
    tip: Hash
    tip_time: int
    tip_age_ms: int
    supply: Amount
    pool: Amount
    ready: bool
    checks: Mapping[str, str]
    mempool_transfers: int
    mempool_bytes: int
    mining: bool
    hashrate: float
    peers: int | None
    last_event: int
    refused_reorg: ReorgInfo | None
    clock_behind_ms: int


@user_text("Versions of the node and of what it runs on.")
class Version(msgspec.Struct, frozen=True):
    unchained: str
    python: str
    system: str


@user_text("One setting; secrets are masked. `origin` says where the value comes from.")
class Setting(msgspec.Struct, frozen=True):
    key: str
    value: str
    origin: str


class NodeRoom:
    """Methods about the node as a whole."""

    def __init__(
        self,
        chain: ChainService,
        genesis: bytes,
        control: Control,
        clock: Clock,
        *,
        readiness: ReadinessSource,
        miner: OwnMiner | None,
        peers: GreetedPeers | None,
    ) -> None:
        self._chain = chain
        self._genesis = genesis
        self._control = control
        self._level = control.log_level
        self._clock = clock
        self._began_ms = clock.now_ms()
        self._readiness = readiness
        self._miner = miner
        self._peers = peers

    @method("node.status", Access.READ)
    @user_text("Return the state of the node at a glance.")
    async def status(self) -> NodeStatus:
        status = self._chain.status.value
        now_ms = self._clock.now_ms()
        readiness = self._readiness.check()
        refused = status.refused
        return NodeStatus(
            importlib.metadata.version("unchained"),
            self._chain.network.name,
            Hash(self._genesis),
            now_ms - self._began_ms,
            status.height,
            Hash(status.tip),
            status.tip_time,
            max(0, now_ms - status.tip_time),
            Amount(status.supply),
            Amount(status.pool),
            readiness.ready,
            readiness.checks,
            status.mempool.transfers,
            status.mempool.bytes,
            self._miner is not None and self._miner.mines(),
            0.0 if self._miner is None else self._miner.pool.statistics().rate,
            None if self._peers is None else len(self._peers.greeted()),
            status.next_event,
            None
            if refused is None
            else ReorgInfo(refused.fork_height, refused.depth, Hash(refused.winner)),
            status.clock_behind_ms,
        )

    @method("node.stop", Access.FULL)
    @user_text("Stop the node in good order; the answer comes before it is gone.")
    async def stop(self) -> bool:
        self._control.request_stop("rpc")
        return True

    @method("node.version", Access.PUBLIC)
    @user_text("Return the versions of the node and of what it runs on.")
    async def version(self) -> Version:
        return Version(
            importlib.metadata.version("unchained"),
            platform.python_version(),
            f"{platform.system()} {platform.machine()}",
        )

    @method("node.config", Access.FULL)
    @user_text("Return every setting that the node was started with, and where each comes from.")
    async def config(self) -> list[Setting]:
        return [Setting(*row) for row in self._control.setting_rows]

    @method("node.log_level", Access.FULL)
    @user_text(
        """Return the least level of the events that are logged, after setting it if one is given.

        With a subsystem, the first word of its events' names (`net`, `chain`, `wallet`), it is that
        subsystem's. It holds until the node starts again, or the level of all is set.
        """
    )
    async def log_level(
        self,
        level: LogLevel | None = None,
        subsystem: Annotated[
            str, Meta(pattern=SUBSYSTEM, max_length=32, extra={"expected": SUBSYSTEM_WORDS})
        ]
        | None = None,
    ) -> LogLevel:
        if level is not None:
            self._control.set_log_level(level, subsystem)
            if subsystem is None:
                self._level = level
        if subsystem is None:
            return self._level
        return cast(LogLevel, self._control.log_levels().get(subsystem, self._level))
