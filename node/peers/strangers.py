"""Peers of another network, or of other rules: told from the topics that they take part in.

Topics and protocol ids carry the first 8 hex digits of the genesis id (Protocol §11), so such a
peer has nothing to say to us. It is parted from with one line that names both genesis ids, and is
no fault of anybody's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.transport.contract import PeerId

EARLIER_GENESIS_IDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        genesis_id[:8]: genesis_id
        for genesis_id in (
            "0be90d205db786291c7b2068aeb988d4e243845eb853636947f3a2f7b19d0ae2",
            "ed8374fde8ffd1d159a532a62bbb8626a523b48cdc6a9f2bc64cc8dfb6829380",
            "4080ed83d9a3e64c12faf924195d488bc17a713f520b8b51c87143964b94cff0",
            "221ea2eabf55fa8dea58eb5317e03e1a59f10f183fdf03c2ac2f95a3bd04325b",
        )
    }
)
"""The genesis ids of release 0.1 (main, test, local, reg), by what its topics show of them."""

STRANGER_S: Final = 600.0
"""Seconds for which a peer of another network is not connected to again."""
STRANGERS_MAX: Final = 1_024
"""Peers of other networks that are remembered."""
WARNED_MAX: Final = 64
"""Other networks that are warned of once each; from then on nothing is said of further ones."""

_TOPIC = re.compile(r"/unchained/([0-9a-f]{8})/")


class Strangers:
    """Remembers who is of another network, and says so once for each of these."""

    def __init__(self, genesis_id: bytes, log: FilteringBoundLogger) -> None:
        self._genesis_id = genesis_id
        self._log = log
        self._until: OrderedDict[PeerId, float] = OrderedDict()
        self._warned: set[str] = set()

    def note(self, peer: PeerId, ip: str, topic: str) -> None:
        """Note that a peer takes part in no topic of ours, but in this one."""
        self._until[peer] = trio.current_time() + STRANGER_S
        self._until.move_to_end(peer)
        if len(self._until) > STRANGERS_MAX:
            self._until.popitem(last=False)
        found = _TOPIC.match(topic)
        tag = "none" if found is None else found[1]
        if tag in self._warned or len(self._warned) >= WARNED_MAX:
            return
        self._warned.add(tag)
        self._log.warning(
            "peer.other_network",
            peer=peer,
            ip=ip,
            ours=self._genesis_id.hex(),
            theirs=EARLIER_GENESIS_IDS.get(tag, tag),
        )

    def has(self, peer: PeerId | None) -> bool:
        """Return whether a peer was of another network a short while ago."""
        until = None if peer is None else self._until.get(peer)
        return until is not None and until > trio.current_time()
