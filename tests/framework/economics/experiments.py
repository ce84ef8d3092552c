"""The experiments by name: each plays one policy from a seed, and says what it measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from math import inf
from random import Random
from typing import Final

import msgspec

from tests.framework.economics.answering import Answering
from tests.framework.economics.balance import Balance, Balancer
from tests.framework.economics.cut import Bomber, Halves
from tests.framework.economics.dead import DeadMiner
from tests.framework.economics.fees import snipe
from tests.framework.economics.figures import Figure, Outcome, Sums
from tests.framework.economics.late_bodies import LateBodies
from tests.framework.economics.luck import Luck, leanings
from tests.framework.economics.progress import attempts
from tests.framework.economics.race import Attempt, Racer
from tests.framework.economics.scores import CHOICES
from tests.framework.economics.shared import (
    Parameters,
    network_of,
    outcome_of,
    reorganisations_of,
    run_epochs,
    with_attacker,
)
from tests.framework.economics.spam import Spammer
from tests.framework.economics.withholding import Thresholds, Withholding
from tests.framework.economics.world import Miner, Undone, World
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import MAIN

Experiment = Callable[[Parameters, int], Outcome]


def honest(parameters: Parameters, seed: int) -> Outcome:
    """Everybody keeps the rules: how often epochs fork, how many coins come late."""
    began = time.process_time()
    count = parameters.miners
    powers = [1 / rank if parameters.zipf else 1.0 for rank in range(1, count + 1)]
    world = network_of(parameters, seed, powers)
    world.miners = [Miner(world, index) for index in range(count)]
    world.delays = _apart(parameters, seed)
    world.relays = parameters.neighbours > 0
    tally = run_epochs(world, parameters.size)
    forks, late, stray = Sums(), Sums(), Sums()
    for part in tally.parts:
        forks.add_cases(part.forks, part.epochs)
        late.add_cases(part.kinds[CoinKind.LATE], part.coins)
        stray.add_cases(part.kinds[CoinKind.STRAY], part.coins)
    model = {0.001: (0.0008, 0.0016), 0.01: (0.0084, 0.016), 0.05: (0.042, 0.077)}
    of_forks, of_late = (
        (None, None)
        # Who is alone has nobody to fork from.
        if parameters.neighbours or parameters.verification or count == 1
        else model.get(parameters.delay, (None, None))
    )
    pace = Sums()
    pace.add(tally.last_ms / (parameters.size * world.network.epoch_ms))
    return outcome_of(
        "honest",
        parameters,
        world,
        began,
        [
            Figure("epochs with a fork", forks, model=of_forks),
            Figure("coins that come late", late, model=of_late),
            Figure("coins that stray", stray),
            Figure("epoch", pace, "T"),
        ],
    )


def _apart(parameters: Parameters, seed: int) -> list[list[float]]:
    """Return the delays between honest nodes, ms: the same, or infinite for those who are not
    neighbours, where a node has only some."""
    count, delay = parameters.miners, parameters.delay * MAIN.epoch_ms
    if not parameters.neighbours:
        return [[delay] * count for _ in range(count)]
    # A ring, which joins all, and chords by chance.
    rng = Random(seed)
    joined = [{(one - 1) % count, (one + 1) % count} for one in range(count)]
    for one in range(count):
        while len(joined[one]) < min(parameters.neighbours, count - 1):
            other = rng.randrange(count)
            if other != one:
                joined[one].add(other)
                joined[other].add(one)
    return [[delay if two in near else inf for two in range(count)] for near in joined]


MODEL_SHARES: Final = {0.1: 0.101, 0.2: 0.202, 0.25: 0.254, 0.33: 0.356, 0.4: 0.496}
"""Share of coins of an optimised withholding miner, by the model of Protocol §13."""


def withholding(parameters: Parameters, seed: int) -> Outcome:
    """A miner keeps anchors and coins back, or others' coins out of its own anchors."""
    began = time.process_time()
    count, attackers = parameters.miners, parameters.attackers
    rest = (1 - parameters.share * attackers) / count
    powers = [rest] * count + [parameters.share] * attackers
    world = network_of(parameters, seed, powers)
    honest_miner = Answering if parameters.answers else Miner
    policy: Callable[[World, int, Thresholds], Withholding] = Withholding
    if parameters.late_bodies:
        policy = LateBodies
    if parameters.spam:
        policy = partial(Spammer, forged=parameters.spam)
    world.miners = [honest_miner(world, index) for index in range(count)]
    playing = [policy(world, count + one, parameters.thresholds()) for one in range(attackers)]
    world.miners.extend(playing)
    world.delays = with_attacker(world, parameters.delay, count, attackers)
    tally = run_epochs(world, parameters.size)
    share, income, orphans = Sums(), Sums(), Sums()
    for part in tally.parts:
        # What it found beyond its share is luck, and the same luck would pay an honest miner.
        luck = part.found[count] / part.found.total() - parameters.share
        share.add(part.share([count]) - luck)
        orphans.add_cases(part.kinds[CoinKind.STRAY], part.coins)
    subsidies = sum(part.grains[count] for part in tally.parts) / world.network.subsidy
    epochs = tally.last_ms / world.network.epoch_ms
    is_ours_alone = (
        attackers > 1 or parameters.late_bodies or parameters.answers or parameters.verification > 0
    )
    income.add(subsidies / epochs / world.network.coins_per_epoch)
    return outcome_of(
        "withholding",
        parameters,
        world,
        began,
        [
            Figure(
                "share of all grains",
                share,
                model=None if is_ours_alone else MODEL_SHARES.get(parameters.share),
            ),
            Figure("income, of all that T pays at rest", income),
            Figure("coins that stray", orphans),
        ],
        {
            "branches shown": sum(one.shown for one in playing),
            "branches given up": sum(one.given_up for one in playing),
        },
    )


