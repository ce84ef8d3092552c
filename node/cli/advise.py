"""``unchained-node mine advise``: what a miner may expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import trio
import typer
from rich.console import Console
from rich.table import Table

from unchained.miner.advisor import Advice, Expectation, advise
from unchained.miner.benchmark import MeasurementFailedError, quick_rate
from unchained.miner.machine import auto_workers, physical_cores, usable_cpus
from unchained.node.base.number_words import number_of
from unchained.node.base.settings import Settings
from unchained.node.base.user_text import user_text
from unchained.node.cli import mine
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    SetOption,
    about,
    settings_from,
)
from unchained.node.consensus.params import NETWORKS, Network
from unchained.node.rpc.client.client import Client, ClientError, Endpoint
from unchained.node.rpc.core.errors import RpcError

FAILED: Final = 1
NODE_ANSWER_S: Final = 5.0
"""Seconds that a node has to say how it mines."""


class Mined(msgspec.Struct, frozen=True):
    """What is read of a node's `mine.status`; no advice where it has no miner."""

    target: str
    advice: Advice | None = None


class AdviceAnswer(msgspec.Struct, frozen=True):
    """Advice, the target that it is for, and where its figures come from."""

    source: str
    target: int
    advice: Advice


def add_to(_root: typer.Typer) -> None:
    """Add the command to those about the miner."""
    mine.app.command("advise")(give_advice)


@user_text(
    "Show what this machine may expect to mine, with what a running node says or without one."
)
def give_advice(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N", help=about("mining.workers"))
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="S",
            min=0.1,
            max=600,
            help="How many seconds to measure this machine.",
        ),
    ] = 3.0,
    config: ConfigFileOption = None,
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    settings = settings_from(
        {
            "node.network": ("--network", network),
            "node.data_dir": ("--data-dir", data_dir),
            "mining.workers": ("--workers", workers),
        },
        config=config,
        assignments=assignments,
    )
    rules = NETWORKS[settings.config.node.network]
    mined = _ask_node(settings)
    try:
        answer = _answer(settings, rules, mined, seconds)
    except* MeasurementFailedError as errors:
        typer.echo(f"unchained-node: {errors.exceptions[0]}", err=True)
        raise typer.Exit(FAILED) from None
    if json:
        print_json(shown(answer))
    else:
        _show(answer, rules)


def _ask_node(settings: Settings) -> Mined | None:
    """Return what the node on the data directory says; None where none does."""
    try:
        client = Client(Endpoint.of(settings.data_dir), timeout=NODE_ANSWER_S)
        return client.call("mine.status", into=Mined)
    except (ClientError, RpcError, ValueError):
        return None


def _answer(
    settings: Settings, network: Network, mined: Mined | None, seconds: float
) -> AdviceAnswer:
    if mined is not None and mined.advice is not None and mined.advice.hashrate > 0:
        source = "the running node's workers and its chain's target"
        return AdviceAnswer(source, int(mined.target, 16), mined.advice)
    target = network.target0 if mined is None else int(mined.target, 16)
    most = auto_workers(network.mem_kib)
    chosen = settings.config.mining.workers
    count = most if chosen == "auto" else chosen
    rates = _measure(sorted({1, count, most}), network.mem_kib, seconds)
    advice = advise(
        network,
        target,
        rate=rates[count],
        workers=count,
        most_workers=physical_cores(usable_cpus()),
        measured=rates,
    )
    known = "the network's first target" if mined is None else "the running node's target"
    return AdviceAnswer(f"a measurement of this machine; {known}", target, advice)


def _measure(counts: Sequence[int], mem_kib: int, seconds: float) -> dict[int, float]:
    """Return the rates of numbers of workers, each measured for its share of the time."""

    async def main() -> dict[int, float]:
        share = seconds / len(counts)
        return {count: await quick_rate(count, mem_kib, share) for count in counts}

    return trio.run(main)


def shown(answer: AdviceAnswer) -> dict[str, object]:
    """Return the advice as JSON can hold it: the target in hex."""
    fields: dict[str, object] = msgspec.to_builtins(answer.advice)
    return {"source": answer.source, "target": f"{answer.target:064x}", **fields}


def duration(seconds: float | None) -> str:
    """Return a time as people say it."""
    if seconds is None:
        return "never"
    for size, unit in ((86_400 * 365.25, "years"), (86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"


def _range(expected: Expectation) -> str:
    return f"{expected.mean:,.4g}  (90 %: {expected.least:,} to {expected.most:,})"


def _show(answer: AdviceAnswer, network: Network) -> None:
    advice = answer.advice
    first = advice.first_coin
    console = Console(highlight=False)
    rows = [
        ("from", answer.source),
        ("network", f"{advice.network}, {advice.network_hashrate:,.4g} H/s at this target"),
        ("this machine", f"{advice.hashrate:,.1f} H/s with {number_of(advice.workers, 'worker')}"),
        ("share", f"{advice.share:.3%} of the network"),
        ("a coin takes", f"{advice.hashes_per_coin:,.0f} hashes"),
        ("coins per epoch", f"{_range(advice.per_epoch)} in {duration(network.epoch_ms / 1000)}"),
        ("coins per day", _range(advice.per_day)),
        (
            "first coin",
            f"{duration(first.mean_s)} on average, half the time within "
            f"{duration(first.half_s)}, 90 % within {duration(first.most_s)}",
        ),
        ("anchor in a day", f"{advice.anchor_per_day:.1%}"),
    ]
    if advice.luck is not None:
        luck = advice.luck
        ratio = "" if luck.ratio is None else f", luck {luck.ratio:.0%}"
        kind = "or more" if luck.found > luck.expected else "or fewer"
        rows.append(
            (
                "so far",
                f"{luck.found:,} found, {luck.expected:,.4g} expected{ratio}; "
                f"{luck.found:,} {kind}: {luck.probability:.1%}",
            )
        )
    for name, text in rows:
        console.print(f"{name:16} {text}", soft_wrap=True)
    table = Table("workers", "H/s", "coins per day", "")
    for other in advice.alternatives:
        table.add_row(
            str(other.workers),
            f"{other.hashrate:,.1f}",
            f"{other.coins_per_day:,.4g}",
            "measured" if other.measured else "presumed",
        )
    console.print(table)
