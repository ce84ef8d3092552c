"""``unchained-node chain``: look at the chain, and carry it in a file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from unchained.node.base.number_words import number_of
from unchained.node.base.randomness import SYSTEM
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    settings_from,
)

app = typer.Typer(no_args_is_help=True, help="Look at the chain, or carry it in a file.")

EXPORT_SECONDS = 3660.0

AnchorArgument = Annotated[
    str, typer.Argument(metavar="ID|HEIGHT", help="An anchor's id, or a height.")
]
AnchorIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of an anchor.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of a minted coin.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A chain file.")]


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="chain")


@asking(app, "tip")
@user_text("Show the main chain's last anchor.")
def tip(node: Asker) -> None:
    node.show_fields(node.call("chain.tip"))


@asking(app, "anchor")
@user_text("Show an anchor and its body.")
def anchor(node: Asker, anchor: AnchorArgument) -> None:
    if _is_height(anchor):
        node.show_fields(node.call("chain.anchor_at", height=int(anchor)))
    else:
        node.show_fields(node.call("chain.anchor", anchor=anchor))


def _is_height(which: str) -> bool:
    return which.isdecimal() and which.isascii() and len(which) < 20


@asking(app, "header")
@user_text("Show the header of an anchor or any other minted coin.")
def header(node: Asker, coin: IdArgument) -> None:
    node.show_fields(node.call("chain.header", coin=coin))


@asking(app, "raw")
@user_text("Show the bytes of an anchor and its body in hex.")
def raw(node: Asker, anchor: AnchorIdArgument) -> None:
    node.show_fields(node.call("chain.raw", anchor=anchor))


@asking(app, "forks", table=True)
@user_text("Show the ends of all known branches.")
def forks(node: Asker) -> None:
    columns = ["height", "status", "length", "fork_height", "votes", "id"]
    node.show_rows(node.call("chain.forks"), columns, "no branches")


@asking(app, "params")
@user_text("Show the constants of the network.")
def params(node: Asker) -> None:
    node.show_fields(node.call("chain.params"))


@asking(app, "supply")
@user_text("Show how much there is, at the tip or after the anchor at a height.")
def supply(
    node: Asker,
    height: Annotated[
        int | None, typer.Argument(metavar="[HEIGHT]", min=0, help="Default: the tip.")
    ] = None,
) -> None:
    node.show_fields(node.call("chain.supply", height=height))


@asking(app, "difficulty-history", table=True)
@user_text("Show target, time and fees of the main chain's anchors.")
def difficulty_history(
    node: Asker,
    first: Annotated[int, typer.Option("--first", metavar="HEIGHT", min=0, help="From here.")] = 1,
    last: Annotated[
        int | None,
        typer.Option("--last", metavar="HEIGHT", min=0, help="To here; default: the tip."),
    ] = None,
    step: Annotated[int, typer.Option("--step", min=1, help="Show every Nth anchor.")] = 1,
) -> None:
    found = node.call("chain.difficulty_history", first=first, last=last, step=step)
    node.show_rows(found, ["height", "time", "n_total", "fees", "work", "target"], "no anchors")


@asking(app, "export")
@user_text(
    """Write the main chain into one file that can be verified without a node.

    A running node writes it, else the command reads the store itself.
    """
)
def export(
    node: Asker,
    file: FileArgument,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    if file.exists() and not force:
        raise CommandFailedError(f"{file} exists; --force replaces it")
    if not file.absolute().parent.is_dir():
        raise CommandFailedError(f"{file.absolute().parent}: no such directory")
    if node.remote or node.is_running():
        _export_by_node(node, file)
        return
    from unchained.node.cli.chain_file import export_store

    settings = settings_from(node.flags, config=None)
    done = export_store(settings.data_dir, settings.config.node.network, file)
    node.show(done, lambda: _show_exported(file, done.height, done.bytes))


def _export_by_node(node: Asker, file: Path) -> None:
    name = f"{SYSTEM.token_bytes(8).hex()}.chain"
    found = node.call("chain.export", name=name, seconds=EXPORT_SECONDS)
    made = Path(found["path"])
    if not made.exists():
        raise CommandFailedError(f"the node wrote {made} on its own machine: fetch it from there")
    shutil.move(made, file)
    found["path"] = str(file)
    node.show(found, lambda: _show_exported(file, found["height"], found["bytes"]))


def _show_exported(file: Path, height: int, size: int) -> None:
    typer.echo(f"{file}: {number_of(height, 'anchor')}, {size:,} bytes")


@asking(app, "set-aside")
@user_text(
    """Let an anchor and all that descends from it stop counting, until it is taken back.

    A height means the main chain's anchor there. A running node does it, else the command does it
    in the store itself.
    """
)
def set_aside(node: Asker, which: AnchorArgument) -> None:
    _put_aside(node, which, True)


@asking(app, "take-back")
@user_text("Let an anchor that was set aside count again, with all that descends from it.")
def take_back(node: Asker, anchor: AnchorIdArgument) -> None:
    _put_aside(node, anchor, False)


def _put_aside(node: Asker, anchor: str, is_aside: bool) -> None:
    if node.remote or node.is_running():
        if is_aside and _is_height(anchor):
            anchor = node.call("chain.anchor_at", height=int(anchor))["header"]["id"]
        method = "chain.set_aside" if is_aside else "chain.take_back"
        node.show_fields(node.call(method, anchor=anchor))
        return
    from unchained.node.cli.chain_file import put_aside

    settings = settings_from(node.flags, config=None)
    done = put_aside(settings.data_dir, settings.config.node.network, anchor, is_aside)
    node.show_fields(msgspec.to_builtins(done))


@app.command("import")
@user_text(
    """Take the anchors of a chain file into the store of a node that is not running.

    Each is validated as if a peer had sent it. Those that are there are passed over: an import that
    was cut off goes on when it is run again.
    """
)
def import_(
    file: FileArgument,
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    config: ConfigFileOption = None,
    json: JsonOption = False,
) -> None:
    from unchained.node.cli.chain_file import import_file

    settings = settings_from(
        {"node.network": ("--network", network), "node.data_dir": ("--data-dir", data_dir)},
        config=config,
    )
    done = import_file(settings.data_dir, settings.config.node.network, file)
    _show_taken_in(done.to_builtins(), json=json)


@app.command()
@user_text(
    """Validate every anchor of a chain file, in memory: without a node, a store or a network.

    It says nothing about whether another chain is heavier: compare the tip with what others have.
    """
)
def verify(file: FileArgument, json: JsonOption = False) -> None:
    from unchained.node.cli.chain_file import verify_file

    _show_taken_in(verify_file(file).to_builtins(), json=json)


def _show_taken_in(done: dict[str, object], *, json: bool) -> None:
    Asker(None, None, None, json).show_fields(done)
