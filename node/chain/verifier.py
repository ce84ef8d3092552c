"""Proofs of work and signatures, verified in worker threads, several at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Final, TypeVar, cast

import trio

from unchained.node.base.latency import Latency
from unchained.node.base.runner import Runner
from unchained.node.base.turns import Turns
from unchained.node.chain.proof_places import PROOFS_PER_PEER, ProofPlaces
from unchained.node.consensus.coins import check_mix
from unchained.node.consensus.errors import BadMixError
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import (
    ValidatedTransfer,
    validate_decoded_unsigned,
    validate_signatures,
    validate_unsigned,
)
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Wid

DECODED_AT_ONCE: Final = 32
"""Transfers that are decoded and checked before their signatures are: about a millisecond."""
PROOF_KIB_AT_ONCE: Final = 65_536
"""What the proofs of one trip to a thread may fill of memory, one after the other: some 35 ms,
after which the next asker has his turn."""
PROOFS_AT_ONCE_MAX: Final = 64
"""The same in proofs, where each takes little."""

S = TypeVar("S")
T = TypeVar("T")


class Verifier:
    """Shares out expensive work among `count` runs of `runner`; knows nothing of the chain."""

    def __init__(self, network: Network, runner: Runner, count: int, backend: ProofOfWork) -> None:
        self._network = network
        self._runner = runner
        self._count = count
        self._backend = backend
        self._turns = Turns(count)
        self._proofs_at_once = max(1, min(PROOFS_AT_ONCE_MAX, PROOF_KIB_AT_ONCE // network.mem_kib))
        self.places = ProofPlaces()
        """Who has an unproven coin of a peer in hand holds one of these."""
        self.mixes = 0
        """Proofs verified since the start."""
        self.transfers = 0
        """Transfers validated since the start."""
        self.in_hand = 0
        """Proofs and transfers that are being verified, or wait for a thread."""
        self.proof_latency = Latency()
        """How long each proof takes, in its thread."""
        self.transfer_latency = Latency()
        """How long each transfer takes, in its thread."""

    async def verify_mixes(
        self, coins: Sequence[Coin], peer: str = "", *, has_place: bool = False
    ) -> None:
        """Recompute the Argon2id of coins, until one is found to be forged. Of a `peer`'s each
        takes one of its places, unless the caller `has_place`. Peers take turns, and what is no
        peer's with them. Raises `BadMixError`."""
        forged = await self._first_forged(coins, peer, has_place=has_place)
        if forged is not None:
            raise forged[1]

    async def find_forged(self, coins: Sequence[Coin]) -> CoinId | None:
        """Return the id of the first of some coins whose mix is not the Argon2id of its header,
        None if there is none. Those before it have been verified, those after it have not."""
        forged = await self._first_forged(coins, "", has_place=True)
        return None if forged is None else coins[forged[0]].id

    async def validate(
        self, transfers: Sequence[tuple[Wid, bytes | SizedTransfer]]
    ) -> dict[Wid, ValidatedTransfer]:
        """Return what transfers are by their bytes, whether they are decoded already or not."""

        def validate(
            share: Sequence[tuple[Wid, bytes | SizedTransfer]],
        ) -> list[tuple[Wid, ValidatedTransfer]]:
            return [
                found
                for at in range(0, len(share), DECODED_AT_ONCE)
                for found in self._validated(share[at : at + DECODED_AT_ONCE])
            ]

        self.transfers += len(transfers)
        shares = await self._share_out(validate, transfers)
        return {wid: found for share in shares for wid, found in share}

    def _validated(
        self, transfers: Sequence[tuple[Wid, bytes | SizedTransfer]]
    ) -> list[tuple[Wid, ValidatedTransfer]]:
        # Signatures throw the interpreter out of the processor's caches. So all else comes first,
        # for some transfers at once.
        began = time.perf_counter()
        unsigned = [
            (
                wid,
                validate_decoded_unsigned(transfer, self._network)
                if isinstance(transfer, SizedTransfer)
                else validate_unsigned(transfer, self._network, wid),
            )
            for wid, transfer in transfers
        ]
        share_s = (time.perf_counter() - began) / len(transfers)
        validated = []
        for wid, found in unsigned:
            began = time.perf_counter()
            signed = validate_signatures(found) if isinstance(found, SizedTransfer) else found
            self.transfer_latency.note(share_s + time.perf_counter() - began)
            validated.append((wid, signed))
        return validated

    async def _first_forged(
        self, coins: Sequence[Coin], peer: str, *, has_place: bool
    ) -> tuple[int, BadMixError] | None:
        """Return the first of some coins whose proof is forged, by its index, once all before it
        have been verified."""
        found: list[tuple[int, BadMixError]] = []
        takes_places = bool(peer) and not has_place

        def is_wanted(at: int) -> bool:
            return all(at < bad for bad, _ in found)

        def verify(begin: int) -> int:
            for at in range(begin, min(begin + self._proofs_at_once, len(coins))):
                # Another thread may have found one meanwhile.
                if not is_wanted(at):
                    return at - begin
                try:
                    with self.proof_latency.measured():
                        check_mix(coins[at], self._network, self._backend)
                except BadMixError as error:
                    found.append((at, error))
                    return at + 1 - begin
            return min(self._proofs_at_once, len(coins) - begin)

        begins = iter(range(0, len(coins), self._proofs_at_once))

        async def work() -> None:
            for begin in begins:
                # What follows is above it as well: no turn is taken for it.
                if not is_wanted(begin):
                    return
                place = self.places.place(peer) if takes_places else nullcontext()
                # What is no peer's is a chain's, and comes in batches: in one turn so many proofs.
                weight = 1.0 if takes_places else float(self._proofs_at_once)
                async with place, self._turns.turn(peer, weight):
                    if not is_wanted(begin):
                        return
                    done = await self._runner.run(verify, begin)
                    # Apart: others have counted theirs meanwhile.
                    self.mixes += done

        workers = min(
            PROOFS_PER_PEER if takes_places else self._count,
            math.ceil(len(coins) / self._proofs_at_once),
        )
        self.in_hand += len(coins)
        try:
            if workers <= 1:
                await work()
            else:
                async with trio.open_nursery() as nursery:
                    for _ in range(workers):
                        nursery.start_soon(work)
        finally:
            self.in_hand -= len(coins)
        return min(found, key=lambda bad: bad[0], default=None)

    async def _share_out(self, work: Callable[[Sequence[S]], T], items: Sequence[S]) -> list[T]:
        """Return ``work(share)`` of even shares of the items, worked on side by side."""
        count = min(self._count, len(items))
        shares = [items[at::count] for at in range(count)]
        results: list[T | None] = [None] * count

        async def run(index: int) -> None:
            results[index] = await self._runner.run(work, shares[index])

        self.in_hand += len(items)
        try:
            if count == 1:
                await run(0)
            else:
                async with trio.open_nursery() as nursery:
                    for index in range(count):
                        nursery.start_soon(run, index)
        finally:
            self.in_hand -= len(items)
        return cast("list[T]", results)
