"""``unchained-node db``: look after the store of a node that is not running."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress as ProgressBars
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from unchained.node.base.number_words import number_of
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker
from unchained.node.cli.json_output import print_json
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    about,
    settings_from,
)
from unchained.node.cli.questions import ask_yes

if TYPE_CHECKING:
    from unchained.node.base.settings import Settings
    from unchained.node.consensus.params import Network
    from unchained.storage.check import CheckReport
    from unchained.storage.kv import KeyValueStore
    from unchained.storage.progress import Progress, Report

# The store's modules bring LevelDB and numpy: they are imported by the commands that need them,
# so that every other command starts fast.

BACKUP_S: Final = 6 * 3_600.0
"""How long the answer of a node may take that copies its store."""

app = typer.Typer(no_args_is_help=True, help="Check, measure or copy a node's store.")


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="db")


@app.command()
@user_text(
    "Read everything in the store and say what is wrong with it. Exit code 1 if anything is."
)
def check(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Put right what can be, and ask peers for what is gone; keep damaged files.",
        ),
    ] = False,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option("--bootstrap", metavar="ADDRESS", help=about("network.bootstrap")),
    ] = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.consensus.params import NETWORKS
    from unchained.storage.check import check as check_store

    settings = _settings(network, data_dir, config, bootstrap)
    with _progress() as report:
        rules = NETWORKS[settings.config.node.network]
        if repair:
            found, facts, whole = _repair(settings, rules, report)
        else:
            with _opened(settings) as store:
                found = check_store(store, rules, report)
            facts, whole = {}, found.sound
    _show_report(found, facts, json=json)
    if not whole:
        raise typer.Exit(1)


def _repair(
    settings: Settings, rules: Network, report: Report
) -> tuple[CheckReport, dict[str, object], bool]:
    """Put a store right, in place or by making its chain anew; return what is found then, what was
    done, and whether nothing is missing."""
    from unchained.storage.errors import NotRepairableError
    from unchained.storage.leveldb import REPAIR_HINT
    from unchained.storage.maintenance import is_apart
    from unchained.storage.maintenance import repair as repair_store

    kept: Path | None = None
    if not is_apart(settings.data_dir):
        try:
            done = repair_store(settings.data_dir, rules, report)
        except NotRepairableError as error:
            kept = error.kept
            why = str(error).removesuffix(f": {REPAIR_HINT}")
            typer.echo(f"{why}: the chain is made anew", err=True)
        else:
            kept = done.kept
            if done.report.sound:
                facts: dict[str, object] = {
                    "kept": None if kept is None else str(kept),
                    "rebuilt": msgspec.to_builtins(done.rebuilt),
                }
                return done.report, facts, True
    # Only here: it brings the chain and the network.
    from unchained.node.cli.db_remake import remake

    remade = remake(settings, kept, report)
    facts = {name: getattr(remade, name) for name in remade.__struct_fields__ if name != "report"}
    return remade.report, facts, remade.whole


def _show_report(found: CheckReport, facts: dict[str, object], *, json: bool) -> None:
    if json:
        everything = {"sound": found.sound, **msgspec.to_builtins(found), **facts}
        print_json(everything)
        return
    for name, fact in facts.items():
        typer.echo(f"{name}: {fact}")
    for problem in found.problems:
        typer.echo(problem)
    if found.problem_count > len(found.problems):
        typer.echo(f"and {number_of(found.problem_count - len(found.problems), 'problem')} more")
    entries = sum(found.entries.values())
    verdict = (
        "sound" if found.sound else f"{number_of(found.problem_count, 'problem')}: try --repair"
    )
    typer.echo(f"{number_of(entries, 'entry', 'entries')} read: {verdict}")


@app.command()
@user_text("Print how many entries and bytes each table of the store has.")
def stats(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.storage.maintenance import stats as store_stats

    with _progress() as report, _opened(_settings(network, data_dir, config)) as store:
        tables = store_stats(store, report)
    if json:
        print_json(tables)
        return
    shown = Table("table", box=None)
    shown.add_column("entries", justify="right")
    shown.add_column("bytes", justify="right")
    for table in tables:
        shown.add_row(table.table, f"{table.entries:,}", f"{table.size:,}")
    entries = sum(table.entries for table in tables)
    size = sum(table.size for table in tables)
    shown.add_row("all", f"{entries:,}", f"{size:,}", style="bold")
    Console().print(shown)


@app.command()
@user_text(
    """Copy the store into a new data directory, and compare the copy before it gets its name. A
    node that runs does it, and goes on meanwhile."""
)
def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A data directory to be made.")],
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.storage.maintenance import backup as backup_store

    node = Asker(network, data_dir, None, json)
    if node.is_running():
        found = node.call("db.backup", seconds=BACKUP_S, path=str(target.absolute()))
        entries, size = found["entries"], found["size"]
    else:
        with _progress() as report, _opened(_settings(network, data_dir, config)) as store:
            copied = backup_store(store, target, report)
        entries, size = copied.entries, copied.size
    shown = {"path": str(target.absolute()), "entries": entries, "size": size}
    told = f"{target}: {number_of(entries, 'entry', 'entries')}, {size:,} bytes"
    node.show(shown, lambda: typer.echo(told))


def _settings(
    network: str | None,
    data_dir: str | None,
    config: Path | None,
    bootstrap: list[str] | None = None,
) -> Settings:
    flags: dict[str, tuple[str, object | None]] = {
        "node.network": ("--network", network),
        "node.data_dir": ("--data-dir", data_dir),
        "network.bootstrap": ("--bootstrap", bootstrap or None),
    }
    return settings_from(flags, config=config)


@app.command()
@user_text("Remove the chain, to start anew. Wallets, the peer key and the configuration stay.")
def reset(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    from unchained.storage.maintenance import Removal

    settings = _settings(network, data_dir, config)
    # Nobody is asked for what a running node makes impossible, and none starts meanwhile.
    with closing(Removal(settings.data_dir)) as removal:
        if not yes and not ask_yes(f"Remove the chain in {settings.data_dir}?"):
            raise typer.Abort
        freed = removal.remove()
    if json:
        print_json({"path": str(settings.data_dir), "freed": freed})
    else:
        typer.echo(f"{settings.data_dir}: the chain is gone ({freed:,} bytes); wallets are kept")


@contextmanager
def _opened(settings: Settings) -> Iterator[KeyValueStore]:
    from unchained.node.consensus.params import NETWORKS
    from unchained.storage.open import open_store

    rules = NETWORKS[settings.config.node.network]
    store = open_store(settings.data_dir, rules, create=False)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _progress() -> Iterator[Report]:
    """Give a function to report to: a moving line on a terminal, a line for each stage else."""
    if sys.stderr.isatty():
        with ProgressBars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed:,} entries"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bars:
            tasks = {"": bars.add_task("opening")}

            def show(step: Progress) -> None:
                if step.stage not in tasks:
                    tasks[step.stage] = bars.add_task(step.stage)
                bars.update(tasks[step.stage], completed=step.done)

            yield show
    else:
        begun: set[str] = set()

        def write(step: Progress) -> None:
            if step.stage not in begun:
                begun.add(step.stage)
                typer.echo(f"reading {step.stage}", err=True)

        yield write
