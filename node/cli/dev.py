"""``unchained-node dev``: a private chain for those who build on it, ready at once."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from unchained.node.base.number_words import number_of
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import Asker, CommandFailedError, asking
from unchained.node.cli.guide import program
from unchained.node.cli.options import settings_from
from unchained.node.rpc.core.credential_files import URL_FILE

if TYPE_CHECKING:
    import trio

    from unchained.node.app import Node
    from unchained.node.base.services import Service
    from unchained.node.cli.dev_state import DevWallet
    from unchained.node.cli.process import Process
    from unchained.node.rpc.client.trio_client import TrioClient

NETWORK: Final = "reg"
FUNDING_ANCHORS: Final = 4
"""Anchors at the beginning that pay each wallet."""
FUNDING_COINS: Final = 4
"""Coins in each of them."""
MINE_S: Final = 660.0
"""Seconds that the node may take for anchors."""
SAVE_S: Final = 600.0

app = typer.Typer(
    help="Run a chain of your own to build on: funded wallets, anchors on demand.",
    no_args_is_help=False,
)


def add_to(root: typer.Typer) -> None:
    """Add the commands of this room."""
    root.add_typer(app, name="dev")


def dev_directory() -> Path:
    """Return where a development node is if nobody says otherwise, beside those of networks."""
    flags = {"node.network": ("--network", NETWORK)}
    return settings_from(flags, config=None, read_file=False).data_dir.parent / "dev"


@app.callback()
@user_text(
    """Run a chain of your own to build on: funded wallets, anchors on demand.

    Its rules are those of the network reg. An anchor comes as soon as a transfer waits, at an
    interval, or by `dev mine`. Without --data-dir it begins anew each time. Ctrl-C ends it.
    """
)
def dev(
    context: typer.Context,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Keep the chain there from one start to the next. Default: begin anew in "
            "~/.unchained/dev.",
        ),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            min=0.05,
            max=86_400,
            help="Mine an anchor every so many seconds.",
        ),
    ] = None,
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help="Mine only when `dev mine` asks for it.")
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="Begin with the state in the file, if there is one, and save it at the end.",
        ),
    ] = None,
    rpc_listen: Annotated[
        str | None, typer.Option("--rpc-listen", metavar="HOST:PORT", help="As of `start`.")
    ] = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    if interval is not None and on_demand:
        raise typer.BadParameter("--interval and --on-demand exclude one another")
    from unchained.node.cli import dev_state
    from unchained.node.cli.already_running import refuse_if_running
    from unchained.node.cli.start import run_until_stopped
    from unchained.storage.open import STORE_NAME

    directory = dev_directory() if data_dir is None else Path(data_dir)
    flags: dict[str, tuple[str, object | None]] = {
        "node.network": ("dev", NETWORK),
        "node.data_dir": ("--data-dir", str(directory)),
        "node.log_level": ("dev", "warning"),
        "mining.enabled": ("dev", False),
        "network.listen": ("dev", []),
        "rpc.listen": ("--rpc-listen", rpc_listen),
    }
    settings = settings_from(flags, config=None, read_file=False)
    refuse_if_running(settings)
    if data_dir is None:
        dev_state.empty(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if state is not None and state.exists() and not (directory / STORE_NAME).exists():
        from unchained.node.cli.chain_file import import_file

        chain = dev_state.load(state, directory)
        import_file(directory, NETWORK, chain)
        chain.unlink()
    dev_state.make_wallets(directory)
    code = run_until_stopped(
        settings, json=False, panel=False, more=_DevNode(directory, interval, on_demand, state)
    )
    if code:
        raise typer.Exit(code)


class _DevNode:
    """What a development node does by itself: funds its wallets, mines, saves its state."""

    def __init__(
        self, directory: Path, interval: float | None, on_demand: bool, state: Path | None
    ) -> None:
        self._directory = directory
        self._interval = interval
        self._on_demand = on_demand
        self._state = state

    def service(self, node: Node, process: Process, stage: int) -> Service:
        """Return what runs beside the node, over its RPC."""
        from unchained.node.base.services import Service

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            import trio

            from unchained.node.cli.dev_state import dev_wallets
            from unchained.node.rpc.client.endpoint import Endpoint
            from unchained.node.rpc.client.trio_client import TrioClient

            client = TrioClient(Endpoint.of(self._directory), timeout=MINE_S)
            wallets = dev_wallets()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_introduce, client, wallets)
                if node.chain.status.value.height == 0:
                    nursery.start_soon(_fund, client, wallets)
            await self._say(client, wallets)
            task_status.started()
            try:
                await self._mine(client, node)
            finally:
                if self._state is not None:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_S):
                        await self._save(client, self._state)

        return Service("dev", run, stage)

    async def _say(self, client: TrioClient, wallets: Sequence[DevWallet]) -> None:
        lines = ["wallets without a passphrase, made of TEST WORDS THAT EVERYBODY KNOWS:"]
        for wallet in wallets:
            owned = await client.call("coin.owned_by", {"address": wallet.address})
            total = sum(Decimal(coin["amount"]) for coin in owned["coins"])
            lines += [
                f"  {wallet.name:9}{total} UNC",
                f"    address     {wallet.address}",
                f"    test words  {short_words(wallet.words)}",
            ]
        url = (self._directory / URL_FILE).read_text().strip()
        lines += [
            f"ready: {url}; in another terminal:",
            f"  export UNCHAINED_NODE__NETWORK={NETWORK} "
            f"UNCHAINED_NODE__DATA_DIR={shlex.quote(str(self._directory))}",
            f"  {program()} wallet balance",
            f"  {program()} wallet send bob 1",
            f"  {program()} dev mine 3",
        ]
        typer.echo("\n".join(lines))
        sys.stdout.flush()

    async def _mine(self, client: TrioClient, node: Node) -> None:
        import trio

        if self._on_demand:
            await trio.sleep_forever()
        while self._interval is not None:
            await trio.sleep(self._interval)
            await client.call("mine.generate", {"anchors": 1})
        while True:
            await node.chain.status.wait_for(lambda status: status.mempool.transfers > 0)
            await client.call("mine.generate", {"anchors": 1})

    async def _save(self, client: TrioClient, file: Path) -> None:
        import trio

        from unchained.node.cli.dev_state import save

        found = await client.call("chain.export", {"name": "dev-state.chain"})
        await trio.to_thread.run_sync(save, Path(found["path"]), self._directory, file)


async def _fund(client: TrioClient, wallets: Sequence[DevWallet]) -> None:
    """Mine to each wallet, and what makes all of it spendable."""
    for wallet in wallets:
        paid = {"anchors": FUNDING_ANCHORS, "coins": FUNDING_COINS, "address": wallet.address}
        await client.call("mine.generate", paid)
    await client.call("mine.generate", {"anchors": 1})


async def _introduce(client: TrioClient, wallets: Sequence[DevWallet]) -> None:
    """Let each wallet pay the others by their names."""
    for wallet in wallets:
        listed = await client.call("wallet.payee_list", {"wallet": wallet.name})
        known = {entry["alias"] for entry in listed}
        for other in wallets:
            if other is not wallet and other.name not in known:
                named = {"wallet": wallet.name, "alias": other.name, "payee": other.address}
                await client.call("wallet.payee_add", named)


def short_words(words: str) -> str:
    """Return words in which one is repeated as that one and how often."""
    found: list[tuple[str, int]] = []
    for word in words.split():
        if found and found[-1][0] == word:
            found[-1] = (word, found[-1][1] + 1)
        else:
            found.append((word, 1))
    return " ".join(word if count == 1 else f"{word} (x{count})" for word, count in found)


def _at_dev(node: Asker) -> Asker:
    """Return the asker, pointed at the development node unless the user points elsewhere."""
    chosen = any(value is not None for _, value in node.flags.values()) or any(
        name in os.environ for name in ("UNCHAINED_NODE__NETWORK", "UNCHAINED_NODE__DATA_DIR")
    )
    if not chosen:
        node.flags = {
            "node.network": ("--network", NETWORK),
            "node.data_dir": ("--data-dir", str(dev_directory())),
        }
    return node


@asking(app, "mine")
@user_text("Mine N anchors at once.")
def mine(
    node: Asker,
    anchors: Annotated[int, typer.Argument(metavar="[N]", min=1, max=10_000, help="How many.")] = 1,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Whom the coins pay.")
    ] = None,
) -> None:
    found = _at_dev(node).call("mine.generate", seconds=MINE_S, anchors=anchors, address=address)
    node.show(found, lambda: typer.echo(f"height {found['height']}"))


@asking(app, "reorg")
@user_text(
    """Undo the last DEPTH anchors, and mine one more than that in their place.

    The first of those undone is set aside (`chain take-back` lets it count again); their transfers
    wait anew.
    """
)
def reorg(
    node: Asker,
    depth: Annotated[int, typer.Argument(metavar="[DEPTH]", min=1, max=700, help="How many.")] = 1,
) -> None:
    _at_dev(node)
    height = node.call("chain.tip")["height"]
    if depth >= height:
        raise CommandFailedError(
            f"{number_of(height - 1, 'anchor')} can be undone, {depth} asked for"
        )
    undone = node.call("chain.anchor_at", height=height - depth + 1)["header"]["id"]
    node.call_with("chain.set_aside", [undone])
    found = node.call("mine.generate", seconds=MINE_S, anchors=depth + 1)
    result: dict[str, Any] = {
        "depth": depth,
        "set_aside": undone,
        "tip": found["anchors"][-1],
        "height": found["height"],
    }
    node.show_fields(result)


@asking(app, "save")
@user_text("Write the chain and the wallets into a file, which `dev --state` begins with.")
def save(
    node: Asker, file: Annotated[Path, typer.Argument(metavar="FILE", help="What is written.")]
) -> None:
    from unchained.node.cli.dev_state import save as write

    directory = _at_dev(node).data_dir()
    found = node.call("chain.export", seconds=SAVE_S, name="dev-saved.chain")
    write(Path(found["path"]), directory, file)
    node.show({"file": str(file), "height": found["height"]}, lambda: typer.echo(file))
