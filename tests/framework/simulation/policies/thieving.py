"""Spends what it may not spend."""

from __future__ import annotations

from tests.framework.simulation.policies.policy import Policy
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.primitives.transfer import Input, Output, Signature, SizedTransfer, Transfer
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.storage import schema

Coins = list[tuple[CoinId, UnspentCoin]]


class Thieving(Policy):
    """Mines honestly; then spends coins too young, or twice, or without a signature or two."""

    async def act(self) -> None:
        coin, body = self.mine()
        self.take(coin, body)
        await self.tell(coin, body)
        unspent = [(CoinId(key), coin) for key, coin in schema.UNSPENT.scan(self.core.store)]
        first, second = ([c for c in unspent if c[1].lock == lock] for lock in self.locks)
        mature = self.core.tip.height + 1 - self.core.network.maturity
        young: Coins = [entry for entry in first if entry[1].height > mature]
        old: list[Coins] = [[e for e in own if e[1].height <= mature] for own in (first, second)]
        if young and self.rng.random() < 0.25:
            await self._spend(young[:1], (True, True))
        elif old[0] and self.rng.random() < 0.3:
            for _ in range(2):
                await self._spend(old[0][:1], (True, True))
        elif old[0] and old[1]:
            signed = self.rng.choice(((True, False), (False, True), (True, None), (None, True)))
            await self._spend([old[0][-1], old[1][-1]], signed)

    async def _spend(self, coins: Coins, signed: tuple[bool | None, bool | None]) -> None:
        """Spend coins, signed by each key rightly, wrongly, or (None) not at all."""
        total, fee = sum(coin.value for _, coin in coins), 50_000 * len(coins)
        places = [(coin_id, self.locks.index(coin.lock)) for coin_id, coin in sorted(coins)]
        inputs = tuple(Input(coin_id, self.conditions[at], ZERO32) for coin_id, at in places)
        chain_id, output = self.core.network.chain_id, Output(total - fee, self.locks[0], b"")
        fields = (1, chain_id, 0, fee, inputs, (output,))
        sighash, signatures = SizedTransfer.of(Transfer(*fields, (), ())).sighash, []
        for at in sorted({at for _, at in places}, key=lambda at: self.keys[at].key_hash):
            signature = self.keys[at].sign(sighash, self.randomness)
            if signed[at] is not None:
                right = signature if signed[at] else bytes(len(signature))
                signatures.append(Signature(self.keys[at].public_key, right))
        whole = Transfer(*fields, tuple(signatures), ())
        await self.say("transfer", SizedTransfer.of(whole).raw)
        self.did_it()