def dead(parameters: Parameters, seed: int) -> Outcome:
    """A miner makes its anchors dead, and votes for them: branches that count and lead nowhere."""
    began = time.process_time()
    count, share = parameters.miners, parameters.share
    world = network_of(parameters, seed, [(1 - share) / count] * count + [share])
    world.miners = [Miner(world, index) for index in range(count)]
    playing = DeadMiner(world, count, parameters.height)
    world.miners.append(playing)
    world.delays = with_attacker(world, parameters.delay, count)
    tally = run_epochs(world, parameters.size)
    got, stray, pace = Sums(), Sums(), Sums()
    for part in tally.parts:
        luck = part.found[count] / part.found.total() - share
        got.add(part.share([count]) - luck)
        stray.add_cases(part.kinds[CoinKind.STRAY], part.coins)
    pace.add(tally.last_ms / (parameters.size * world.network.epoch_ms))
    return outcome_of(
        "dead",
        parameters,
        world,
        began,
        [
            Figure("share of all grains", got),
            Figure("coins that stray", stray),
            Figure("epoch", pace, "T"),
        ],
        {"dead anchors": playing.dead_anchors},
    )


MODEL_RACES: Final = {
    (0.25, 16): 5.0e-3,
    (0.25, 32): 2.4e-4,
    (0.25, 64): 3e-6,
    (0.33, 16): 0.055,
    (0.33, 32): 0.012,
    (0.33, 64): 1.1e-3,
}
"""Payments undone by a private branch, by share and votes, at a delay of .01 T."""

MODEL_INCLUDED: Final = 0.12
"""The same of a quarter after 32 votes where the chain is chosen by included work alone."""

DEPTHS: Final = (16, 32, 64)
FAR_BEHIND: Final = 16.0
"""Votes behind which a racer gives up: a third of the power comes back from there once in 2**16."""


def race(parameters: Parameters, seed: int) -> Outcome:
    """A private branch beside an anchor that pays somebody."""
    is_ours_alone = parameters.bait or parameters.ripe > 0 or parameters.score != "shipping"
    model: dict[tuple[float, int], float] = {} if is_ours_alone else MODEL_RACES
    if parameters.score == "included":
        model = {(0.25, 32): MODEL_INCLUDED}
    return _payments("race", parameters, seed, Racer, Attempt, model)


