"""``unchained-node mine``: the node's miner."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking
from unchained.node.cli.facts import miner_facts, miner_state, print_facts
from unchained.node.cli.options import about
from unchained.node.cli.tables import print_rows

app = typer.Typer(no_args_is_help=True, help="Look after the node's miner.")

AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="Whom the coins pay.")
]


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="mine")


@asking(app, "status")
@user_text("Show what the miner does.")
def status(node: Asker) -> None:
    _show(node, node.call("mine.status"))


@asking(app, "start")
@user_text("Go on mining after `mine stop`.")
def start(node: Asker) -> None:
    _show_line(node, node.call("mine.start"))


@asking(app, "stop")
@user_text("Pause the miner until `mine start`, or until the node is restarted.")
def stop(node: Asker) -> None:
    _show_line(node, node.call("mine.stop"))


@asking(app, "set-workers")
@user_text("Set how many worker processes mine, until the node is restarted.")
def set_workers(
    node: Asker,
    count: Annotated[str, typer.Argument(metavar="N|auto", help="1 to 1024.")],
) -> None:
    _show(node, node.call("mine.set_workers", workers=_count(count)))


@asking(app, "set")
@user_text("Change how the miner runs, until the node is restarted.")
def change(
    node: Asker,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N|auto", help=about("mining.workers"))
    ] = None,
    nice: Annotated[
        int | None, typer.Option("--nice", min=0, max=19, help=about("mining.nice"))
    ] = None,
    affinity: Annotated[
        str | None,
        typer.Option("--affinity", metavar="N,N…|all", help=about("mining.affinity")),
    ] = None,
    cpu_cap: Annotated[
        int | None, typer.Option("--cpu-cap", min=1, max=100, help=about("mining.cpu_cap"))
    ] = None,
    huge_pages: Annotated[
        bool | None,
        typer.Option("--huge-pages/--no-huge-pages", help=about("mining.huge_pages")),
    ] = None,
    pause_on_battery: Annotated[
        bool | None,
        typer.Option(
            "--pause-on-battery/--no-pause-on-battery", help=about("mining.pause_on_battery")
        ),
    ] = None,
    pause_above_load: Annotated[
        int | None,
        typer.Option("--pause-above-load", min=0, max=100, help=about("mining.pause_above_load")),
    ] = None,
    pause_after_input_s: Annotated[
        int | None,
        typer.Option(
            "--pause-after-input-s", min=0, max=86_400, help=about("mining.pause_after_input_s")
        ),
    ] = None,
) -> None:
    changes = {
        "workers": None if workers is None else _count(workers),
        "nice": nice,
        "affinity": None if affinity is None else _cpus(affinity),
        "cpu_cap": cpu_cap,
        "huge_pages": huge_pages,
        "pause_on_battery": pause_on_battery,
        "pause_above_load": pause_above_load,
        "pause_after_input_s": pause_after_input_s,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        raise typer.BadParameter("name at least one setting to change: see --help")
    _show(node, node.call_with("mine.set", given))


def _count(text: str) -> int | str:
    return int(text) if text.isdigit() and len(text) < 6 else text


def _cpus(text: str) -> list[int]:
    if text == "all":
        return []
    if not all(part.isdigit() and len(part) < 5 for part in text.split(",")):
        raise typer.BadParameter(
            f"{text!r} is no list of CPUs, such as 0,2 or all", param_hint="--affinity"
        )
    return [int(part) for part in text.split(",")]


@asking(app, "template")
@user_text("Show work for a miner that is not the node's own.")
def template(node: Asker, address: AddressOption = None) -> None:
    node.show_fields(node.call("mine.template", address=address))


@asking(app, "submit")
@user_text("Hand in a coin that was mined elsewhere.")
def submit(
    node: Asker, raw: Annotated[str, typer.Argument(metavar="HEX", help="198 bytes in hex.")]
) -> None:
    node.show_fields(node.call("mine.submit", raw=raw))


@asking(app, "benchmark")
@user_text("Measure the network's proof of work on the node's machine.")
def benchmark(
    node: Asker,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, max=60, help="How many seconds to measure.")
    ] = 3.0,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=64, help="How many threads to use.")
    ] = 1,
) -> None:
    found = node.call_with("mine.benchmark", {"seconds": seconds, "threads": threads}, seconds=90)
    node.show_fields(found)


@asking(app, "generate")
@user_text("Mine anchors at once, on the network reg alone.")
def generate(
    node: Asker,
    anchors: Annotated[int, typer.Argument(metavar="[N]", min=1, max=10_000, help="How many.")] = 1,
    address: AddressOption = None,
    coins: Annotated[
        int, typer.Option("--coins", min=0, max=64, help="Fresh coins mined for each anchor.")
    ] = 0,
) -> None:
    found = node.call("mine.generate", seconds=660, anchors=anchors, address=address, coins=coins)

    def human() -> None:
        for anchor in found["anchors"]:
            typer.echo(anchor)

    node.show(found, human)


def _show_line(node: Asker, found: dict[str, Any]) -> None:
    """Say in a line how the miner stands; `mine status` says all of it."""
    node.show(found, lambda: typer.echo(f"the miner: {miner_state(found)}"))


def _show(node: Asker, found: dict[str, Any]) -> None:
    def human() -> None:
        # What to expect is a page of its own: `mine advise`.
        left_out = ("workers", "advice")
        members = {n: v for n, v in found.items() if n not in left_out}
        print_facts(found, miner_facts, members)
        if found["workers"]:
            columns = [
                "worker",
                "status",
                "hashrate",
                "hashes",
                "coins",
                "restarts",
                "last_failure",
            ]
            print_rows(found["workers"], columns, "no workers")

    node.show(found, human)
