"""The options of `scripts/attack`: what each is for, and which experiments act upon it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tests.framework.arguments import at_least, number
from tests.framework.economics.experiments import EXPERIMENTS, SIZES, TAKES
from tests.framework.economics.scores import CHOICES
from tests.framework.economics.shared import Parameters

WORDS: Final[dict[str, tuple[str, str]]] = {
    "size": ("N", "epochs, or attempts"),
    "share": ("PART", "the attacker's part of the hash power, 0 to 1"),
    "delay": ("T", "how long a message takes between two honest nodes"),
    "miners": ("N", "honest nodes"),
    "neighbours": ("N", "how many others each node knows, who pass on what they hear; 0: all"),
    "verification": ("T", "how long an honest node takes to verify a coin"),
    "spam": ("N", "forged coins that the attacker sends every honest node for each honest coin"),
    "attackers": ("N", "attackers of that share each, who do not know each other"),
    "zipf": ("", "the n-th honest node has an n-th of the first one's power"),
    "discounts": ("", "the payee counts confirmations as the node does, not votes alone"),
    "retarget": ("", "the difficulty moves, by the rules of main"),
    "score": ("NAME", f"what chooses the chain: {', '.join(CHOICES)}"),
    "leans": ("", "luck leans: rare events are seen oftener, and counted for less"),
    "returns": ("", "the attacker goes back to the root for a first anchor that leads by more"),
    "bait": ("", "the attacker pays by an anchor of its own that lists nothing"),
    "ripe": ("N", "it pays in an epoch of which so many coins have come before an anchor"),
    "alone": ("COINS", "it shows its branch from such a lead on while there is no other"),
    "show": ("COINS", "it shows its branch once it leads another by no more"),
    "give_up": ("COINS", "how far behind it gives up"),
    "lists": ("NAME", "what its anchors list: own, first, fresh or all"),
    "hoards": ("", "it keeps its coins for its own anchor"),
    "stakes": ("COINS", "how much later it gives up for each coin that it would lose"),
    "worth": ("COINS", "what must be at stake before it shows its branch"),
    "rival": ("COINS", "how far a rival would have to lead for it to mine beside others' anchor"),
    "length": ("T", "how long the network is cut in halves"),
    "watched": ("T", "how long it is watched after the cut"),
    "patience": ("COINS", "how far behind a sniper gives up, or ahead the leader may get"),
    "height": ("N", "how many dead anchors it puts above one another"),
    "pool": ("N", "subsidies in the pool of fees"),
    "late_bodies": ("", "it shows the coins of its anchors at once, and their bodies late"),
    "answers": ("", "honest miners leave out the coins of whoever leaves out others'"),
    "halves": ("", "it tells half of the honest nodes alone"),
}
"""By parameter: what its value is, nothing for a switch, and what it is for."""


LEAST: Final[dict[str, int]] = {
    "size": 1,
    "miners": 1,
    "attackers": 1,
    "height": 1,
    **dict.fromkeys(("neighbours", "spam", "ripe"), 0),
    **dict.fromkeys(("share", "delay", "verification", "pool", "length", "watched"), 0),
}
"""The parameters that cannot be just any number, and the least that they can be."""


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter of an experiment."""
    group = parser.add_argument_group(
        "parameters",
        "T is the mean time of an epoch; a coin counts once in a score, a vote twice.",
    )
    for field in msgspec.structs.fields(Parameters):
        flag = "--" + field.name.replace("_", "-")
        value, words = WORDS[field.name]
        told = f"{words} ({', '.join(_notes(field))})"
        if field.type is bool:
            group.add_argument(flag, action="store_true", default=None, help=told)
        else:
            group.add_argument(flag, type=_reader(field), metavar=value, help=told)


def _reader(field: Any) -> Callable[[str], Any]:
    """Return what reads the value of a parameter, as argparse's `type`."""
    if field.type is int:
        return at_least(LEAST[field.name])
    if field.type is float:
        return number(LEAST.get(field.name))
    return str


def _notes(field: Any) -> Iterator[str]:
    """Yield which experiments take a parameter, and what it is where nobody says."""
    takers = [name for name in EXPERIMENTS if field.name in TAKES[name]]
    yield "all" if len(takers) == len(EXPERIMENTS) else ", ".join(takers)
    if field.name == "size":
        yield f"else {_sizes()}"
    elif field.type is not bool:
        yield f"else {field.default:g}" if field.type is not str else f"else {field.default}"


def _sizes() -> str:
    by_size: dict[int, list[str]] = {}
    for name, size in SIZES.items():
        by_size.setdefault(size, []).append(name)
    return ", ".join(f"{size:,} for {_joined(names)}" for size, names in by_size.items())


def _joined(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that were given."""
    names = Parameters.__struct_fields__
    return {one: value for one in names if (value := getattr(arguments, one)) is not None}
