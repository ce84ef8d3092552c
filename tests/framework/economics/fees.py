"""Experiments with the pool of fees (Protocol §5.4)."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from tests.framework.economics.figures import Figure, Outcome, Sums
from tests.framework.economics.progress import attempts
from tests.framework.economics.shared import Parameters, network_of, with_attacker
from tests.framework.economics.snipe import Sniper, income
from tests.framework.economics.world import Miner


def snipe(parameters: Parameters, seed: int) -> Outcome:
    """A miner tries to replace an anchor that has taken its part of the pool of fees."""
    began = time.process_time()
    lost, won, nets, coins = Sums(), Sums(), Sums(), 0
    for attempt in attempts(parameters.size):
        (mined, fees), (mined_honestly, fees_honestly) = (
            _sniped(parameters, (seed << 32) + attempt, patience)
            for patience in (parameters.patience, None)
        )
        lost.add(mined_honestly - mined)
        won.add(fees - fees_honestly)
        nets.add(parameters.pool * (fees - fees_honestly) - (mined_honestly - mined))
        coins += 1
    pays = Sums()
    if won.total > 0:
        pays.add(lost.total / won.total)
    model = 21.0 if parameters.share == 0.25 else None
    figures = [
        Figure("loses", lost, "subsidies"),
        Figure("wins, of the pool", won),
        Figure("pays from a pool of", pays, "subsidies", model),
    ]
    if parameters.pool:
        figures.append(Figure(f"nets of a pool of {parameters.pool:g}", nets, "subsidies"))
    return Outcome(
        "snipe",
        msgspec.to_builtins(parameters),
        figures,
        {"attempts": coins},
        time.process_time() - began,
    )


SNIPING_T: Final = 6.0
"""T for which a sniper's income is watched."""


def _sniped(parameters: Parameters, seed: int, patience: float | None) -> tuple[float, float]:
    count, share = parameters.miners, parameters.share
    world = network_of(parameters, seed, [(1 - share) / count] * count + [share])
    world.miners = [Miner(world, index, kept=96) for index in range(count)]
    world.delays = with_attacker(world, parameters.delay, count)
    sniper = Sniper(world, count, patience, parameters.hoards, parameters.give_up)
    sniper.view.kept = sniper.public.kept = 96
    world.miners.append(sniper)
    world.run(lambda: sniper.public.tip.height == 0)
    if world.finds[sniper.public.tip.id].miner == count:
        # Its own anchor: there is nothing to snipe.
        return 0.0, 0.0
    until = world.now + SNIPING_T * world.network.epoch_ms
    world.run(lambda: world.now < until)
    sniper.stop()
    settled = until + 3 * world.network.epoch_ms
    world.run(lambda: world.now < settled)
    return income(world, count, world.network.birth_ms + int(until), share)
