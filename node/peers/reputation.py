"""Who may be connected, and what its doings cost a peer: bans, debts, limits by address."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.token_bucket import KeyedTokenBuckets
from unchained.node.peers.ban_list import Ban, BanList
from unchained.node.peers.network_groups import NetworkGroups
from unchained.node.peers.penalty import FAULT_MS, MISBEHAVIOURS, Penalty
from unchained.node.transport.address_groups import (
    host_group,
    is_public,
    is_shared,
    network_group,
)
from unchained.node.transport.contract import (
    Direction,
    Misbehaved,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerInfo,
)

VISITORS_MAX: Final = 32
"""Inbound connections beyond the limit, for a moment: who joins through a node that is full
learns addresses there, and goes on. At the rate of handshakes (`HANDSHAKES_PER_S`) each of them has
1.6 s before so many have come after it that it is the oldest: a status takes two round trips."""
DEBT_MS_MAX: Final = 2_000.0
"""Verification in vain, in ms, that a group may cost before it is disconnected and banned."""
DEBT_FORGIVEN_MS_PER_S: Final = 20.0
"""Debt forgiven per second: 2 % of one core."""
FREE_MS_MAX: Final = 100.0
"""Ms of messages of no use that a group pays nothing for: honest peers send some, of what is known
here by another way, or comes again once its id is forgotten."""
FREE_MS_PER_S: Final = 1.0
GONE_PEERS_MAX: Final = 2_048
"""Peers whose group is remembered after they are gone, for what is found out late."""


class PeerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many connections, in all and from one place."""

    outbound: int = 8
    inbound: int = 56
    inbound_per_host: int = 4
    inbound_per_network: int = 16
    """From one IPv4 /16 or IPv6 /32; not asked of private addresses."""


class Connections(Protocol):
    """Who is connected: a transport."""

    def peers(self) -> Iterable[PeerInfo]:
        """Return the connected peers."""


class BanObserver(Protocol):
    """What follows from a ban elsewhere: the peer manager."""

    def drop(self, peer: PeerId) -> None:
        """Disconnect a peer, at once or soon: it is banned."""

    def leave(self, peer: PeerId) -> None:
        """Disconnect a peer that is not banned, at once or soon."""

    def bans_changed(self) -> None:
        """Take note of a ban, or of the end of one."""


