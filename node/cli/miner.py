"""``unchained-node miner``: this machine's workers for a node elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from unchained.miner.errors import MinerError
from unchained.miner.jobs import PoolStatistics
from unchained.miner.losses import LossLog
from unchained.miner.machine import auto_workers
from unchained.miner.pool import MiningPool
from unchained.miner.remote import (
    CoinRefusedError,
    CredentialsRefusedError,
    NodeUnavailableError,
    RemoteMiner,
    RemoteStatistics,
    Work,
)
from unchained.miner.settings import raised_nice
from unchained.node.base.clock import SystemClock
from unchained.node.base.log_lines import Terminal
from unchained.node.base.logs import open_logs
from unchained.node.base.number_words import number_of
from unchained.node.base.service_manager import ServiceManager
from unchained.node.base.services import root_cause, stop_on_signals
from unchained.node.base.user_text import user_text
from unchained.node.cli.asker import CertificateOption, CommandFailedError
from unchained.node.cli.options import JsonOption
from unchained.node.consensus.params import MAIN, NETWORKS, Network
from unchained.node.crypto.addresses import (
    OtherNetworkError,
    PayeeError,
    address_lock,
    decode_address,
)
from unchained.node.primitives.coin import HEADER_SIZE, CoinHeader
from unchained.node.rpc.client.endpoint import ClientError, Endpoint
from unchained.node.rpc.client.trio_client import TrioClient
from unchained.node.rpc.core.errors import (
    InvalidParamsError,
    ProtocolRuleError,
    RpcError,
    UnauthorizedError,
)
from unchained.node.rpc.core.values import Hex

TEMPLATE_S: Final = 75.0
"""Seconds that a node may take for other work: it holds the answer back for some fifty."""

SUBMIT_S: Final = 30.0
REPORT_S: Final = 60.0
SHOW_S: Final = 1.0

_BY_CHAIN_ID: Final = {network.chain_id: network for network in NETWORKS.values()}


def add_to(root: typer.Typer) -> None:
    """Add the command."""
    root.command("miner")(miner)


class BadWorkError(ValueError):
    """What a node gives is no work for this miner; the message is one line."""


class RemoteTemplate(msgspec.Struct, frozen=True):
    """What is read of `mine.template`."""

    id: str
    header: str
    target: str
    mem_kib: int


def network_of(address: str) -> Network:
    """Return the network that an address is of. Raises `PayeeError` where it is of none."""
    for network in NETWORKS.values():
        if address.lower().startswith(f"{network.address_prefix}1"):
            decode_address(network, address)
            return network
    prefixes = ", ".join(f"{network.address_prefix}1" for network in NETWORKS.values())
    raise OtherNetworkError(
        f"the address is of no network that is known here: theirs begin with {prefixes}"
    )


class RpcNode:
    """A node behind its RPC. The credentials are read anew for each call: a cookie changes.

    What it answers, it or who stands between, is not believed where that can be checked: the
    network is one that there is, the memory is that network's, and the coins pay `address`.
    """

    def __init__(
        self,
        url: str,
        token_file: Path | None,
        address: str | None,
        certificate: Path | None = None,
    ) -> None:
        """Take where the node is, what lets the miner in, and whom it mines for. Raises ValueError
        for a URL that is none, UnreachableError for a file without certificates."""
        self._url = url
        self._token_file = token_file
        self._address = address
        self._network = None if address is None else network_of(address)
        self._certificate = certificate
        endpoint = self._endpoint()
        if certificate is not None:
            endpoint.tls()
        self.name = endpoint.netloc

    def _endpoint(self, token: str | None = None) -> Endpoint:
        endpoint = Endpoint.at(self._url, token=token)
        return endpoint if self._certificate is None else endpoint.trusting(self._certificate)

    def _client(self) -> TrioClient:
        if self._token_file is None:
            return TrioClient(self._endpoint())
        text = self._token_file.read_text(encoding="utf-8").strip()
        user, colon, password = text.partition(":")
        if colon:
            return TrioClient(self._endpoint().with_password(user, password))
        return TrioClient(self._endpoint(text))

    async def template(self, after: bytes | None) -> Work:
        """Return work, or other work than that named by `after` once there is some."""
        params = {"address": self._address, "after": None if after is None else after.hex()}
        given = {name: value for name, value in params.items() if value is not None}
        try:
            found = await self._client().call(
                "mine.template", given, into=RemoteTemplate, seconds=TEMPLATE_S
            )
            header = bytes.fromhex(found.header)
            target = int(found.target, 16)
            self._check(header, target, found.mem_kib)
            return Work(bytes.fromhex(found.id), header, target, found.mem_kib)
        except UnauthorizedError as error:
            raise CredentialsRefusedError(self._refusal(error)) from None
        except (ClientError, RpcError, OSError, ValueError) as error:
            raise NodeUnavailableError(str(error)) from None

    def _check(self, raw: bytes, target: int, mem_kib: int) -> None:
        """Raise `BadWorkError` for work of no network, or that gives no coin, or pays another."""
        if len(raw) != HEADER_SIZE:
            raise BadWorkError(f"it gives a header of {len(raw)} bytes, expected {HEADER_SIZE}")
        header = CoinHeader.from_bytes(raw)
        network = _BY_CHAIN_ID.get(header.chain_id)
        if network is None:
            raise BadWorkError(f"it gives work of chain {header.chain_id:#010x}, which is unknown")
        if mem_kib != network.mem_kib:
            raise BadWorkError(
                f"it asks for {mem_kib} KiB of memory, network {network.name} for {network.mem_kib}"
            )
        if target > header.target:
            raise BadWorkError("it gives a target that the header's own does not allow")
        if self._network is None or self._address is None:
            return
        if network is not self._network:
            raise BadWorkError(
                f"it gives work of network {network.name}, the address is of {self._network.name}"
            )
        if header.lock != address_lock(decode_address(network, self._address)):
            raise BadWorkError("it gives work that pays another address than that of --address")

    def _refusal(self, error: UnauthorizedError) -> str:
        if self._token_file is None:
            return f"{error}: name the file of its rpc.mining_token_file by --token-file"
        return f"the credentials in {self._token_file} are refused: {error}"

    async def submit(self, coin: bytes) -> None:
        """Hand in a coin."""
        try:
            await self._client().call("mine.submit", {"raw": Hex(coin)}, seconds=SUBMIT_S)
        except (ProtocolRuleError, InvalidParamsError) as error:
            raise CoinRefusedError(str(error)) from None
        except (ClientError, RpcError, OSError, ValueError) as error:
            raise NodeUnavailableError(str(error)) from None


@user_text("Mine for a node elsewhere, until Ctrl-C or SIGTERM.")
def miner(
    connect: Annotated[
        list[str],
        typer.Option(
            "--connect",
            metavar="URL",
            help="A node's RPC, as http(s)://host:port; more than once: the next when one fails.",
        ),
    ],
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the credentials: a node's rpc.mining_token_file, or USER:PASSWORD.",
        ),
    ] = None,
    certificate: CertificateOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, max=1024, help="Worker processes."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="ADDRESS", help="Whom the coins pay; else the node's own miner's."
        ),
    ] = None,
    nice: Annotated[
        int, typer.Option("--nice", min=0, max=19, help="Nice level of the workers.")
    ] = 10,
    cpu_cap: Annotated[
        int,
        typer.Option(
            "--cpu-cap", min=1, max=100, help="Share of a core that each may use, in percent."
        ),
    ] = 100,
    json: JsonOption = False,
) -> None:
    try:
        nodes = [RpcNode(url, token_file, address, certificate) for url in connect]
    except PayeeError as error:
        raise typer.BadParameter(str(error), param_hint="--address") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--connect") from None
    except ClientError as error:
        raise typer.BadParameter(str(error), param_hint="--rpc-certificate") from None
    if token_file is not None and not token_file.is_file():
        raise typer.BadParameter(f"{token_file}: no such file", param_hint="--token-file")
    # MEM is known only with the first template; no network needs more than the main one's.
    count = auto_workers(MAIN.mem_kib) if workers is None else workers
    try:
        trio.run(_run, nodes, count, nice, cpu_cap, json)
    except* MinerError as errors:
        raise CommandFailedError(str(root_cause(errors))) from None


async def _run(nodes: list[RpcNode], workers: int, nice: int, cpu_cap: int, json: bool) -> None:
    shown = None if json or not sys.stdout.isatty() else Console(file=sys.stdout)
    with open_logs(
        clock=SystemClock(),
        stream=sys.stdout,
        json=json,
        screen=None if shown is None else Terminal(shown),
    ) as logs:
        log = logs.log
        pool = MiningPool(
            workers=workers, nice=raised_nice(nice), cpu_cap=cpu_cap, losses=LossLog(log)
        )
        remote = RemoteMiner(pool, nodes, log=log)
        began = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:

                def stop(reason: str) -> None:
                    log.info("miner.stopping", reason=reason)
                    manager.stopping()
                    nursery.cancel_scope.cancel()

                manager = ServiceManager()
                await nursery.start(stop_on_signals, stop, _ignore)
                await nursery.start(pool.run)
                await nursery.start(remote.run)
                nursery.start_soon(manager.watch)
                log.info("miner.started", workers=workers, nodes=[node.name for node in nodes])
                manager.ready(f"mining for {', '.join(node.name for node in nodes)}")
                if shown is not None:
                    nursery.start_soon(_show, shown, pool, remote)
                await _report(pool, remote, log.info)
        finally:
            mined, done = pool.statistics(), remote.statistics()
            seconds = trio.current_time() - began
            log.info(
                "miner.stopped",
                seconds=round(seconds),
                hashes=mined.hashes,
                hashrate=round(mined.hashes / max(seconds, 0.001), 1),
                accepted=done.accepted,
                refused=done.refused,
                lost=done.lost,
            )


def _ignore(_number: int) -> None:
    """Do nothing about another signal: ending takes a second at most."""


async def _show(console: Console, pool: MiningPool, remote: RemoteMiner) -> None:
    """Keep a line below the log that says how it goes, until cancelled."""
    with Live(Text(), console=console, auto_refresh=False, transient=True) as live:
        while True:
            line = Text(totals(pool.statistics(), remote.statistics()), no_wrap=True)
            await trio.to_thread.run_sync(
                partial(live.update, line, refresh=True), abandon_on_cancel=True
            )
            await trio.sleep(SHOW_S)


def totals(mined: PoolStatistics, done: RemoteStatistics) -> str:
    """Return one line: hashes per second, shares (coins handed in), and all hashes so far."""
    node = done.node or "no node answers"
    more = "".join(
        f", {count:,} {name}"
        for count, name in ((done.refused, "refused"), (done.lost, "lost"))
        if count
    )
    return (
        f"{mined.rate:,.1f} H/s   {number_of(done.accepted, 'share')} accepted{more}   "
        f"{mined.hashes:,} hashes   {node}"
    )


async def _report(pool: MiningPool, remote: RemoteMiner, say: Callable[..., object]) -> None:
    while True:
        await trio.sleep(REPORT_S)
        mined, done = pool.statistics(), remote.statistics()
        say(
            "miner.summary",
            hashrate=round(mined.rate_1m, 1),
            hashes=mined.hashes,
            node=done.node,
            accepted=done.accepted,
            refused=done.refused,
            lost=done.lost,
        )
