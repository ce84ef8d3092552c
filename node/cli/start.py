"""``unchained-node start``: run a node until it is asked to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from unchained.node.base.ports import places_to_listen, rpc_place, with_port
from unchained.node.base.user_text import user_text
from unchained.node.cli.options import (
    ConfigFileOption,
    DataDirOption,
    JsonOption,
    NetworkOption,
    SetOption,
    about,
    settings_from,
)

if TYPE_CHECKING:
    from unchained.node.app import Node
    from unchained.node.base.services import Service
    from unchained.node.base.settings import Settings
    from unchained.node.cli.process import Process
    from unchained.node.cli.screen import Screen
    from unchained.node.mining.control import MiningControl


def add_to(root: typer.Typer) -> None:
    """Add the command."""
    root.command("start")(start)


@user_text("Run a node until Ctrl-C, SIGTERM or a failure.")
def start(
    network: NetworkOption = None,
    data_dir: DataDirOption = None,
    mine: Annotated[
        bool | None, typer.Option("--mine/--no-mine", help=about("mining.enabled"))
    ] = None,
    workers: Annotated[
        str | None, typer.Option("--workers", metavar="N", help=about("mining.workers"))
    ] = None,
    alone: Annotated[
        bool | None, typer.Option("--alone/--no-alone", help=about("mining.alone"))
    ] = None,
    payout: Annotated[
        str | None, typer.Option("--payout", metavar="ADDRESS", help=about("mining.payout"))
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="MULTIADDR", help=about("network.listen")),
    ] = None,
    bootstrap: Annotated[
        list[str] | None,
        typer.Option("--bootstrap", metavar="MULTIADDR", help=about("network.bootstrap")),
    ] = None,
    announce: Annotated[
        list[str] | None,
        typer.Option("--announce", metavar="MULTIADDR", help=about("network.announce")),
    ] = None,
    verify_all: Annotated[
        bool | None,
        typer.Option("--verify-all", help=about("network.verify_all")),
    ] = None,
    rpc: Annotated[bool | None, typer.Option("--rpc/--no-rpc", help=about("rpc.enabled"))] = None,
    rpc_listen: Annotated[
        str | None, typer.Option("--rpc-listen", metavar="HOST:PORT", help=about("rpc.listen"))
    ] = None,
    panel: Annotated[
        bool,
        typer.Option(
            "--panel/--no-panel",
            help="Show a panel while mining on a terminal; --no-panel: log lines.",
        ),
    ] = True,
    config: ConfigFileOption = None,
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    settings = settings_from(
        {
            "node.network": ("--network", network),
            "node.data_dir": ("--data-dir", data_dir),
            "mining.enabled": ("--mine" if mine else "--no-mine", mine),
            "mining.workers": ("--workers", workers),
            "mining.alone": ("--alone" if alone else "--no-alone", alone),
            "mining.payout": ("--payout", payout),
            "network.listen": ("--listen", listen or None),
            "network.bootstrap": ("--bootstrap", bootstrap or None),
            "network.announce": ("--announce", announce or None),
            "network.verify_all": ("--verify-all", verify_all),
            "rpc.enabled": ("--rpc" if rpc else "--no-rpc", rpc),
            "rpc.listen": ("--rpc-listen", rpc_listen),
        },
        config=config,
        assignments=assignments,
    )
    code = run_until_stopped(settings, json=json, panel=panel)
    if code:
        raise typer.Exit(code)


class MoreOfNode(Protocol):
    """Adds to a node that has been made."""

    def service(self, node: Node, process: Process, stage: int) -> Service:
        """Return what runs as well, in a stage of its own after all others."""


def run_until_stopped(
    settings: Settings, *, json: bool, panel: bool, more: MoreOfNode | None = None
) -> int:
    """Run a node in this process; return the exit code. Raises ConfigError, CommandFailedError."""
    from unchained.node.cli.already_running import refuse_if_running

    refuse_if_running(settings)
    from unchained.node.base.runner import one_thread_for_numpy, rest_collector
    from unchained.node.cli.resource_limits import make_room

    make_room()
    one_thread_for_numpy()
    rest_collector()
    _check_rpc(settings)
    _check_network(settings)
    if not json:
        # What follows takes seconds, on a busy machine many, before the log has its first line.
        name = settings.config.node.network
        typer.echo(f"starting a node of the network {name} in {settings.data_dir}", err=True)
    # Only here, since it takes longer than most other commands altogether.
    from unchained.miner.errors import MinerError
    from unchained.node.app import build
    from unchained.node.cli.process import run_node
    from unchained.node.mining.payout import PayoutError
    from unchained.node.notify.command_target import BadCommandError
    from unchained.node.notify.targets import NotifySecretError
    from unchained.node.peers.asmap import BadAsmapError
    from unchained.node.rpc.http.sockets import ListenError
    from unchained.node.rpc.http.tokens import TokenError
    from unchained.node.transport.contract import (
        BadAddressError,
        BadIdentityError,
        CannotListenError,
        CannotSecureError,
    )
    from unchained.storage.errors import StoreError

    wanted = panel and not json and settings.config.mining.enabled
    screen = _screen() if wanted else None

    async def compose(process: Process) -> Sequence[Service]:
        node = await build(
            settings, process.data_dir, clock=process.clock, log=process.log, control=process
        )
        services = node.services()
        if node.mining is not None:
            process.guide.payee = node.mining.payout.payee
        if screen is not None and node.mining is not None:
            services = [*services, _panel(screen, node, node.mining.control, process, services)]
        if more is not None:
            services = [*services, more.service(node, process, _last(services))]
        return services

    expected = (
        StoreError,
        PayoutError,
        MinerError,
        ListenError,
        TokenError,
        BadAddressError,
        BadAsmapError,
        BadCommandError,
        NotifySecretError,
        BadIdentityError,
        CannotListenError,
        CannotSecureError,
    )
    return run_node(settings, compose, expected=expected, json=json, screen=screen)


def _screen() -> Screen | None:
    """Return the terminal if a panel can be shown on it."""
    from rich.console import Console

    from unchained.node.cli.screen import Screen, panel_possible

    if not panel_possible(sys.stdin, sys.stdout, os.environ):
        return None
    return Screen(Console(file=sys.stdout), sys.stdin.fileno())


def _panel(
    screen: Screen,
    node: Node,
    control: MiningControl,
    process: Process,
    others: Sequence[Service],
) -> Service:
    """Return the panel as the service that starts last and stops first."""
    from unchained.node.base.services import Service
    from unchained.node.cli.panel import MinerPanel

    panel = MinerPanel(
        screen,
        node.network,
        control,
        node,
        stop=process,
        guide=process.guide,
        clock=process.clock,
        log=process.log,
    )
    return Service("panel", panel.run, _last(others), restartable=True)


def _last(others: Sequence[Service]) -> int:
    return 1 + max(service.stage for service in others)


def _check_network(settings: Settings) -> None:
    """Raise ConfigError for addresses that their settings' own patterns cannot catch."""
    from unchained.node.transport.address import Address
    from unchained.node.transport.contract import BadAddressError

    network = settings.config.network
    if network.proxy and not 0 < int(network.proxy.rpartition(":")[2]) <= 0xFFFF:
        raise settings.fault("network.proxy", "expected a port from 1 to 65535")
    places = places_to_listen(network.listen, settings.config.node.network)
    for key, texts, is_to_listen in (
        ("network.listen", [with_port(text, 0)[0] for text in places], True),
        ("network.bootstrap", network.bootstrap, False),
        ("network.announce", network.announce, False),
        ("network.seeds", network.seeds, False),
    ):
        for text in texts:
            try:
                address = Address.parse(text)
            except BadAddressError as error:
                raise settings.fault(key, str(error)) from None
            if is_to_listen and address.kind not in ("ip4", "ip6"):
                raise settings.fault(key, f"{text}: expected an ip4 or ip6 literal, not a name")
            if not is_to_listen and not address.port:
                raise settings.fault(key, f"{text}: expected a port from 1 to 65535")


def _check_rpc(settings: Settings) -> None:
    """Raise ConfigError for what the RPC settings' own patterns cannot catch."""
    from unchained.node.rpc.http.gatekeeper import PasswordHash

    rpc = settings.config.rpc
    _, port, _ = rpc_place(rpc.listen, settings.config.node.network)
    if port > 0xFFFF:
        raise settings.fault("rpc.listen", "expected a port from 0 to 65535")
    if rpc.user:
        try:
            PasswordHash.parse(rpc.password_hash)
        except ValueError:
            raise settings.fault(
                "rpc.password_hash",
                "expected what `unchained-node config password` gives, since rpc.user is set",
            ) from None
    elif rpc.password_hash:
        raise settings.fault("rpc.user", "expected a name, since rpc.password_hash is set")
