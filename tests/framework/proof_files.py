"""Proof files (Protocol §12.1) put together from the text alone, for known answers.

The chain is made up: its bodies are lists of random ids, its coins need not be theirs. All that a
proof file opens is real, proofs of work included. The ranges are the slow ones.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from tests.framework.slow import slow_hash
from tests.framework.slow_ranges import (
    Join,
    slow_anchor_node,
    slow_coin_join,
    slow_coin_leaf,
    slow_history_join,
    slow_history_root,
    slow_mountains,
    slow_siblings,
    slow_state_root,
)
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG, Network
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import Coin, CoinHeader
from unchained.node.primitives.types import CoinId, Lock

Layout = list[Any]
"""What a canonical array holds."""

BACKEND: Final = default_backend()


class MadeUpCoin(msgspec.Struct, frozen=True):
    """A coin at some position: included and, if ever, spent at these heights."""

    id: bytes
    value: int
    lock: bytes
    height: int
    minted: int
    spent_height: int | None

    def leaf(self, height: int) -> bytes:
        """Return its leaf in the state after an anchor."""
        if self.spent_height is not None and self.spent_height <= height:
            return bytes(32)
        return slow_coin_leaf(self.id, self.value, self.lock, self.height, self.minted)


class MadeUpAnchor(msgspec.Struct, frozen=True):
    """An anchor, as a file opens it: its coin, and each list's length and top."""

    coin: Coin
    lists: tuple[tuple[int, bytes], ...]
    state_root: bytes
    history_root: bytes

    def opened(self) -> Layout:
        """Return coin, lists and the two commitments."""
        lists = [[count, top] for count, top in self.lists]
        return [self.coin.raw, *lists, self.state_root, self.history_root]


