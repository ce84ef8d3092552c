"""Random trees of anchors: forks, late and stray coins, transfers, and broken things among them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tests.framework.forge import Forge, Forged, Member, key_lock, of
from tests.framework.model import Known
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer, Transfer, output_id, wid_of
from unchained.node.primitives.types import CoinId

KEYS: Final = 3
"""Spend keys that own the coins of a tree."""


class RandomTree:
    """A tree that grows at random; all that was made for it.

    `broken` in 0 to 1: how often something is made wrong. `depth`: how far below the highest
    anchor a branch may leave. `on_unsound`: whether to mine on anchors that may be invalid too.
    `unsound` names those.
    """

    def __init__(
        self,
        forge: Forge,
        rng: random.Random,
        *,
        broken: float = 0.1,
        depth: int = 4,
        on_unsound: bool = True,
    ) -> None:
        self.forge = forge
        self.rng = rng
        self.broken = broken
        self.depth = depth
        self.anchors: list[Forged] = [forge.genesis]
        self.coins: dict[CoinId, Coin] = {}
        self.forged: set[bytes] = set()
        self.faulty: dict[bytes, str] = {}
        self.unsound: set[CoinId] = set()
        self._on_unsound = on_unsound
        self._fault = False

    def grow(self, steps: int) -> None:
        """Make that many anchors, and coins between them."""
        for _ in range(steps):
            parent = self._pick_parent()
            for _ in range(self.rng.randrange(4)):
                self.add_coin(parent)
            self.anchors.append(self._grow_anchor(parent))

    def known(self) -> Known:
        """Return all of it, as the model takes it."""
        return Known(
            self.forge.genesis.coin,
            list(self.coins.values()),
            {anchor.id: anchor.body for anchor in self.anchors},
            {wid: raw for anchor in self.anchors for wid, raw in anchor.transfers.items()},
            self.forged,
            self.faulty,
        )

    def _pick_parent(self) -> Forged:
        sound = [a for a in self.anchors if self._on_unsound or a.id not in self.unsound]
        top = max(anchor.height for anchor in sound)
        if self.rng.random() < 0.6:
            return sound[-1]
        return self.rng.choice([anchor for anchor in sound if anchor.height >= top - self.depth])

    def _wrong(self, share: float) -> bool:
        """Decide whether to make the anchor in hand wrong."""
        wrong = self.rng.random() < share
        self._fault = self._fault or wrong
        return wrong

    # Coins

    def add_coin(self, parent: Forged, *, grade: bool | None = None) -> Coin:
        """Make a coin bound to an anchor, rarely a wrong one."""
        rng = self.rng
        fields: dict[str, Any] = {
            "time": parent.time + rng.randint(1, 2 * self.forge.network.epoch_ms),
            "key": rng.randrange(KEYS),
        }
        if rng.random() < self.broken:
            wrong: list[dict[str, Any]] = [
                {"n_total": parent.n_total + 1},
                {"target": parent.target - 1},
                {"time": parent.time},
                {"height": parent.height + 2},
            ]
            fields |= rng.choice(wrong)
        if rng.random() < self.broken / 4:
            coin = self.forge.forged_mix(parent, **fields)
            self.forged.add(coin.id)
        else:
            coin = self.forge.coin(parent, grade=grade, **fields)
        self.coins[coin.id] = coin
        return coin

    def _bound_to(self, anchor_id: CoinId) -> list[Coin]:
        return [coin for coin in self.coins.values() if coin.parent == anchor_id]

    def _some(self, coins: Iterable[Coin], share: float = 0.7) -> list[Coin]:
        return [coin for coin in coins if self.rng.random() < share]

    def _uncles(self, parent: Forged) -> list[Coin]:
        """Return coins that are late, or stray through what the chain or this body lists."""
        window = self.forge.network.window
        height = parent.height + 1
        chain = parent.chain()
        ids = {step.id for step in chain}
        found: list[Coin] = []
        for step in chain[max(0, height - window - 1) : height - 1]:
            found += self._bound_to(step.id)
        chosen = self._some(
            (coin for coin in found if coin.id not in parent.listed and self._looks_right(coin)),
            0.4,
        )
        listed = dict(parent.listed)
        listed.update({coin.id: coin for coin in chosen})
        strays = [
            coin
            for coin in self.coins.values()
            if coin.parent in listed
            and coin.parent not in ids
            and coin.id not in listed
            and 0 <= height - coin.height <= window
            and self._looks_right(coin)
        ]
        return chosen + self._some(strays, 0.4)

    def _looks_right(self, coin: Coin) -> bool:
        return coin.id not in self.forged or self._wrong(self.broken)

    # Anchors

    def _grow_anchor(self, parent: Forged) -> Forged:
        rng = self.rng
        self._fault = parent.id in self.unsound
        fresh = self._some(coin for coin in self._bound_to(parent.id) if self._fits(coin, parent))
        uncles = self._uncles(parent)
        transfers = self._transfers(parent)
        fields: dict[str, Any] = {
            "time": parent.time + rng.randint(1, 2 * self.forge.network.epoch_ms),
            "key": rng.randrange(KEYS),
        }
        if self._wrong(self.broken):
            anchor = self._broken_anchor(parent, fresh, uncles, transfers, fields)
        else:
            anchor = self.forge.anchor(parent, fresh, uncles, transfers, **fields)
        self.coins[anchor.id] = anchor.coin
        if self._fault:
            self.unsound.add(anchor.id)
        return anchor

    def _fits(self, coin: Coin, parent: Forged) -> bool:
        header = coin.header
        fits = (
            header.n_total == parent.n_total
            and header.target == parent.target
            and header.time > parent.time
            and header.height == parent.height + 1
            and coin.id not in self.forged
        )
        return fits or self._wrong(self.broken / 2)

    def _broken_anchor(
        self,
        parent: Forged,
        fresh: list[Coin],
        uncles: list[Coin],
        transfers: list[SizedTransfer],
        fields: dict[str, Any],
    ) -> Forged:
        rng, forge = self.rng, self.forge
        way = rng.randrange(9)
        raw_transfers: dict[bytes, bytes] = {}
        body = forge.body(parent, fresh, uncles, transfers)
        changes: dict[str, Any] = {}
        if way == 0:
            changes["history_root"] = bytes(32)
        elif way == 1:
            changes["state_root"] = bytes(32)
        elif way == 2 and len(body.fresh) > 1:
            changes["fresh"] = body.fresh[::-1]
        elif way == 3 and self.coins:
            fresh.append(rng.choice(list(self.coins.values())))
        elif way == 4 and self.coins:
            uncles.append(rng.choice(list(self.coins.values())))
        elif way == 5:
            raw = rng.choice([b"", b"\xc0", rng.randbytes(50)])
            raw_transfers[wid_of(raw)] = raw
            self.faulty[wid_of(raw)] = "NON_CANONICAL"
            changes["transfers"] = (*body.transfers, wid_of(raw))
        elif way == 6 and transfers:
            sized = self._tampered(transfers[-1].transfer)
            transfers = [*transfers[:-1], sized]
        elif way == 7 and transfers:
            transfers = transfers[::-1]
        elif way == 8 and transfers:
            transfers = [*transfers, transfers[0]]
        fresh = list({coin.id: coin for coin in fresh}.values())
        uncles = list({coin.id: coin for coin in uncles}.values())
        if way == 5:
            changes["transfers"] = (*(sized.wid for sized in transfers), *raw_transfers)
        return forge.anchor(
            parent,
            fresh,
            uncles,
            transfers,
            raw_transfers=raw_transfers,
            body_fields=changes,
            **fields,
        )

    def _tampered(self, transfer: Transfer) -> SizedTransfer:
        """Return the transfer with a fault of its own, noted with the rule that it breaks."""
        replace = msgspec.structs.replace
        way = self.rng.randrange(4)
        if way == 0:
            flipped = bytearray(transfer.signatures[0].signature)
            flipped[100] ^= 1
            first = replace(transfer.signatures[0], signature=bytes(flipped))
            sized = of(replace(transfer, signatures=(first, *transfer.signatures[1:])))
            self.faulty[sized.wid] = "late BAD_SIGNATURE"
        elif way == 1:
            sized = of(replace(transfer, preimages=(bytes(32),)))
            self.faulty[sized.wid] = "late UNUSED_PREIMAGE"
        elif way == 2:
            sized = of(replace(transfer, version=2))
            self.faulty[sized.wid] = "BAD_VERSION"
        else:
            sized = of(replace(transfer, signatures=()))
            self.faulty[sized.wid] = "late CONDITION_UNMET"
        return sized

    # Transfers

    def _transfers(self, parent: Forged) -> list[SizedTransfer]:
        """Return up to three transfers of coins of the parent's state, and of one another."""
        rng = self.rng
        unspent = dict(parent.unspent)
        height = parent.height + 1
        made: list[SizedTransfer] = []
        for _ in range(rng.choice((0, 0, 0, 1, 2, 3))):
            spendable = [
                coin_id
                for coin_id, member in unspent.items()
                if not member.minted
                or height - member.height >= self.forge.network.maturity
                or self._wrong(self.broken / 8)
            ]
            if not spendable:
                break
            sized = self.spend(
                [(i, unspent[i].value, unspent[i].lock) for i in rng.sample(spendable, 1)]
            )
            made.append(sized)
            for entry in sized.transfer.inputs:
                del unspent[CoinId(entry.coin_id)]
            for index, output in enumerate(sized.transfer.outputs):
                coin_id = output_id(sized.txid, index)
                unspent[coin_id] = Member(output.value, output.lock, height, False)
        return made

    def spend(self, coins: list[tuple[CoinId, int, bytes]]) -> SizedTransfer:
        """Return a transfer of such coins (id, value, lock) to one or two outputs."""
        rng = self.rng
        keys: dict[bytes, int] = {key_lock(key): key for key in range(KEYS)}
        value = sum(value for _, value, _ in coins)
        fee = min(value - 1, rng.randint(0, 20_000))
        rest = value - fee
        if rest > 1 and rng.random() < 0.5:
            part = rng.randint(1, rest - 1)
            outputs = [(part, rng.randrange(KEYS)), (rest - part, rng.randrange(KEYS))]
        else:
            outputs = [(rest, rng.randrange(KEYS))]
        if self._wrong(self.broken / 8):
            fee += 1
        return self.forge.transfer(
            [(coin_id, keys[lock]) for coin_id, _, lock in coins], outputs, fee=fee
        )
