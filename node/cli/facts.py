"""What commands say to people of what a node has answered: its members by people's names, what goes
without saying left out. Other programs read the members themselves, as pipes and --json have them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import typer

from unchained.node.base.number_words import duration, number_of
from unchained.node.base.terminal_text import harmless
from unchained.node.cli.asker import Asker
from unchained.node.cli.tables import (
    BOLD,
    GREEN,
    RED,
    YELLOW,
    field_lines,
    numbers_of,
    print_fields,
    width,
)

Facts = Iterable[tuple[str, str]]
"""What there is to say: a name of people's for it, and its value."""

SUM_COLUMNS: Final = 20
"""Columns of a sum that stands before what it is."""

_STYLES: Final = {
    "total": BOLD,
    "earned": BOLD,
    "fee": BOLD,
    "attention": RED,
    "warning": YELLOW,
    "mining": GREEN,
}


def show_facts(
    node: Asker,
    found: Mapping[str, Any],
    facts: Callable[[Mapping[str, Any]], Facts],
    members: Mapping[str, Any] | None = None,
) -> None:
    """Show an answer: to a person its facts, to other programs its members."""
    node.show(found, lambda: print_facts(found, facts, members))


def print_facts(
    found: Mapping[str, Any],
    facts: Callable[[Mapping[str, Any]], Facts],
    members: Mapping[str, Any] | None = None,
) -> None:
    """Print the facts of an answer on a terminal, elsewhere its members; `members` where these are
    not all. `facts` is given the answer whole: it finds each member that its method promises."""
    if not sys.stdout.isatty():
        print_fields(found if members is None else members)
        return
    rows = [(name, harmless(value), _STYLES.get(name, "")) for name, value in facts(found)]
    typer.echo("\n".join(field_lines(rows, width())))


