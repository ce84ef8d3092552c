"""Makes up whatever there is: proofs, headers, bodies, messages."""

from __future__ import annotations

from msgspec.structs import replace

from tests.framework.simulation.policies.policy import Policy
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId


class Forging(Policy):
    """Sends one forgery at a time, each of another kind."""

    async def act(self) -> None:
        coin, body = self.mine(grade=True)
        header, noise = coin.header, self.rng.randbytes(32)
        headers = (
            replace(header, target=header.target - 1),
            replace(header, n_total=header.n_total + 1),
            replace(header, height=header.height + 1),
            replace(header, chain_id=header.chain_id + 1),
            replace(header, time=self.core.tip.coin.header.time),
        )
        bodies = (
            replace(body, state_root=noise),
            replace(body, history_root=noise),
            replace(body, fresh=(noise,)),
            replace(body, transfers=(noise,)),
        )
        self.did_it()
        match self.rng.randrange(5):
            case 0:
                await self.say(self.rng.choice(("coin", "anchor", "transfer")), noise)
            case 1:
                await self.tell(self._with_forged_mix(coin))
            case 2:
                await self.tell(self.solved(self.rng.choice(headers)))
            case 3:
                await self.tell_body(self.rng.choice(bodies))
            case _:
                # Dead, if all that it builds on is known: its votes count all the same.
                await self.tell_body(bodies[0])

    def _with_forged_mix(self, coin: Coin) -> Coin:
        while True:
            forged = Coin.assemble(coin.header, self.rng.randbytes(32))
            if int.from_bytes(CoinId(forged.id), "big") <= coin.header.target:
                return forged
