"""Peers of another network, or of other rules: told from the protocols that they serve, or from the
topics that they take part in.

Topics and protocol ids carry the first 8 hex digits of the genesis id (Protocol §11), so such a
peer has nothing to say to us. It is parted from with one line that names both networks, and is
no fault of anybody's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeGuard

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import NETWORKS
from unchained.node.transport.contract import (
    Event,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerIdentified,
    PeerInformed,
    StrangerMet,
)

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
STRANGER_STAY_S: Final = 1.0
"""Seconds for which such a peer stays if it does not ask who we are: so it too learns why it is
parted from."""
WARNED_MAX: Final = 64
"""Other networks that are warned of once each; from then on nothing is said of further ones."""

_NAME = re.compile(r"/unchained/([0-9a-f]{8})/")


class Strangers:
    """Remembers who is of another network, and says so once for each of these."""

    def __init__(self, genesis_id: bytes, log: FilteringBoundLogger) -> None:
        self._genesis_id = genesis_id
        self._log = log
        self._met: OrderedDict[PeerId, tuple[float, str]] = OrderedDict()
        """Until when, in Trio's time, and of which network."""
        self._warned: set[str] = set()
        self._informed: dict[PeerId, trio.Event] = {}
        """The connected peers, and whether they know what we are."""

    def note(self, event: Event) -> TypeGuard[PeerIdentified | StrangerMet]:
        """Take note of an event; return whether it shows that its peer is a stranger: that it takes
        part in none of our topics, or serves none of our protocols but others."""
        names: Sequence[str] = ()
        if isinstance(event, PeerConnected):
            self._informed[event.info.peer] = trio.Event()
        elif isinstance(event, PeerInformed) and event.info.peer in self._informed:
            self._informed[event.info.peer].set()
        elif isinstance(event, PeerDisconnected) and event.info.peer in self._informed:
            self._informed.pop(event.info.peer).set()
        elif isinstance(event, StrangerMet):
            names = (event.topic,)
        elif isinstance(event, PeerIdentified):
            names = event.protocols
        tags = [match[1] for name in names if (match := _NAME.match(name))]
        if not names or self._genesis_id.hex()[:8] in tags:
            return False
        assert isinstance(event, PeerIdentified | StrangerMet), "only these have names"
        self._meet(event.info.peer, event.info.ip, tags[0] if tags else "none")
        return True

    async def until_informed(self, peer: PeerId) -> None:
        """Wait until a connected peer knows what we are, or could have asked, or is gone."""
        informed = self._informed.get(peer)
        if informed is not None:
            with trio.move_on_after(STRANGER_STAY_S):
                await informed.wait()

    def _meet(self, peer: PeerId, ip: str, tag: str) -> None:
        self._met[peer] = (trio.current_time() + STRANGER_S, tag)
        self._met.move_to_end(peer)
        if len(self._met) > STRANGERS_MAX:
            self._met.popitem(last=False)
        if tag in self._warned or len(self._warned) >= WARNED_MAX:
            return
        self._warned.add(tag)
        self._log.warning(
            "peer.other_network",
            peer=peer,
            ip=ip,
            ours=described(self._genesis_id.hex()),
            theirs=described(tag),
        )

    def has(self, peer: PeerId | None) -> bool:
        """Return whether a peer was of another network a short while ago."""
        until, _ = self._met.get(peer, (0.0, "")) if peer is not None else (0.0, "")
        return until > trio.current_time()

    def networks(self) -> list[str]:
        """Return the networks of the peers that were met a short while ago, each once."""
        now = trio.current_time()
        tags = dict.fromkeys(tag for until, tag in self._met.values() if until > now)
        return [described(tag) for tag in tags]


def described(tag: str) -> str:
    """Return what a network is called whose genesis id begins so: its name if it has one here, and
    as much of its genesis id as is known."""
    for network in NETWORKS.values():
        genesis_id = genesis_of(network).id.hex()
        if genesis_id.startswith(tag):
            return f"{network.name} {genesis_id}"
    if tag in EARLIER_GENESIS_IDS:
        return f"release 0.1 {EARLIER_GENESIS_IDS[tag]}"
    return tag
