"""Fills address books with addresses where nobody is, and inbound places with silence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from tests.framework.attacks import Attacker
from tests.framework.simulation.link_model import memory_peer_id
from tests.framework.simulation.policies.policy import Policy
from unchained.node.transport.contract import TransportError
from unchained.node.wire import messages as wire


class FloodingPeer(Attacker):
    """Gives as many made-up addresses as it may."""

    flooded: Callable[[], None]
    """Is called when it gives some."""

    def _addresses(self, payload: bytes) -> bytes:
        request = wire.ADDRESSES_EXCHANGE.decode_request(payload)
        assert isinstance(request, wire.AddressesRequest)
        self.flooded()
        start = len(self.asked) * 1000
        made = [
            f"/ip4/{60 + n // 60000 % 9}.{n // 250 % 250}.{n % 250}.9/tcp/9000/p2p/"
            f"{memory_peer_id(f'nobody {n}')}"
            for n in range(start, start + min(request.most, 1000))
        ]
        return wire.ADDRESSES_EXCHANGE.answer(tuple(text.encode() for text in made))


class Flooding(Policy):
    """Comes with a few more identities at each turn, up to a few hundred."""

    def new_peer(self) -> Attacker:
        plain = super().new_peer()
        peer = FloodingPeer(self.simulation.net, plain.transport.ip, f"{self.name} {self._names}")
        peer.flooded = self.note
        return peer

    async def act(self) -> None:
        for _ in range(4 if self._names < 300 else 0):
            peer = self.new_peer()
            await self.simulation.net.run_transport(peer.transport)
            for node in self.simulation.nodes:
                if node.is_up:
                    with suppress(TransportError):
                        await peer.transport.connect(node.transport.address)