def balance(parameters: Parameters, seed: int) -> Outcome:
    """Two branches that the attacker keeps level, by votes that it keeps back."""
    return _payments("balance", parameters, seed, Balancer, Balance, {(0.25, 32): 1e-4})


def _payments(
    name: str,
    parameters: Parameters,
    seed: int,
    policy: type[Racer],
    attempt_of: type[Attempt | Balance],
    model: dict[tuple[float, int], float],
) -> Outcome:
    began = time.process_time()
    sums = {depth: Sums() for depth in DEPTHS}
    choice = CHOICES[parameters.score]
    count, share = parameters.miners, parameters.share
    discounts = parameters.discounts
    returns, bait, ripe = False, False, 0
    if name == "race":
        returns, bait, ripe = parameters.returns, parameters.bait, parameters.ripe
    among = leanings(
        share,
        DEPTHS if parameters.leans else (),
        returns=returns,
        bait=bait,
        discounts=discounts,
    )
    paid = share if bait else 1.0
    first: World | None = None
    coins = 0
    for attempt in attempts(parameters.size):
        shares = [(1 - share) / count] * count + [share]
        world = network_of(parameters, (seed << 32) + attempt, shares)
        world.miners = [Miner(world, index) for index in range(count)]
        for miner in world.miners:
            miner.choice = choice
        racer = policy(world, count, choice)
        racer.returns, racer.baits = returns, bait
        if isinstance(racer, Balancer):
            racer.patience = parameters.patience
            racer.halves = world.relays = parameters.halves
        world.miners.append(racer)
        world.delays = with_attacker(world, parameters.delay, count)
        luck = Luck(world, share, among, attempt % len(among), ripe)
        if parameters.leans or ripe:
            world.draw = luck.draw
        played = attempt_of(world, racer, DEPTHS, luck)  # type: ignore[arg-type]
        played.discounts = discounts
        world.run(lambda played=played: played.is_going(FAR_BEHIND))  # type: ignore[misc]
        for depth in DEPTHS:
            # Who baits pays once in so many attempts: where its anchor is the first.
            sums[depth].add(played.undone.get(depth, 0.0) / paid)
        coins += world.coins
        first = first or world
    assert first is not None
    return Outcome(
        name,
        msgspec.to_builtins(parameters),
        [
            Figure(f"undone after {depth} votes", sums[depth], "p", model.get((share, depth)))
            for depth in DEPTHS
        ],
        {"coins found": coins},
        time.process_time() - began,
    )


def cut(parameters: Parameters, seed: int) -> Outcome:
    """Two halves of the network hear nothing of each other for `length` T: how soon they agree."""
    return _healing("cut", parameters, seed, None)


def bomb(parameters: Parameters, seed: int) -> Outcome:
    """The same, and a miner that heard both halves throws the votes in that it kept back: all that
    it has for the branch that trails, at once, to half of the nodes."""
    return _healing("bomb", parameters, seed, "bomb")


def juggle(parameters: Parameters, seed: int) -> Outcome:
    """The same, but that it throws in no more than turns the choice, as often as it can."""
    return _healing("juggle", parameters, seed, "juggle")


HEALED_WITHIN: Final = 2.0
"""T within which a cut network agrees, by the model."""


def _healing(name: str, parameters: Parameters, seed: int, mode: str | None) -> Outcome:
    began = time.process_time()
    taken, within, turns, votes, confirmations = Sums(), Sums(), Sums(), Sums(), Sums()
    coins = 0
    undone: list[Undone] = []
    for attempt in attempts(parameters.size):
        world, bomber, epoch = halves_of(parameters, (seed << 32) + attempt, mode)
        length, after = parameters.length * epoch, parameters.watched * epoch
        start = last = length
        world.run(lambda world=world, end=length: world.now < end)  # type: ignore[misc]
        if bomber is not None:
            # Everybody has heard everything and agrees when it begins.
            start = last = length + 2 * parameters.delay * epoch
            world.at(start, bomber.arm)
        while world.now < length + after:
            world.run(_one_event(world))
            height = 1 if bomber is None else bomber.fork.height + 1
            firsts = {_id_at(miner, height) for miner in world.miners[: parameters.miners]}
            if len(firsts) > 1:
                last = max(last, world.now)
            if bomber is not None:
                last = max(last, bomber.last_turn)
        taken.add((last - start) / epoch)
        within.add_cases(last - start <= HEALED_WITHIN * epoch, 1)
        if bomber is not None:
            turns.add(bomber.turns)
            votes.add(bomber.undone.votes)
            confirmations.add(bomber.undone.confirmations)
        coins += world.coins
        undone += world.undone
    figures = [
        Figure("until all agree for good", taken, "T"),
        Figure("within 2 T", within, model=1.0),
    ]
    if mode is not None:
        figures += [
            Figure("times that it turned the choice", turns, ""),
            Figure("most votes undone at once", votes, ""),
            Figure("most confirmations undone at once", confirmations, ""),
        ]
    return Outcome(
        name,
        msgspec.to_builtins(parameters),
        figures,
        {"coins found": coins, **reorganisations_of(undone)},
        time.process_time() - began,
    )


