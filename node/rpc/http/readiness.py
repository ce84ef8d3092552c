"""`GET /readyz`: whether a node can be relied upon, one line for each reason to doubt it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Final, Protocol

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.base.number_words import duration, number_of
from unchained.node.base.ports import LONE_NETWORKS
from unchained.node.chain.service import ChainService
from unchained.node.peers.manager import CLOCKS_NEEDED
from unchained.node.rpc.http.criterion import OK, Criterion, Readiness
from unchained.node.sync.alone import NO_NETWORK, YOURS_ALONE, waiting_words
from unchained.storage.kv import StoreStatistics

LEAST_FREE_BYTES: Final = 512 << 20
"""Free space on the data directory's disk below which a node is not ready."""

CLOCK_OFFSET_S: Final = 30.0
"""Seconds between this machine's clock and the median of the peers' above which a node is not
ready: coins that it mines would come too early or too late for others."""


class OtherNetworks(Protocol):
    """Who knows the peers of other networks."""

    def networks(self) -> Sequence[str]:
        """Return the networks of those that were met a short while ago."""


class GreetedPeers(Protocol):
    """Who knows the peers that speak the node's protocol."""

    def greeted(self) -> Sized:
        """Return them."""

    @property
    def knows_others(self) -> bool:
        """Whether there is anybody to look for."""

    @property
    def strangers(self) -> OtherNetworks:
        """Who was parted from for their network."""

    def clock_offset_ms(self) -> int | None:
        """Return how far the peers' clocks are ahead of this one, None while that is unknown."""


class SyncTargets(Protocol):
    """Who knows how far sync has to go."""

    @property
    def lag(self) -> int:
        """Anchors that sync has still to fetch."""

    def alone_in_s(self) -> float | None:
        """Return after how many seconds a node that no peer has answered goes on by itself; None:
        it does not."""


class WritableStore(Protocol):
    """The store under a node."""

    def statistics(self) -> StoreStatistics:
        """Return what it has done since it was opened."""


class ReadinessCheck:
    """Looks at sync, peers, clock, disk and store. `peers` is None where the node has no network;
    `synced`: whether the chain is level with what peers claim."""

    def __init__(
        self,
        chain: ChainService,
        data_dir: Path,
        clock: Clock,
        *,
        synced: Watch[bool],
        peers: GreetedPeers | None,
        sync: SyncTargets | None = None,
        store: WritableStore | None = None,
    ) -> None:
        self._chain = chain
        self._data_dir = data_dir
        self._clock = clock
        self._synced = synced
        self._peers = peers
        self._sync_targets = sync
        self._store = store

    def check(self) -> Readiness:
        """Return the state of each check; ready if all say `ok`."""
        network = self._chain.network
        free, disk = self._disk()
        ahead_s = (self._chain.status.value.tip_time - self._clock.now_ms()) / 1000
        offset_ms = None if self._peers is None else self._peers.clock_offset_ms()
        offset_s = None if offset_ms is None else abs(offset_ms) / 1000
        peers = None if self._peers is None else len(self._peers.greeted())
        lag = None if self._sync_targets is None else self._sync_targets.lag
        failed = self._store is not None and self._store.statistics().failed
        store = "a write has failed: see the log, mend the disk, start again" if failed else OK
        criteria = (
            _criterion("synced", self._sync(), lag, 0, "anchors"),
            _criterion("peers", self._peer_count(), peers, 1, "peers"),
            _criterion("clock", self._time(), ahead_s, network.future_limit_ms / 1000, "seconds"),
            _criterion("clock_offset", _offset(offset_s), offset_s, CLOCK_OFFSET_S, "seconds"),
            _criterion("disk", disk, free, LEAST_FREE_BYTES, "bytes"),
            _criterion("store", store, int(failed), 0, "failures"),
        )
        return Readiness(
            all(criterion.met for criterion in criteria),
            {criterion.name: criterion.says for criterion in criteria},
            criteria,
        )

    def _sync(self) -> str:
        if self._chain.status.value.clock_behind_ms:
            return "the clock is behind the chain: see chain.clock_behind in the log"
        if self._chain.status.value.refused is not None:
            return "a better chain waits for the operator: see chain.reorg_refused in the log"
        if self._synced.value:
            return f"{OK}: height {self._chain.status.value.height:,}"
        if self._peers is None:
            return f"not known: {NO_NETWORK}"
        if not len(self._peers.greeted()):
            left_s = None if self._sync_targets is None else self._sync_targets.alone_in_s()
            return f"not known: {waiting_words(left_s)}"
        lag = 0 if self._sync_targets is None else self._sync_targets.lag
        more = f": {number_of(lag, 'anchor')} to fetch" if lag else ""
        return f"the chain is behind that of the peers{more}"

    def _peer_count(self) -> str:
        if self._peers is None:
            return "ok: this node runs without a network"
        count = len(self._peers.greeted())
        if count:
            return f"ok: {count}"
        if self._synced.value and not self._peers.knows_others:
            return f"ok: none, {YOURS_ALONE}"
        if self._synced.value and self._chain.network.name in LONE_NETWORKS:
            return f"{OK}: none at present; a node of {self._chain.network.name} may be alone"
        others = self._peers.strangers.networks()
        return f"no peers; who answers is of {', or of '.join(others)}" if others else "no peers"

    def _time(self) -> str:
        network = self._chain.network
        now_ms = self._clock.now_ms()
        ahead_ms = self._chain.status.value.tip_time - now_ms
        if ahead_ms > network.future_limit_ms:
            return f"the tip is {duration(ahead_ms)} ahead of this machine's clock"
        if now_ms < network.birth_ms:
            return "this machine's clock is before the network's birth"
        return f"{OK}: the tip is {duration(max(-ahead_ms, 0))} old"

    def _disk(self) -> tuple[int | None, str]:
        try:
            free = shutil.disk_usage(self._data_dir).free
        except OSError as error:
            return None, f"the data directory cannot be read: {error.strerror}"
        if free < LEAST_FREE_BYTES:
            return free, f"{free >> 20} MiB free, expected {LEAST_FREE_BYTES >> 20} or more"
        return free, f"{OK}: {free >> 20:,} MiB free"


def _offset(offset_s: float | None) -> str:
    if offset_s is None:
        return f"{OK}: not judged, that takes the clocks of {CLOCKS_NEEDED} outbound peers"
    if offset_s <= CLOCK_OFFSET_S:
        return f"{OK}: within {offset_s:.1f} s of the peers'"
    return (
        f"this machine's clock and those of the peers are {duration(round(offset_s * 1000))} apart"
    )


def _criterion(name: str, says: str, value: float | None, limit: float, unit: str) -> Criterion:
    return Criterion(name, says.startswith(OK), value, limit, unit, says)