class MadeUpChain:
    """A chain of so many anchors above genesis, from a seed.

    `transfers` are the wids that some anchors list, one each, by height; `locks` those of some
    coins, by position.
    """

    def __init__(
        self,
        anchors: int,
        seed: int,
        network: Network = REG,
        *,
        transfers: Mapping[int, bytes] | None = None,
        locks: Mapping[int, bytes] | None = None,
    ) -> None:
        self.network = network
        self._transfers = transfers or {}
        self._locks = locks or {}
        self._random = random.Random(seed)
        self.coins: list[MadeUpCoin] = []
        """By position."""
        self._tip_height = anchors
        genesis = genesis_of(network).coin
        self._nodes = [slow_anchor_node(genesis.id, 0, 0, 0, genesis.header.time)]
        self._tip = genesis
        self._anchors: list[MadeUpAnchor | None] = [None]
        for height in range(1, anchors + 1):
            self._grow(height)
            self._include(height, anchors)

    def _grow(self, height: int) -> None:
        rng, network = self._random, self.network
        counts = rng.randrange(4), rng.randrange(2), rng.randrange(2)
        lists = tuple((count, rng.randbytes(32) if count else bytes(32)) for count in counts)
        if height in self._transfers:
            lists = (*lists[:2], (1, slow_hash("leaf", self._transfers[height])))
        before = sum(int.from_bytes(node[64:72], "big") for node in self._nodes)
        roots = [slow_hash("merkle", n.to_bytes(4, "big") + top) for n, top in lists]
        commitments = slow_state_root(self._leaves(height - 1), *self._totals(height - 1))
        history = slow_history_root(self._nodes)
        header = CoinHeader(
            network.chain_id,
            1,
            self._tip.id,
            height,
            self._tip.header.time + rng.randrange(1, 2 * network.epoch_ms),
            before,
            network.target0,
            Lock(rng.randbytes(32)),
            slow_hash("body", b"".join([*roots, commitments, history])),
            0,
        )
        self._tip = self._mined(header)
        self._anchors.append(MadeUpAnchor(self._tip, lists, commitments, history))
        self._nodes.append(
            slow_anchor_node(
                self._tip.id,
                header.target,
                network.coins_per_epoch,
                counts[0] + counts[1],
                header.time,
            )
        )

    def _mined(self, header: CoinHeader) -> Coin:
        most = self.network.grade_target(header.target)
        while True:
            header = msgspec.structs.replace(header, nonce=header.nonce + 1)
            coin = Coin.assemble(
                header, compute_mix(BACKEND, header.to_bytes(), self.network.mem_kib)
            )
            if int.from_bytes(coin.id, "big") <= most:
                return coin

    def _include(self, height: int, anchors: int) -> None:
        rng = self._random
        for _ in range(rng.randrange(1, 4)):
            spent = rng.randrange(height + 1, anchors + 4) if height < anchors else anchors + 1
            self.coins.append(
                MadeUpCoin(
                    CoinId(rng.randbytes(32)),
                    rng.randrange(1, 2**40),
                    self._locks.get(len(self.coins), rng.randbytes(32)),
                    height,
                    rng.randrange(2),
                    spent if spent <= anchors else None,
                )
            )

    def _leaves(self, height: int) -> list[bytes]:
        return [coin.leaf(height) for coin in self.coins if coin.height <= height]

    def _totals(self, height: int) -> tuple[int, int]:
        """Return supply and pool after an anchor."""
        unspent = [coin for coin in self.coins if coin.height <= height and any(coin.leaf(height))]
        return sum(coin.value for coin in unspent), 1_000 * height

    def anchor(self, height: int) -> MadeUpAnchor:
        """Return the anchor at a height above genesis."""
        found = self._anchors[height]
        assert found is not None
        return found

    def _state_path(self, position: int, height: int) -> Layout:
        leaves = self._leaves(height)
        return [
            len(leaves),
            *self._totals(height),
            position,
            *_path(leaves, position, slow_coin_join),
        ]

    def _history_path(self, height: int, tip: int) -> Layout:
        return [tip, height, *_path(self._nodes[:tip], height, slow_history_join)]

    def start(self, height: int, tip: int) -> Layout:
        """Return the node of an anchor, which should be the first, with its path."""
        return [self._nodes[height], self._history_path(height, tip)]

    def proof(self, position: int, tip: int) -> Layout:
        """Return what the file of a coin holds that the state before the tip has."""
        coin = self.coins[position]
        earlier = []
        if coin.spent_height is not None and coin.spent_height < tip:
            spent = coin.spent_height
            earlier = [
                [
                    self.anchor(spent).opened(),
                    self._history_path(spent, tip),
                    self._state_path(position, spent - 1),
                ]
            ]
        return [
            self.network.chain_id,
            coin.id,
            coin.value,
            coin.lock,
            coin.height,
            coin.minted,
            self.anchor(tip).opened(),
            self._state_path(position, tip - 1),
            self.start(1, tip),
            [self.anchor(coin.height).opened(), self._history_path(coin.height, tip)],
            earlier,
        ]

    def file(self, position: int, tip: int) -> bytes:
        """Return the file of a coin."""
        return _file(self.proof(position, tip))

    def tip_with(self, **changes: int) -> None:
        """Mine the last anchor anew with some numbers of its header changed by so much."""
        header = self._tip.header
        fields = {name: getattr(header, name) + change for name, change in changes.items()}
        self._tip = self._mined(msgspec.structs.replace(header, **fields))
        last = self.anchor(self._tip_height)
        self._anchors[self._tip_height] = msgspec.structs.replace(last, coin=self._tip)

    def shown(self, position: int, tip: int) -> dict[str, Any]:
        """Return what the file shows, as known answers have it."""
        coin, nodes = self.coins[position], self._nodes[:tip]
        supply, pool = self._totals(tip - 1)
        is_spent = coin.spent_height is not None and coin.spent_height < tip
        return {
            "network": self.network.name,
            "tip_id": self.anchor(tip).coin.id.hex(),
            "tip_height": tip,
            "tip_time_ms": self.anchor(tip).coin.header.time,
            "state_height": tip - 1,
            "coin_id": coin.id.hex(),
            "value": coin.value,
            "lock": coin.lock.hex(),
            "minted": coin.minted == 1,
            "height": coin.height,
            "anchor_id": self.anchor(coin.height).coin.id.hex(),
            "anchor_time_ms": self.anchor(coin.height).coin.header.time,
            "position": position,
            "positions": len(self._leaves(tip - 1)),
            "spent": is_spent,
            "unspent_height": (coin.spent_height or 0) - 1 if is_spent else None,
            "supply": supply,
            "pool": pool,
            "anchors": tip,
            "work": f"{_sum(nodes, 32, 64):x}",
            "coins": _sum(nodes, 64, 72),
            "work_since": f"{_sum(nodes[coin.height :], 32, 64):x}",
            "coins_since": _sum(nodes[coin.height :], 64, 72),
        }


def _path(leaves: Sequence[bytes], index: int, join: Join) -> Layout:
    peaks = [mountain.node for mountain in slow_mountains(leaves, join)]
    return [slow_siblings(leaves, index, join), peaks]


def _sum(nodes: Sequence[bytes], start: int, stop: int) -> int:
    return sum(int.from_bytes(node[start:stop], "big") for node in nodes)


def _file(layout: Layout) -> bytes:
    return b"UNCHAINED-PROOF\x01" + msgspec.msgpack.encode(layout)