def halves_of(
    parameters: Parameters, seed: int, mode: str | None
) -> tuple[World, Bomber | None, float]:
    """Return a network whose halves hear nothing of each other for `length` T, who attacks it in a
    mode, if one is given, and the milliseconds of an epoch."""
    count, share = parameters.miners, parameters.share if mode is not None else 0.0
    shares = [(1 - share) / count] * count + ([share] if mode is not None else [])
    world = network_of(parameters, seed, shares)
    world.miners = [Miner(world, index, kept=96) for index in range(count)]
    epoch = float(world.network.epoch_ms)
    world.delays = with_attacker(world, parameters.delay, count)
    Halves(world, count, parameters.length * epoch)
    if mode is None:
        world.delays = [row[:count] for row in world.delays[:count]]
        return world, None, epoch
    world.relays = mode is not None
    patience = parameters.patience if mode == "juggle" else 0.0
    bomber = Bomber(world, count, mode, patience)
    world.miners.append(bomber)
    return world, bomber, epoch


def _id_at(miner: Miner, height: int) -> bytes:
    first = miner.view.tree.main_at(height)
    return b"" if first is None else first.id


def _one_event(world: World) -> Callable[[], bool]:
    """Return what lets a world run until something has happened."""
    before = world.happened
    return lambda: world.happened == before


EXPERIMENTS: Final[dict[str, Experiment]] = {
    "honest": honest,
    "withholding": withholding,
    "dead": dead,
    "race": race,
    "balance": balance,
    "cut": cut,
    "bomb": bomb,
    "juggle": juggle,
    "snipe": snipe,
}
"""All of them, by the name that `scripts/attack` takes."""

_ALWAYS: Final = frozenset({"size", "delay", "miners", "verification"})
_PAYMENTS: Final = _ALWAYS | {"share", "score", "leans", "discounts"}
_HALVES: Final = _ALWAYS | {"length", "watched"}

TAKES: Final[dict[str, frozenset[str]]] = {
    "honest": _ALWAYS | {"zipf", "neighbours", "retarget"},
    "withholding": _ALWAYS
    | {"share", "attackers", "spam", "late_bodies", "answers", "retarget"}
    | set(Thresholds.__struct_fields__),
    "dead": _ALWAYS | {"share", "height", "retarget"},
    "race": _PAYMENTS | {"returns", "bait", "ripe"},
    "balance": _PAYMENTS | {"patience", "halves"},
    "cut": _HALVES,
    "bomb": _HALVES | {"share"},
    "juggle": _HALVES | {"share", "patience"},
    "snipe": _ALWAYS | {"share", "patience", "hoards", "give_up", "pool"},
}
"""The parameters that each of them acts upon: any other is refused."""

SIZES: Final[dict[str, int]] = {
    "honest": 2_000,
    "withholding": 2_000,
    "dead": 2_000,
    "race": 500,
    "balance": 500,
    "cut": 20,
    "bomb": 20,
    "juggle": 20,
    "snipe": 500,
}
"""Epochs or attempts where nobody says how many."""

EPOCHS: Final = frozenset({"honest", "withholding", "dead"})
"""Those whose size is in epochs; that of the others is in attempts."""
