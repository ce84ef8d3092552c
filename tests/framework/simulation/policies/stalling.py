"""Promises the heaviest chain of all, and then takes its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tests.framework.attacks import Attacker
from tests.framework.simulation.policies.policy import Policy
from unchained.node.transport.contract import PeerId


class StallingPeer(Attacker):
    """Answers `status`, and hardly anything else in time."""

    delay_s = 3600.0
    stalled: Callable[[], None]
    """Is called when somebody is made to wait."""

    def _answerer(self, name: str) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        answer = super()._answerer(name)

        async def late(peer: PeerId, payload: bytes) -> bytes:
            if name not in ("status", "headers"):
                self.stalled()
                await trio.sleep(self.delay_s)
            return await answer(peer, payload)

        return late


class Stalling(Policy):
    """Announces anchors whose bodies never come, and claims a chain that nobody can fetch."""

    def new_peer(self) -> Attacker:
        plain = super().new_peer()
        peer = StallingPeer(self.simulation.net, plain.transport.ip, f"{self.name} {self._names}")
        peer.stalled = self.note
        return peer

    async def act(self) -> None:
        coin, body = self.mine(grade=True)
        if self.rng.random() < 0.5:
            await self.tell(coin, body)
        else:
            self.take(coin, body)
            self.peer._chain = [(coin, body)]