class Reputation:
    """The gate, and what peers have to answer for."""

    def __init__(
        self,
        bans: BanList,
        limits: PeerLimits,
        *,
        connections: Connections,
        observer: BanObserver,
        clock: Clock,
        log: FilteringBoundLogger,
        groups: NetworkGroups | None = None,
    ) -> None:
        self.bans = bans
        self._networks = groups or NetworkGroups()
        self.limits = limits
        self._clock = clock
        self._connections = connections
        self._observer = observer
        self._log = log
        self._patience = KeyedTokenBuckets(DEBT_MS_MAX, DEBT_FORGIVEN_MS_PER_S)
        """What each group may still cost, in ms of verification."""
        self._free = KeyedTokenBuckets(FREE_MS_MAX, FREE_MS_PER_S)
        """What of messages of no use each group may send and pay nothing, in ms of verification."""
        self._connected: dict[PeerId, str] = {}
        """The groups of those who are connected: there is no more of it than of connections."""
        self._gone: OrderedDict[PeerId, str] = OrderedDict()
        """Those of who has left, a bounded number: whoever comes and goes under ever new names
        pushes out nobody who has stayed."""
        self.penalties: Counter[str] = Counter()
        """Penalties by name since the start."""
        self.bans_made = 0
        """Bans since the start, those of the operator's among them."""

    # The gate

    def gate(self, ip: str, peer: PeerId | None, direction: Direction, /) -> bool:
        """Return whether a connection is let in (`transport.Gate`)."""
        group = host_group(ip, peer)
        if group and self.bans.is_banned(group, self._clock.now_ms()):
            return False
        if direction is Direction.OUTBOUND:
            return True
        inbound = [
            info
            for info in self._connections.peers()
            if info.direction is Direction.INBOUND and info.peer != peer
        ]
        most = self.limits.inbound
        if len(inbound) >= (most + VISITORS_MAX if most else 0):
            return False
        if is_shared(ip):
            return True
        host = host_group(ip)
        if sum(host_group(info.ip) == host for info in inbound if not is_shared(info.ip)) >= (
            self.limits.inbound_per_host
        ):
            return False
        if not is_public(ip):
            return True
        network = network_group(ip)
        same = sum(network_group(info.ip) == network for info in inbound)
        return same < self.limits.inbound_per_network

    def may_dial(self, ip: str, peer: PeerId) -> bool:
        """Return whether an address is fit for an outbound connection beside those there are."""
        if self.bans.is_banned(host_group(ip, peer), self._clock.now_ms()):
            return False
        if not is_public(ip):
            return True
        network = self._networks.of(ip)
        return all(
            self._networks.of(info.ip) != network
            for info in self._connections.peers()
            if info.direction is Direction.OUTBOUND
        )

    # Penalties

    def group_of(self, peer: PeerId) -> str:
        """Return what bans of a peer cover; its own id for one never seen."""
        group = self._connected.get(peer) or self._gone.get(peer)
        return f"unknown/{peer}" if group is None else group

    def note(self, event: object) -> None:
        """Take an event of the transport."""
        if isinstance(event, PeerConnected):
            self._gone.pop(event.info.peer, None)
            self._connected[event.info.peer] = host_group(event.info.ip, event.info.peer)
        elif isinstance(event, PeerDisconnected):
            group = self._connected.pop(event.info.peer, None)
            if group is not None:
                self._gone[event.info.peer] = group
                if len(self._gone) > GONE_PEERS_MAX:
                    self._gone.popitem(last=False)
        elif isinstance(event, Misbehaved):
            penalty = MISBEHAVIOURS[event.kind]
            group = host_group(event.ip, event.peer) if event.ip else ""
            if not group and event.peer is not None:
                group = self.group_of(event.peer)
            self._apply(group, event.peer, penalty, f"{event.kind.value}: {event.detail}", 0.0)

    def penalize(self, peer: PeerId, penalty: Penalty, why: str, *, ms: float = 0.0) -> None:
        """Apply a penalty to a peer; `ms` is what `COST` adds to its debt."""
        self._apply(self.group_of(peer), peer, penalty, why, ms)

    def charge_excess(self, peer: PeerId, why: str, ms: float) -> None:
        """Let a peer pay `ms` for what broke no rule and was of no use, unless its group has sent
        little of that. It is disconnected for it, and never banned: who brings the transfers of a
        long branch that was undone sends much that others know."""
        group, now = self.group_of(peer), trio.current_time()
        if self._free.take(group, now, ms):
            return
        if self._patience.level(group, now) - ms >= DEBT_MS_MAX / 2:
            self.penalize(peer, Penalty.COST, why, ms=ms)
        else:
            self._log.debug("peer.penalty", group=group, penalty="disconnect", why=why)
            self._observer.leave(peer)

    def _apply(
        self, group: str, peer: PeerId | None, penalty: Penalty, why: str, ms: float
    ) -> None:
        if penalty is Penalty.NONE or not group:
            return
        self.penalties[penalty.value] += 1
        if penalty is Penalty.BAN:
            self._ban(group, peer, why)
            return
        self._log.debug("peer.penalty", group=group, penalty=penalty.value, why=why)
        price = max(ms, FAULT_MS) if penalty is Penalty.FAULT else ms
        if not self._patience.take(group, trio.current_time(), price):
            self._patience.forget(group)
            self._ban(group, peer, f"too much useless work, last: {why}")

    def ban(self, group: str, why: str, length_ms: int | None = None) -> None:
        """Ban a group and disconnect all of it."""
        self._ban(group, None, why, length_ms)

    def _ban(
        self, group: str, culprit: PeerId | None, why: str, length_ms: int | None = None
    ) -> None:
        """Ban a group and disconnect all of it, and the peer that it is banned for: also where
        that came from elsewhere, and where the group was banned before."""
        now_ms = self._clock.now_ms()
        if length_ms is not None or not self.bans.is_banned(group, now_ms):
            ban = self.bans.add(group, why, now_ms, length_ms)
            self.bans_made += 1
            self._observer.bans_changed()
            self._log.warning(
                "peer.banned", group=group, why=why, minutes=(ban.until - now_ms) // 60_000
            )
        for info in tuple(self._connections.peers()):
            if info.peer == culprit or host_group(info.ip, info.peer) == group:
                self._observer.drop(info.peer)

    def lift(self, group: str) -> bool:
        """End a ban; return whether there was one."""
        self._observer.bans_changed()
        return self.bans.lift(group)

    def active_bans(self) -> list[Ban]:
        """Return the bans of the moment."""
        return self.bans.active(self._clock.now_ms())
