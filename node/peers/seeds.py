"""Seeds: names of the DNS that stand for many nodes, asked while a node knows too few others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.transport.address import Address
from unchained.node.transport.contract import BadAddressError, PeerId, Transport, TransportError
from unchained.node.transport.libp2p.listener import places, resolve

SEED_LOOKUP_S: Final = 20.0
SEED_IDENTIFY_S: Final = 10.0
SEED_PATIENCE_S: Final = 10.0
"""A node that knows addresses tries those first for so long: seeds see who asks them."""
SEED_FIRST_RETRY_S: Final = 5.0
SEED_AGAIN_S: Final = 1800.0
"""Seconds between two looks at a seed while peers are missing; the longest wait after failures."""


class Resolver(Protocol):
    """Looks names up."""

    async def resolve(self, address: Address) -> Sequence[str]:
        """Return the IP literals of an address with a name. Raises OSError."""


class SystemResolver:
    """Lets the system resolve names, in a thread."""

    async def resolve(self, address: Address) -> Sequence[str]:
        """Return the IP literals of an address with a name. Raises OSError."""
        return await places(address, resolve, trio.CapacityLimiter(1))


class NoResolver:
    """Looks nothing up: behind a proxy that would show the system's resolver whom we look for."""

    async def resolve(self, address: Address) -> Sequence[str]:
        """Raises OSError."""
        raise OSError(f"{address.host} is not looked up behind a proxy (network.proxy)")


class PeerSeeker(Protocol):
    """Who looks for peers: the dialler."""

    @property
    def missing(self) -> int:
        """How many peers are missing."""

    def found_by_seed(self, address: str, seed: str) -> None:
        """Take note of a whole address that a seed stands for."""


def parse_seed(text: str) -> Address:
    """Read a seed: a name and the port that its nodes listen on. Raises `BadAddressError`."""
    address = Address.parse(text)
    if not address.is_name or address.peer is not None or not address.port:
        raise BadAddressError(text, "/dns|dns4|dns6/NAME/tcp/PORT")
    return address


class Seeds:
    """Asks seeds while peers are missing."""

    def __init__(
        self,
        texts: Sequence[str],
        transport: Transport,
        *,
        seeker: PeerSeeker,
        resolver: Resolver,
        log: FilteringBoundLogger,
    ) -> None:
        """Raises `BadAddressError`."""
        self._seeds = [parse_seed(text) for text in texts]
        self._transport = transport
        self._seeker = seeker
        self._resolver = resolver
        self._log = log

    async def run(self, patience_s: float) -> None:
        """Wait so long, then ask until cancelled."""
        await trio.sleep(patience_s)
        async with trio.open_nursery() as nursery:
            for seed in self._seeds:
                nursery.start_soon(self._keep_asking, seed, name="peers.seed")

    async def _keep_asking(self, seed: Address) -> None:
        wait_s = SEED_FIRST_RETRY_S
        while True:
            if self._seeker.missing > 0:
                count = await self._ask(seed)
                wait_s = SEED_AGAIN_S if count else min(2 * wait_s, SEED_AGAIN_S)
            await trio.sleep(wait_s)

    async def _ask(self, seed: Address) -> int:
        """Look a seed up and ask who answers there; return how many nodes that were."""
        ips: Sequence[str] = ()
        why = f"no answer in {SEED_LOOKUP_S:g} s"
        try:
            with trio.move_on_after(SEED_LOOKUP_S):
                ips = await self._resolver.resolve(seed)
                why = "it has no address"
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
        if not ips:
            self._log.warning("peer.seed_failed", name=str(seed), why=why)
            return 0
        found = 0
        for ip in ips:
            try:
                place = Address.of_ip(ip, seed.port)
                peer: PeerId = await self._transport.identify(str(place), timeout=SEED_IDENTIFY_S)
            except TransportError as error:
                self._log.debug("peer.dial_failed", address=str(seed), why=str(error))
                continue
            if peer != self._transport.id:
                found += 1
                self._seeker.found_by_seed(str(place.with_peer(peer)), seed.host)
        self._log.info("peer.seeded", name=str(seed), nodes=found)
        return found
