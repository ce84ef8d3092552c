"""Spends what it may not spend."""

from __future__ import annotations

import msgspec

from tests.framework.simulation.policies.policy import Policy
from unchained.node.consensus.coins import is_anchor_grade
from unchained.node.primitives.transfer import Input, Output, Signature, SizedTransfer, Transfer
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.storage import schema


class Thieving(Policy):
    """Mines honestly; then spends coins too young, twice, of others, or without a signature."""

    async def act(self) -> None:
        coin, body = self.mine()
        found = body if is_anchor_grade(coin, self.core.network) else None
        self.take(coin, found)
        await self.tell(coin, found)
        coins = [(i, c) for i, c in schema.UNSPENT.scan(self.core.store) if c.lock == self.lock]
        others = [(i, c) for i, c in schema.UNSPENT.scan(self.core.store) if c.lock != self.lock]
        mature = self.core.tip.height + 1 - self.core.network.maturity
        young = [entry for entry in coins if entry[1].height > mature]
        old = [entry for entry in coins if entry[1].height <= mature]
        kind = self.rng.randrange(4)
        if kind == 0 and young:
            await self._spend([young[0]], True)
        elif kind == 1 and old:
            await self._spend(old[:1], True)
            await self._spend(old[:1], True)
        elif kind == 2 and old and others:
            await self._spend([old[0], self.rng.choice(others)], True)
        elif len(old) > 1:
            await self._spend(old[:2], False)

    async def _spend(self, coins: list[tuple[CoinId, schema.UnspentCoin]], signed: bool) -> None:
        total = sum(coin.value for _, coin in coins)
        fee = min(total // 2, 100_000)
        plain = Transfer(1, self.core.network.chain_id, 0, fee, tuple(
            Input(coin_id, self.condition, ZERO32) for coin_id, _ in sorted(coins)
        ), (Output(total - fee, self.lock, b""),), (), ())  # fmt: skip
        signature = self.key.sign(SizedTransfer.of(plain).sighash, self.randomness)
        signature = signature if signed else bytes(len(signature))
        signatures = (Signature(self.key.public_key, signature),)
        whole = msgspec.structs.replace(plain, signatures=signatures)
        await self.say("transfer", SizedTransfer.of(whole).raw)
