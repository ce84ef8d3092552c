"""Proofs of work and signatures, verified in worker threads, several at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar, cast

import trio

from unchained.node.base.latency import Latency
from unchained.node.base.runner import Runner
from unchained.node.consensus.coins import check_mix, passes_alone
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

S = TypeVar("S")
T = TypeVar("T")


class Verifier:
    """Shares out expensive work among `count` runs of `runner`; knows nothing of the chain."""

    def __init__(self, network: Network, runner: Runner, count: int, backend: ProofOfWork) -> None:
        self._network = network
        self._runner = runner
        self._count = count
        self._backend = backend
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

    async def verify_mixes(self, coins: Sequence[Coin]) -> None:
        """Recompute the Argon2id of coins. Raises `BadMixError`."""

        def verify(share: Sequence[Coin]) -> BadMixError | None:
            return next((error for _, error in self._bad_mixes(share)), None)

        self.mixes += len(coins)
        for error in await self._share_out(verify, coins):
            if error is not None:
                raise error

    async def find_forged(self, coins: Sequence[Coin]) -> set[CoinId]:
        """Return the ids of the coins whose mix is not the Argon2id of their header; those that
        fail without a look at their mix are passed over."""

        def verify(share: Sequence[Coin]) -> list[CoinId]:
            worth_it = [coin for coin in share if passes_alone(coin, self._network)]
            return [coin.id for coin, _ in self._bad_mixes(worth_it)]

        self.mixes += len(coins)
        shares = await self._share_out(verify, coins)
        return {coin_id for share in shares for coin_id in share}

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

    def _bad_mixes(self, coins: Sequence[Coin]) -> Iterator[tuple[Coin, BadMixError]]:
        for coin in coins:
            try:
                with self.proof_latency.measured():
                    check_mix(coin, self._network, self._backend)
            except BadMixError as error:
                yield coin, error

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
