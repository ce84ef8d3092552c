"""Many anchors at once on their way in: some are verified while the ones before are connected."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

import trio

from unchained.node.base.clock import Clock
from unchained.node.chain.cheap_checks import split_fitting
from unchained.node.chain.core import ChainCore
from unchained.node.chain.held_coins import Sender
from unchained.node.chain.results import (
    Held,
    NeedsProof,
    Outcome,
    Package,
    ProvenAnchor,
    ProvenCoin,
)
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid

RUN_TRANSFERS: Final = 256
"""Transfers after which a run ends: some 25 ms of signatures on two cores."""

RUN_ANCHORS: Final = 64
"""Anchors of a run at most."""


_Sound = tuple[int, ProtocolError | None]


class SingleIntake(Protocol):
    """Takes in single objects: `ChainService`."""

    async def submit_coin(
        self, coin: Coin | ProvenCoin, *, sender: Sender | None = None
    ) -> Outcome | Held:
        """Take in a coin."""

    async def submit_package(self, package: Package) -> Outcome:
        """Take in an anchor's body."""

    async def validate_transfers(self, transfers: Mapping[Wid, bytes]) -> None:
        """Validate transfers by their bytes and remember what they are."""


class ChainIntake:
    """Submits anchors to the chain's writer in runs of some size."""

    def __init__(
        self,
        network: Network,
        writer: ChainWriter,
        verifier: Verifier,
        single: SingleIntake,
        *,
        clock: Clock,
    ) -> None:
        self._network = network
        self._writer = writer
        self._verifier = verifier
        self._single = single
        self._clock = clock

    async def submit(
        self, packages: Sequence[Package], proven: Collection[CoinId]
    ) -> tuple[int, ProtocolError | None]:
        """Take in anchors, as `ChainService.submit_chain` does."""
        runs = list(_runs(packages))
        sound, broken = await self._verify(runs[0], proven) if runs else (0, None)
        done = 0
        for at, run in enumerate(runs):
            verified: list[_Sound] = []

            async def verify_next(into: list[_Sound], following: Sequence[Package]) -> None:
                into.append(await self._verify(following, proven))

            async with trio.open_nursery() as nursery:
                if sound == len(run) and at + 1 < len(runs):
                    nursery.start_soon(verify_next, verified, runs[at + 1])
                taken, error = await self._submit(run[:sound])
            done += taken
            if error is None and sound < len(run):
                # What is invalid here already is only known by the ordinary way.
                error = await self._submit_unsound(run[sound]) or broken
            if error is not None or not verified:
                return done, error
            ((sound, broken),) = verified
        return done, None

    async def _verify(self, run: Sequence[Package], proven: Collection[CoinId]) -> _Sound:
        """Return how many anchors come before the first with a forged proof, or that breaks a rule
        before proofs are looked at, and that rule; what the transfers of these are is
        remembered."""
        fitting, broken = split_fitting(run, {}, self._network)
        coins = [
            coin
            for package in fitting
            for coin in (package.anchor, *package.coins.values())
            if coin.id not in proven
        ]
        forged = await self._verifier.find_forged(coins)
        sound = next(
            (at for at, it in enumerate(fitting) if forged in {it.anchor.id, *it.coins}),
            len(fitting),
        )
        await self._single.validate_transfers(
            {wid: raw for package in run[:sound] for wid, raw in package.transfers.items()}
        )
        return sound, broken if sound == len(fitting) else None

    async def _submit(self, run: Sequence[Package]) -> tuple[int, ProtocolError | None]:
        anchors = [ProvenAnchor(package) for package in run]
        now_ms = self._clock.now_ms()

        def submit(core: ChainCore) -> tuple[int, ProtocolError | None]:
            # the caller is to hear which rule they break when they are connected
            self._writer.choose_now()
            return core.submit_chain(anchors, now_ms)

        return await self._writer.call(submit)

    async def _submit_unsound(self, package: Package) -> ProtocolError | None:
        """Submit by the ordinary way what breaks a rule before it is connected, for the one that it
        breaks first."""
        anchor, now_ms = package.anchor, self._clock.now_ms()
        try:
            result = await self._writer.call(lambda core: core.submit_coin(anchor, now_ms))
            if isinstance(result, NeedsProof):
                await self._verifier.verify_mixes(result.coins)
                await self._single.submit_coin(ProvenCoin(anchor))
            await self._single.submit_package(package)
        except ProtocolError as error:
            return error
        return None


def _runs(packages: Sequence[Package]) -> Iterator[Sequence[Package]]:
    """Yield the packages in runs, each of enough transfers or anchors to be worth its own trip."""
    begin = transfers = 0
    for at, package in enumerate(packages, 1):
        transfers += len(package.transfers)
        if transfers >= RUN_TRANSFERS or at - begin == RUN_ANCHORS:
            yield packages[begin:at]
            begin, transfers = at, 0
    if begin < len(packages):
        yield packages[begin:]