def known(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an answer that have a value."""
    return {name: value for name, value in found.items() if value is not None}


def labelled(label: str, text: str, columns: int) -> list[str]:
    """Return the lines of a text that has to be copied in one piece, behind a label: beside it, or
    on a line of its own where that is too long."""
    beside = f"{label} {text}"
    return [beside] if len(beside) <= columns else [label.rstrip(), text]


def wallet_state(found: Mapping[str, Any]) -> str:
    """Return in what state a wallet is: what it takes to spend from it."""
    if not found["open"]:
        return "closed"
    if found["watch_only"]:
        return "watch-only"
    if not found["locked"]:
        return "unlocked"
    return "locked" if found["has_passphrase"] else "no passphrase"


def wallet_facts(found: Mapping[str, Any]) -> Facts:
    """Say what a wallet is, and how far it has followed the chain."""
    yield "wallet", found["wallet"]
    if not found["open"]:
        yield "state", f"closed: `wallet open -w {found['wallet']}` opens it"
        if found["failure"]:
            yield "attention", found["failure"]
        return
    if found["watch_only"]:
        yield "state", "open, watch-only: it sees all and spends nothing"
    else:
        yield "state", f"open, {wallet_state(found)}"
        guard = "yes" if found["has_passphrase"] else "none: who can read its file has its coins"
        yield "passphrase", guard
        if found["has_bip39_passphrase"]:
            yield "its words", "bring it back with their BIP 39 passphrase alone"
    yield "accounts", numbers_of(found["accounts"])
    if found["found_accounts"]:
        yield "found in the chain", numbers_of(found["found_accounts"])
    if found["birth_height"]:
        yield "no coins below", f"height {found['birth_height']:,}"
    if found["progress"] is None:
        yield "has read", "nothing yet"
    else:
        yield from _progress(found["progress"])
    if found["failure"]:
        yield "attention", f"it does not follow the chain: {found['failure']}"


def _progress(progress: Mapping[str, Any]) -> Facts:
    if progress["caught_up"]:
        yield "has read", f"all up to height {progress['height']:,}"
    elif progress["height"] >= progress["tip_height"]:
        yield "has read", f"up to height {progress['height']:,}"
    else:
        yield "has read", f"up to height {progress['height']:,} of {progress['tip_height']:,}"
    if progress["rescan_next"] is not None:
        first, following = progress["rescan_from"], progress["rescan_next"]
        yield "reads again", f"from height {first:,} on, is at {following:,}"


def contract_facts(found: Mapping[str, Any]) -> Facts:
    """Say what a contract with its balance is."""
    yield "state", found["status"]
    yield from terms_facts(found["contract"])
    balance = found["balance"]
    for name in ("confirmed", "immature", "leaving", "pending"):
        if name == "confirmed" or float(balance[name]):
            yield name, f"{balance[name]} UNC"
    if own := found["own_keys"]:
        yield "own keys", f"{len(own)}"


def terms_facts(contract: Mapping[str, Any]) -> Facts:
    """Say what a contract is and what spends what it has."""
    if contract["label"]:
        yield "name", contract["label"]
    if not contract["confirmed"]:
        anew = f"`wallet label contract {contract['lock'][:12]} TEXT`"
        yield "warning", f"that name came out of a backup: compare what follows, then {anew}"
    if contract["kind"] == "multisig":
        keys = contract["key_hashes"]
        yield "kind", f"m-of-n: {contract['threshold']} of {len(keys)} keys spend"
        for number, key in enumerate(keys, 1):
            yield f"key {number}", key
    else:
        yield "kind", "hash-time-lock"
        # titles that leave an id room beside them
        yield "claim key", contract["claim"]
        yield "hash", contract["hash"]
        if contract["preimage"]:
            yield "preimage", contract["preimage"]
            yield "", "a secret before the claim: who has it takes the coins; do not hand it over"
        yield "refund key", contract["refund"]
        yield "refund from", f"height {contract['refund_height']:,}"
    yield "lock", contract["lock"]
    yield "fingerprint", contract["fingerprint"]
    yield "pay it to", contract["text"]


def miner_state(found: Mapping[str, Any]) -> str:
    """Return how the miner stands, and why it does nothing where it does nothing."""
    # A node of an earlier version does not say what it waits for.
    reasons = ", ".join(found["pauses"]) or found.get("waits_for")
    return f"{found['status']} ({reasons})" if reasons else str(found["status"])


def miner_facts(found: Mapping[str, Any]) -> Facts:
    """Say what the miner does, what came of it, and how it is set."""
    yield "miner", miner_state(found)
    if found["status"] == "off":
        yield "hashes for a coin", f"{int(found['work']):,} on average"
        return
    yield "on height", f"{found['height']:,}"
    yield (
        "hashes a second",
        f"{found['hashrate']:,.1f} at present, {found['hashrate_1m']:,.1f} in the last minute, "
        f"{found['hashrate_15m']:,.1f} in 15 minutes",
    )
    yield "hashes for a coin", f"{int(found['work']):,} on average, {found['hashes']:,} done so far"
    if found["expected_ms"] is not None:
        yield "a coin every", f"{duration(found['expected_ms'])} on average"
    rejected = f", {found['coins_rejected']} refused" if found["coins_rejected"] else ""
    yield (
        "found since start",
        f"{number_of(found['coins_found'], 'coin')}, "
        f"{number_of(found['anchors_found'], 'anchor')}{rejected}",
    )
    if (harvest := found["harvest"]) is not None:
        late = harvest["late"] + harvest["stray"]
        yield (
            "of these",
            f"{harvest['included'] + late} on the chain, {harvest['waiting']} waiting, "
            f"{harvest['lost']} lost",
        )
        yield "earned", f"{harvest['earned']} UNC with fees"
    if (settings := found["settings"]) is not None:
        yield from _settings(settings)
    if (machine := found["machine"]) is not None and machine["temperature"] is not None:
        yield "machine", f"{machine['temperature']:.0f} °C"
    if found["backend"] is not None:
        yield "hashes by", found["backend"]


def _settings(settings: Mapping[str, Any]) -> Facts:
    chosen = ", as many as suit the machine" if settings["automatic_workers"] else ""
    yield "workers", f"{settings['workers']}{chosen}, nice level {settings['nice']}"
    if settings["affinity"]:
        yield "on CPUs", ", ".join(map(str, settings["affinity"]))
    if settings["cpu_cap"] < 100:
        yield "CPU for each", f"{settings['cpu_cap']} percent"
    pauses = [
        text
        for holds, text in (
            (settings["pause_on_battery"], "on battery"),
            (
                settings["pause_above_load"],
                f"others use more than {settings['pause_above_load']} percent",
            ),
            (
                settings["pause_after_input_s"],
                f"somebody typed in the last {settings['pause_after_input_s']} s",
            ),
        )
        if holds
    ]
    if pauses:
        yield "pauses when", ", ".join(pauses)
