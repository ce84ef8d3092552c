"""Says one thing to some and another to others."""

from __future__ import annotations

import msgspec

from tests.framework.simulation.policies.policy import Policy


class Equivocating(Policy):
    """Makes two anchors with different bodies of one epoch, and now and then serves the body of
    one for the other."""

    async def act(self) -> None:
        template = self.template()
        first, body = self.mine(template, grade=True)
        await self.tell(first, body)
        bare = msgspec.structs.replace(body, fresh=(), uncles=(), transfers=())
        other_template = msgspec.structs.replace(template, body=bare, body_root=self.root_of(bare))
        second, _ = self.mine(other_template, grade=True)
        await self.tell(second, bare)
        self.did_it()
        if self.rng.random() < 0.3:
            self.peer.bodies[first.id], self.peer.bodies[second.id] = bare, body
