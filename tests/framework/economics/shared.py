"""What experiments are told, and what several of them do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from tests.framework.economics import progress
from tests.framework.economics.figures import PARTS, Figure, Outcome, count_depths
from tests.framework.economics.scores import CHOICES
from tests.framework.economics.tally import Tally
from tests.framework.economics.withholding import Thresholds
from tests.framework.economics.world import Undone, World, steady
from unchained.node.consensus.params import MAIN

LISTS: Final = ("own", "first", "fresh", "all")
"""What an attacker's anchors may list."""


class Parameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an experiment is told. `delay` in T; `size`: epochs, or attempts."""

    size: int
    share: float = 0.0
    delay: float = 0.01
    miners: int = 4
    """Honest nodes, of one hash power each."""
    neighbours: int = 0
    """Of honest nodes alone: how many each has, who pass on what they hear, so that `delay` is that
    of a hop; 0: all."""
    verification: float = 0.0
    """T that an honest node takes to verify a coin, one after another, before it counts it, follows
    it and passes it on."""
    spam: int = 0
    """Of a withholding miner: forged coins that it sends every honest node for each honest coin, in
    half the time."""
    attackers: int = 1
    """Withholding miners of so much each, who do not know each other."""
    zipf: bool = False
    """Whether the n-th of them has an n-th of the first one's power instead."""
    discounts: bool = False
    """Of a race: whether the payee takes one off its votes for each coin that the anchor which pays
    might have listed and did not."""
    retarget: bool = False
    """Whether the difficulty moves, by the rules of main; else it stays what the power is for."""
    score: str = "shipping"
    leans: bool = False
    """Of a racer and a balancer: whether luck leans: rare events are seen oftener, and counted for
    less."""
    returns: bool = False
    """Of a racer: whether it goes back to the root for a first anchor that leads by more."""
    bait: bool = False
    """Of a racer: whether it pays by an anchor of its own that lists nothing."""
    ripe: int = 0
    """Of a racer: how many coins lie on the root before the first anchor, if it waits for such an
    epoch to pay."""
    alone: float = 1000.0
    show: float = 3.0
    give_up: float = 0.0
    lists: str = "own"
    hoards: bool = False
    stakes: float = 0.0
    worth: float = 0.0
    rival: float = 1000.0
    length: float = 8.0
    """T for which the network is cut in halves."""
    watched: float = 12.0
    """T after the cut for which it is watched."""
    patience: float = 8.0
    """Of a sniper: how far behind it gives up. Of a juggler and a balancer: how far the leader may
    get ahead."""
    height: int = 2
    """Of dead anchors: how many its miner puts above one another."""
    pool: float = 0.0
    """Of a sniper: subsidies in the pool of fees, for which it is said what sniping pays."""
    late_bodies: bool = False
    """Of a withholding miner: whether it shows the coins of its anchors at once, and keeps back no
    more than their bodies."""
    answers: bool = False
    """Whether honest miners leave out the coins of whoever leaves out others'."""
    halves: bool = False
    """Of a balancer: whether it tells half of the honest nodes alone, who pass it on."""

    def fault(self) -> str:
        """Return what is wrong with them, nothing if they will do: one rule, the first that is
        broken. That each number is no less than it can be is for whoever reads it."""
        rules = (
            (self.share < 1, f"--share {self.share:g}, expected a part of the hash power, below 1"),
            (
                self.share * self.attackers < 1,
                f"--attackers {self.attackers} of --share {self.share:g} each have "
                f"{self.share * self.attackers:g} of the hash power, expected less than all",
            ),
            (
                not self.spam or self.verification > 0,
                "--spam takes --verification: what nobody verifies is no spam",
            ),
            (
                not (self.spam and self.late_bodies),
                "--spam and --late-bodies are two policies, expected one of them",
            ),
            (
                self.lists in LISTS,
                f"--lists {self.lists}, expected one of {', '.join(LISTS)}",
            ),
            (
                self.score in CHOICES,
                f"--score {self.score}, expected one of {', '.join(CHOICES)}",
            ),
            (
                self.score == "shipping" or not self.returns,
                "--returns goes by the score that ships, expected no --score",
            ),
            (
                self.score == "shipping" or not self.bait,
                "--bait goes by the score that ships, expected no --score",
            ),
            (
                not self.leans or 0 < self.share < 0.5,
                f"--leans with --share {self.share:g}, expected a part of the hash power above 0 "
                "and below 0.5",
            ),
        )
        return next((words for holds, words in rules if not holds), "")

    def thresholds(self) -> Thresholds:
        names = Thresholds.__struct_fields__
        return Thresholds(**{name: getattr(self, name) for name in names})


def network_of(parameters: Parameters, seed: int, shares: Sequence[float]) -> World:
    """Return a world on main's parameters."""
    ease = 4 if parameters.retarget else 1
    world = World(MAIN if parameters.retarget else steady(), seed, shares, ease)
    world.verification = parameters.verification * world.network.epoch_ms
    return world


def with_attacker(
    world: World, delay: float, honest_miners: int, attackers: int = 1
) -> list[list[float]]:
    """Return delays among honest nodes and attackers, who are last and hear at once."""
    apart = delay * world.network.epoch_ms
    row = [apart] * honest_miners + [0.0] * attackers
    return [row] * honest_miners + [[apart] * len(row)] * attackers


LEAST_PART: Final = 20
"""Epochs of a part, so that each branch that is shown at once lies in few of them."""


def run_epochs(world: World, epochs: int) -> Tally:
    """Run until the first miner has so many epochs for good."""
    parts = max(1, min(PARTS, epochs // LEAST_PART))
    tally = Tally(world, world.miners[0].view, epochs // parts)

    def is_going() -> bool:
        progress.tell(tally.epochs, parts * (epochs // parts), "epochs")
        return len(tally.parts) < parts

    world.run(is_going)
    return tally


def reorganisations_of(undone: Sequence[Undone]) -> dict[str, int]:
    """Return the counts of an outcome that say how many reorganisations there were, how deep."""
    depths = [one.depth for one in undone]
    return {
        "reorganisations": len(depths),
        **count_depths(depths),
        "most anchors undone": max(depths, default=0),
        "most votes undone": max((one.votes for one in undone), default=0),
    }


def outcome_of(
    name: str,
    parameters: Parameters,
    world: World,
    began: float,
    figures: list[Figure],
    counts: dict[str, int] | None = None,
) -> Outcome:
    """Return an outcome, with what is counted in every world."""
    assert world.too_deep == 0, "nothing forks below what views keep"
    return Outcome(
        name,
        msgspec.to_builtins(parameters),
        figures,
        {
            "coins found": world.coins,
            **reorganisations_of(world.undone),
            **(counts or {}),
        },
        time.process_time() - began,
    )
