"""``unchained-node peers`` and ``net``: the node's connections to others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from unchained.node.base.terminal_text import harmless
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, asking

app = typer.Typer(no_args_is_help=True, help="Look after the node's connections.")

PeerArgument = Annotated[
    str, typer.Argument(metavar="IP|ID", help="An IP address, or a connected peer's id.")
]
BAN_COLUMNS = ("address", "until_time", "count", "reason")


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    asking(root, "peers", table=True)(peers)
    root.add_typer(app, name="net")


@user_text("Show the connected peers.")
def peers(node: Asker) -> None:
    found = node.call("net.peers")
    columns = ["peer", "outbound", "height", "connected_ms", "latency_ms", "security", "address"]
    rows = [peer | {"security": _link(peer)} for peer in found]
    empty = "no peers"
    if not found and not node.json:
        empty = node.call("node.status")["checks"]["peers"].removeprefix("ok: ")
    node.show_rows(found if node.json else rows, columns, empty)


def _link(peer: Mapping[str, Any]) -> str:
    return str(peer["security"]) + ("" if peer["post_quantum"] else " (classical)")


@asking(app, "info")
@user_text("Show the node's id and addresses, and how it is connected.")
def info(node: Asker) -> None:
    node.show_fields(node.call("net.info"))


@asking(app, "add-peer")
@user_text("Connect to a node.")
def add_peer(
    node: Asker,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Such as /ip4/HOST/tcp/PORT/p2p/ID.")
    ],
) -> None:
    before = {peer["peer"]: peer["address"] for peer in node.call("net.peers")}
    found = node.call("net.add_peer", address=address)

    def human() -> None:
        there = before.get(found)
        if there is None:
            typer.echo(f"connected to {found}")
        elif there == address:
            typer.echo(f"connected to {found} already")
        else:
            typer.echo(
                f"connected to {found} already, at {harmless(there)}: {address} was not tried; it "
                "is remembered"
            )

    node.show(found, human)


@asking(app, "disconnect")
@user_text("Close the connection to a peer, which may connect again.")
def disconnect(
    node: Asker, peer: Annotated[str, typer.Argument(metavar="ID", help="The peer's id.")]
) -> None:
    found = node.call("net.disconnect", peer=peer)
    node.show(found, lambda: typer.echo("disconnected"))


@asking(app, "ban", table=True)
@user_text("Ban an address, and disconnect every peer at it.")
def ban(
    node: Asker,
    peer: PeerArgument,
    minutes: Annotated[
        int, typer.Option("--minutes", min=1, max=525_600, help="How long the ban lasts.")
    ] = 1440,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What `net bans` shows as why.")
    ] = "by hand",
) -> None:
    found = node.call("net.ban", peer=peer, minutes=minutes, reason=reason)
    node.show_rows(found, BAN_COLUMNS, "no bans")


@asking(app, "unban", table=True)
@user_text("End a ban.")
def unban(node: Asker, peer: PeerArgument) -> None:
    node.show_rows(node.call("net.unban", peer=peer), BAN_COLUMNS, "no bans")


@asking(app, "bans", table=True)
@user_text("Show the bans that are in force.")
def bans(node: Asker) -> None:
    node.show_rows(node.call("net.bans"), BAN_COLUMNS, "no bans")