def made_proof_files() -> dict[str, Any]:
    """Return the content of tests/vectors/proof_files.json, the same each time."""
    cases = []
    for anchors, seed in ((2, 1), (3, 2), (8, 3), (21, 4)):
        chain = MadeUpChain(anchors, seed)
        rng = random.Random(seed)
        provable = [at for at, coin in enumerate(chain.coins) if coin.height < anchors]
        for position in sorted(rng.sample(provable, min(3, len(provable)))):
            file, shown = chain.file(position, anchors), chain.shown(position, anchors)
            state = "spent" if shown["spent"] else "unspent"
            what = f"{state}, position {position}, tip {anchors}"
            cases.append({"what": what, "file": file.hex(), "shown": shown})
    return {
        "about": "§12.1: proof files and what they show (work in hex); refused: files that show "
        "nothing (false), or are none",
        "proofs": cases,
        "refused": [
            {"what": what, "is": kind, "file": file.hex()} for what, kind, file in _refused()
        ],
    }


def _refused() -> Iterator[tuple[str, str, bytes]]:
    chain = MadeUpChain(9, 3)
    places = [at for at, coin in enumerate(chain.coins) if 1 < coin.height < 9]
    spent = next(at for at in places if (chain.coins[at].spent_height or 9) < 9)
    unspent = next(at for at in places if chain.coins[at].spent_height is None)
    sound = _file(chain.proof(unspent, 9))

    def changed(position: int, *places: tuple[Sequence[int], Any]) -> bytes:
        layout = chain.proof(position, 9)
        for path, value in places:
            inner = layout
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
        return _file(layout)

    yield "another chain id", "false", changed(unspent, ([0], chain.network.chain_id - 1))
    yield "a chain id of no network", "false", changed(unspent, ([0], 1))
    yield "another coin", "false", changed(unspent, ([1], bytes(32)))
    yield "a greater value", "false", changed(unspent, ([2], chain.coins[unspent].value + 1))
    yield "another lock", "false", changed(unspent, ([3], bytes(32)))
    yield "an earlier inclusion", "false", changed(unspent, ([4], 1))
    yield (
        "an earlier inclusion, that anchor opened",
        "false",
        changed(unspent, ([4], 1), ([9], chain.proof(0, 9)[9])),
    )
    yield "minted or not", "false", changed(unspent, ([5], 1 - chain.coins[unspent].minted))
    yield "an earlier tip", "false", changed(unspent, ([6], chain.anchor(8).opened()))
    yield "another supply", "false", changed(unspent, ([7, 1], 0))
    yield "another pool", "false", changed(unspent, ([7, 2], 0))
    yield (
        "a sibling too few",
        "false",
        changed(unspent, ([7, 4], chain.proof(unspent, 9)[7][4][1:])),
    )
    yield "spent, said unspent", "false", changed(spent, ([10], []))
    yield "unspent, said spent", "false", changed(unspent, ([10], chain.proof(spent, 9)[10]))
    yield (
        "spent, by an earlier state of another position",
        "false",
        changed(spent, ([10, 0, 2, 3], spent + 1)),
    )
    yield (
        "spent, by the state before its inclusion",
        "false",
        changed(
            spent,
            ([10, 0, 0], chain.anchor(chain.coins[spent].height).opened()),
            ([10, 0, 1], chain.proof(spent, 9)[9][1]),
        ),
    )
    yield "a start that is not the first", "false", changed(unspent, ([8], chain.start(2, 9)))
    yield (
        "a history node of another time",
        "false",
        changed(unspent, ([8, 0], chain.proof(unspent, 9)[8][0][:-1] + b"\x00")),
    )
    header = chain.anchor(9).coin.raw
    yield "a mix of zeros", "false", changed(unspent, ([6, 0], header[:166] + bytes(32)))
    yield "nothing", "none", b""
    yield "the name alone", "none", b"UNCHAINED-PROOF"
    yield "another name", "none", b"UNCHAINED-EXPORT\x01" + sound[16:]
    yield "version 2", "none", b"UNCHAINED-PROOF\x02" + sound[16:]
    yield "cut short", "none", sound[:-1]
    yield "a byte too many", "none", sound + b"\x00"
    yield "a field too few", "none", _file(chain.proof(unspent, 9)[:-1])
    yield "two earlier states", "none", changed(spent, ([10], 2 * chain.proof(spent, 9)[10]))
    yield (
        "a number in a longer form",
        "none",
        sound[:16] + sound[16:].replace(b"\x09", b"\xcc\x09", 1),
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(made_proof_files(), indent=1, ensure_ascii=True) + "\n")
