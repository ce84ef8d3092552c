"""`GET /readyz`: whether a node can be relied upon, one line for each reason to doubt it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Final, Protocol

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.chain.service import ChainService
from unchained.node.rpc.http.server import Readiness
from unchained.node.sync.alone import YOURS_ALONE

LEAST_FREE_BYTES: Final = 512 << 20
"""Free space on the data directory's disk below which a node is not ready."""

OK: Final = "ok"


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


class ReadinessCheck:
    """Looks at sync, peers, clock and disk. `peers` is None where the node has no network;
    `synced`: whether the chain is level with what peers claim."""

    def __init__(
        self,
        chain: ChainService,
        data_dir: Path,
        clock: Clock,
        *,
        synced: Watch[bool],
        peers: GreetedPeers | None,
    ) -> None:
        self._chain = chain
        self._data_dir = data_dir
        self._clock = clock
        self._synced = synced
        self._peers = peers

    def check(self) -> Readiness:
        """Return the state of each check; ready if all say `ok`."""
        checks = {
            "synced": self._sync(),
            "peers": self._peer_count(),
            "clock": self._time(),
            "disk": self._disk(),
        }
        return Readiness(all(text.startswith(OK) for text in checks.values()), checks)

    def _sync(self) -> str:
        if self._chain.status.value.clock_behind_ms:
            return "the clock is behind the chain: see chain.clock_behind in the log"
        if self._chain.status.value.refused is not None:
            return "a better chain waits for the operator: see chain.reorg_refused in the log"
        if self._synced.value:
            return OK
        if self._peers is not None and not len(self._peers.greeted()):
            return "not known: no peer of this network has answered yet"
        return "the chain is behind that of the peers"

    def _peer_count(self) -> str:
        if self._peers is None:
            return "ok: this node runs without a network"
        count = len(self._peers.greeted())
        if count:
            return f"ok: {count}"
        if self._synced.value and not self._peers.knows_others:
            return f"ok: none, {YOURS_ALONE}"
        others = self._peers.strangers.networks()
        return f"no peers; who answers is of {', or of '.join(others)}" if others else "no peers"

    def _time(self) -> str:
        network = self._chain.network
        now_ms = self._clock.now_ms()
        ahead_ms = self._chain.status.value.tip_time - now_ms
        if ahead_ms > network.future_limit_ms:
            return f"the tip is {ahead_ms // 1000} s ahead of this machine's clock"
        if now_ms < network.birth_ms:
            return "this machine's clock is before the network's birth"
        return OK

    def _disk(self) -> str:
        try:
            free = shutil.disk_usage(self._data_dir).free
        except OSError as error:
            return f"the data directory cannot be read: {error.strerror}"
        if free < LEAST_FREE_BYTES:
            return f"{free >> 20} MiB free, expected {LEAST_FREE_BYTES >> 20} or more"
        return OK
