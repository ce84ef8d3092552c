"""``unchained-node bench``: how fast this machine is."""

from __future__ import annotations

import sys
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.table import Table

from unchained.miner.benchmark import (
    Measurement,
    MeasurementFailedError,
    Report,
    advised_workers,
    affordable,
    run_benchmark,
)
from unchained.miner.machine import available_kib, usable_cpus
from unchained.node.base.number_words import number_of
from unchained.node.base.user_text import user_text
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import JsonOption
from unchained.node.consensus.params import MAIN
from unchained.node.crypto.pow import MAX_MEM_KIB, MIN_MEM_KIB, reference_backend

app = typer.Typer(no_args_is_help=True, help="Measure how fast this machine is.")

FAILED = 1


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="bench")


# A group of its own, whatever else it measures one day: a single command would lose its name.
@app.callback()
@user_text("Measure how fast this machine is.")
def bench() -> None: ...


@app.command("pow")
@user_text("Measure the proof of work against the reference backend, in worker processes.")
def measure_pow(
    mem_kib: Annotated[
        int,
        typer.Option(
            "--mem-kib",
            metavar="N",
            min=MIN_MEM_KIB,
            max=MAX_MEM_KIB,
            help="Memory of one hash in KiB; the default is that of the network main.",
        ),
    ] = MAIN.mem_kib,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=1024,
            help="Measure this number of worker processes alone, not each up to the cores.",
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", metavar="S", min=0.1, max=3600, help="How many seconds to measure."
        ),
    ] = 10.0,
    json: JsonOption = False,
) -> None:
    counts = range(1, len(usable_cpus()) + 1) if workers is None else [workers]
    fitting = [count for count in counts if affordable(count, mem_kib, available_kib())]
    if not fitting:
        typer.echo(
            f"unchained-node: not enough memory for {number_of(counts[0], 'worker')} of "
            f"{mem_kib} KiB",
            err=True,
        )
        raise typer.Exit(FAILED)

    def note(found: Measurement) -> None:
        if sys.stderr.isatty():
            typer.echo(f"{number_of(found.workers, 'worker')}: {found.rate:,.1f} H/s", err=True)

    async def main() -> Report:
        return await run_benchmark(fitting, mem_kib, seconds, note=note)

    try:
        report = trio.run(main)
    except* MeasurementFailedError as errors:
        typer.echo(f"unchained-node: {errors.exceptions[0]}", err=True)
        raise typer.Exit(FAILED) from None
    if json:
        print_json(report)
    else:
        _show(report, skipped=len(counts) - len(fitting))


def _show(report: Report, skipped: int) -> None:
    console = Console(highlight=False)
    console.print(f"processor  {report.cpu}")
    console.print(f"backend    {report.backend}")
    table = Table("workers", "H/s", reference_backend().name, "ratio", "memory", "huge pages")
    for found in report.results:
        table.add_row(
            str(found.workers),
            f"{found.rate:,.1f}",
            f"{found.reference_rate:,.1f}",
            f"{found.ratio:.2f}",
            f"{found.bandwidth / 1e9:.1f} GB/s",
            "yes" if found.huge_pages else "no",
        )
    console.print(table)
    console.print(f"advised    {number_of(advised_workers(report.results), 'worker')}")
    if skipped:
        console.print(f"left out   {number_of(skipped, 'number')} of workers: not enough memory")
