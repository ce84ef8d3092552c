"""A chain worth looking at, laid into a node on reg by RPC alone: forks, late and stray coins,
transfers on the chain and in the mempool, times as of an hour of mining."""

from __future__ import annotations

import random
import time
from typing import Any, Final

import msgspec

from tests.framework.forge import BACKEND, Forge, key_lock, spend_key
from unchained.node.consensus.params import REG
from unchained.node.crypto.addresses import encode_address
from unchained.node.crypto.pow import compute_mix
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.client.client import Client

PAYEE: Final = encode_address(REG, spend_key(1).key_hash)
GRADE: Final = REG.grade_target(REG.target0)
EPOCH_MS: Final = 60_000
"""How far anchors are apart on average: their times are the forge's to choose."""


class DemoChain:
    """Grows the chain of one node; all follows from the seed but times, proofs and signatures."""

    def __init__(self, client: Client, seed: int = 7, epochs: int = 40) -> None:
        self._client = client
        self._rng = random.Random(seed)
        # Of their own: how many are drawn of these is up to proofs and signatures.
        self._nonces = random.Random(seed + 1)
        self._costs = random.Random(seed + 2)
        self._forge = Forge(REG)
        self._epochs = epochs
        self._now_ms = int(time.time() * 1000) - epochs * EPOCH_MS
        self._spent: set[str] = set()
        self.forks: list[tuple[str, str]] = []
        """The two anchors of each fork."""
        self.strays: list[str] = []
        """Coins bound to anchors that lost."""
        self.handed_in_ms = 0.0
        """When the last coin was made and went to the node, by the machine's clock."""

    def lay(self) -> None:
        """Lay all epochs."""
        for number in range(self._epochs):
            self._epoch(forked=number > 4 and self._rng.random() < 0.3)
            if number > 6 and self._rng.random() < 0.6:
                self.pay()

    def coin(self) -> str:
        """Mine a coin that is no anchor on the tip; return its id."""
        return self._submit(self._header(), grade=False)

    def anchor(self) -> str:
        """Mine an anchor on the tip; return its id."""
        return self._submit(self._header(), grade=True)

    def fork(self, anchors: int = 2) -> tuple[str, str]:
        """Mine some anchors on the tip; return the one that the chain follows, and another."""
        header = self._header()
        for _ in range(anchors):
            self._submit(header, grade=True)
        main, *others = self._client.call("chain.forks")
        other = next(end["id"] for end in others if end["height"] == main["height"])
        self.forks.append((main["id"], other))
        return main["id"], other

    def vote(self, anchor_id: str) -> str:
        """Mine a coin on an anchor at the tip's height; return its id."""
        header = msgspec.structs.replace(self._header(), parent=bytes.fromhex(anchor_id))
        return self._submit(header, grade=False)

    def pay(self, fee: int | None = None) -> SizedTransfer | None:
        """Spend a coin of key 1 to two others; return the transfer, None where no coin can be."""
        height = self._client.call("chain.tip")["height"]
        page = self._client.call("coin.owned_by", {"address": PAYEE, "limit": 1000})
        for owned in page["coins"]:
            if owned["id"] in self._spent or owned["height"] >= height - REG.maturity:
                continue
            grains = round(float(owned["amount"]) * 10**8)
            cost = self._costs.randrange(20_000, 400_000) if fee is None else fee
            if grains < 3 * cost:
                continue
            self._spent.add(owned["id"])
            half = (grains - cost) // 2
            transfer = self._forge.transfer(
                [(CoinId(bytes.fromhex(owned["id"])), 1)],
                [(half, 2), (grains - cost - half, 3)],
                fee=cost,
            )
            self._client.call("transfer.submit", [transfer.raw.hex()])
            return transfer
        return None

    def _epoch(self, *, forked: bool) -> None:
        lengths = self._rng.expovariate(1 / EPOCH_MS)
        coins = min(14, int(self._rng.expovariate(1 / 6)))
        self._now_ms += 500
        for _ in range(coins):
            self.coin()
            self._now_ms += int(lengths / (coins + 1))
        if not forked:
            self.anchor()
            return
        _, other = self.fork()
        for number in range(8):
            self._now_ms += self._rng.randrange(1_000, 4_000)
            # Fewer, and later, so that the chain stays where it is.
            if number in (3, 5, 7):
                self.strays.append(self.vote(other))
            else:
                self.coin()

    def _header(self) -> CoinHeader:
        template: dict[str, Any] = self._client.call("mine.template", {"address": PAYEE})
        header = CoinHeader.from_bytes(bytes.fromhex(template["header"]))
        moment = max(template["min_time"], min(self._now_ms, int(time.time() * 1000)))
        return msgspec.structs.replace(header, time=moment, lock=key_lock(1))

    def _submit(self, header: CoinHeader, *, grade: bool) -> str:
        while True:
            header = msgspec.structs.replace(header, nonce=self._nonces.randrange(2**64))
            coin = Coin.assemble(header, compute_mix(BACKEND, header.to_bytes(), REG.mem_kib))
            number = int.from_bytes(coin.id, "big")
            if number <= header.target and grade == (number <= GRADE):
                break
        self.handed_in_ms = time.time() * 1000
        self._client.call("mine.submit", [coin.raw.hex()])
        return coin.id.hex()
