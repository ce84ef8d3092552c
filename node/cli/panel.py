"""The panel that a miner watches: what the workers do, what they found, what may be pressed.

A picture is made from a snapshot of the node (`picture`, pure); `MinerPanel.run` is the service
that draws it and obeys the keys.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import trio
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.segment import Segments
from rich.table import Table
from rich.text import Text
from structlog.typing import FilteringBoundLogger

from unchained.miner.advisor import DAY_S, coin_chance, luck
from unchained.miner.errors import SettingError
from unchained.miner.jobs import PoolStatistics
from unchained.miner.machine import THROTTLED_SHARE
from unchained.node.base.clock import Clock
from unchained.node.base.number_words import number_of
from unchained.node.base.services import describe
from unchained.node.base.terminal_text import ends
from unchained.node.cli.guide import Guide
from unchained.node.cli.screen import Screen
from unchained.node.consensus.params import Network
from unchained.node.mining.control import ControlStatistics, MiningControl
from unchained.node.observe.node_statistics import NodeStatistics
from unchained.node.rpc.http.criterion import waits_for

REFRESH_S: Final = 0.5
"""Seconds between two pictures; a key has one drawn at once."""

LINES_WANTED: Final = 3
"""Lines that many workers leave to the log; those that find no room are summed up in one row."""

PAYEE_SIGNS: Final = 40
"""Signs of a payee that have room beside what was earned."""

GRAINS: Final = 10**8
KEYS: Final = "p pause   r resume   + - workers   q quit"
FEW_KEYS: Final = "p pause  r resume  + -  q quit"
"""On a terminal that has no room for all of them."""
# What an arrow or a function key sends, of which no letter is a key of ours.
_ESCAPES: Final = re.compile(rb"\x1b(\[[0-9;]*[A-Za-z~]|O[A-Za-z])?")
STATE_STYLES: Final = {"mining": "green", "paused": "yellow", "backing-off": "bold red"}


class View(msgspec.Struct, frozen=True):
    """What a picture is made of. Times in ms."""

    network: Network
    node: NodeStatistics
    now_ms: int
    up_s: float
    rpc: str = ""
    """Where the node is asked, empty if nowhere."""
    next: str = ""
    """What to type in another terminal."""


def picture(view: View, console: Console, lines: Callable[[int], Sequence[Text]]) -> RenderableType:
    """Return the panel as large as the terminal: figures above, the log's newest lines beneath."""
    width, height = console.size
    options = console.options.update(width=width)

    def taken(part: RenderableType) -> int:
        return len(console.render_lines(part, options))

    head = Group(_head(view), Rule(style="dim"))
    keys = Rule(KEYS if width >= len(KEYS) + 2 else FEW_KEYS, style="dim")
    figures = _figures(view, is_small=False)
    left = height - taken(head) - taken(figures) - 1
    workers: RenderableType = _workers(view.node.miner, left - 1 - LINES_WANTED)
    if left < taken(workers):
        # where there is little room, each figure has a line, and the rate says what workers do
        figures = _figures(view, is_small=True)
        left = height - taken(head) - taken(figures) - 1
        workers = workers if left >= taken(workers) else Group()
    # The keys stay in sight however small the terminal has become.
    rendered = console.render_lines(Group(head, workers, figures), options, new_lines=True)
    shown = Segments(segment for line in rendered[: height - 1] for segment in line)
    rows = [line.copy() for line in lines(left - taken(workers))]
    for row in rows:
        row.no_wrap, row.overflow = True, "ellipsis"
    return Group(shown, keys, *rows)


def _head(view: View) -> Text:
    status, miner = view.node.status, view.node.miner
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f" Unchained {view.network.name} ", "bold reverse")
    head.append("  ")
    if miner is None:
        head.append("not mining", "yellow")
    elif miner.pauses:
        head.append(f"PAUSED: {', '.join(miner.pauses)}", "bold yellow")
    elif view.node.epochs is None or not view.node.epochs.mining:
        head.append("waiting", "yellow")
    else:
        head.append("mining", "bold green")
    head.append(f"   height {status.height:,}")
    head.append(f"   up {datetime.timedelta(seconds=int(view.up_s))}")
    head.append(f"   tip {status.tip.hex()[:12]}", "dim")
    return head


def _workers(miner: PoolStatistics | None, room: int) -> Table:
    """Return a row for each worker, the last one summing up those for which there is no room."""
    table = Table(box=None, pad_edge=False)
    for title, least in (("worker", 7), ("state", 11), ("H/s", 9), ("coins", 7), ("restarts", 8)):
        table.add_column(title, min_width=least, no_wrap=True)
    table.columns[2].justify = table.columns[3].justify = "right"
    workers = miner.workers if miner is not None else ()
    alone = len(workers) if len(workers) <= max(1, room) else max(0, room - 1)
    for worker in workers[:alone]:
        style = STATE_STYLES.get(worker.state, "")
        trouble = f"{worker.restarts}  {worker.last_failure or ''}" if worker.restarts else "0"
        table.add_row(
            str(worker.worker),
            Text(worker.state, style),
            f"{worker.rate:,.1f}",
            f"{worker.solutions:,}",
            Text(trouble, "red" if worker.restarts else "dim", no_wrap=True, overflow="ellipsis"),
        )
    rest = workers[alone:]
    if rest:
        coins = sum(worker.solutions for worker in rest)
        rate = sum(worker.rate for worker in rest)
        restarts = sum(worker.restarts for worker in rest)
        name = f"{len(rest)} more" if alone else f"all {len(rest)}"
        table.add_row(
            name,
            "",
            f"{rate:,.1f}",
            f"{coins:,}",
            Text(str(restarts), "red" if restarts else "dim"),
        )
    return table


def _figures(view: View, *, is_small: bool) -> Table:
    """Return the figures by their names; on a small terminal none takes more than a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=len("machine"))
    table.add_column(no_wrap=is_small, overflow="ellipsis" if is_small else "fold")
    rows: list[tuple[str, RenderableType]] = [
        ("rate", _rate(view)),
        ("coins", _coins(view)),
        ("anchors", _anchors(view)),
        ("luck", _luck(view)),
        ("epoch", _epoch(view, with_bar=not is_small)),
        ("network", _network(view)),
        ("machine", _machine(view.node.miner, view.node.control)),
        # A line of its own: the way to the program may be long, and it is to be copied.
        ("page", view.rpc or "-"),
        ("ask", view.next if view.rpc else "no RPC"),
    ]
    if (waits := _waits_for(view)) is not None:
        rows.insert(0, ("waits", waits))
    for name, shown in rows:
        table.add_row(name, shown)
    return table


def _waits_for(view: View) -> str | None:
    """Return why the workers have nothing to do, where that is so."""
    miner, epochs = view.node.miner, view.node.epochs
    if miner is None or miner.pauses or epochs is None or epochs.mining:
        return None
    return waits_for(view.node.readiness)


def _rate(view: View) -> Text:
    miner = view.node.miner
    if miner is None:
        return Text("-")
    return Text.assemble(
        (f"{miner.rate:,.1f}", "bold"),
        f" H/s in 10 s   {miner.rate_1m:,.1f} in 1 min   {miner.rate_15m:,.1f} in 15 min",
    )


def _coins(view: View) -> Text:
    epochs, harvest = view.node.epochs, view.node.harvest
    if epochs is None or harvest is None:
        return Text("-")
    text = Text.assemble(
        (f"{epochs.coins_found:,}", "bold"),
        f" found   {harvest.included:,} included   {harvest.late:,} late   ",
        f"{harvest.waiting:,} waiting   {harvest.stray + harvest.lost:,} astray",
    )
    if epochs.coins_rejected:
        text.append(f"   {epochs.coins_rejected:,} rejected", "bold red")
    return text


def _anchors(view: View) -> Text:
    epochs, harvest = view.node.epochs, view.node.harvest
    if epochs is None or harvest is None:
        return Text("-")
    return Text.assemble(
        (f"{epochs.anchors_found:,}", "bold"),
        " found   ",
        (f"{harvest.earned / GRAINS:,.2f} UNC", "bold green"),
        # what was earned before a wallet `default` was made lies in another than what is to come
        " earned"
        if view.node.payee is None
        else f" earned   new ones go to {_short_payee(view.node.payee)}",
    )


def _short_payee(payee: str) -> str:
    """Return whom coins pay, an address by its ends."""
    return ends(payee, PAYEE_SIGNS, 14, 6)


def _luck(view: View) -> Text:
    control, epochs, miner = view.node.control, view.node.epochs, view.node.miner
    if control is None or epochs is None or miner is None:
        return Text("-")
    found = luck(control.expected, epochs.coins_found)
    ratio = "" if found.ratio is None else f"   {found.ratio:.0%}"
    per_day = miner.rate_1m * coin_chance(view.node.status.target) * DAY_S
    return Text(f"{found.expected:,.1f} expected{ratio}   {per_day:,.1f} coins a day at this rate")


def _epoch(view: View, *, with_bar: bool) -> RenderableType:
    network, status, epochs = view.network, view.node.status, view.node.epochs
    # Genesis has a time that says nothing of when mining began.
    passed_s = max(0, view.now_ms - status.tip_time) / 1000 if status.height else view.up_s
    mean_s = network.epoch_ms / 1000
    listed = 0 if epochs is None else epochs.listed
    told = (
        f"{passed_s:,.0f} s of about {mean_s:,.0f}   "
        f"{listed:,} of about {network.coins_per_epoch} coins"
    )
    if not with_bar:
        return Text(told)
    row = Table.grid(padding=(0, 2))
    row.add_row(ProgressBar(total=mean_s, completed=min(passed_s, mean_s), width=20), told)
    return row


def _network(view: View) -> str:
    network, status = view.node.network, view.node.status
    peers = "alone" if network is None else number_of(network.peers.greeted, "peer")
    if network is not None and network.transport.classical:
        peers += f" ({network.transport.classical} classical)"
    if network is not None and network.sync.syncing:
        sync = network.sync
        left = "" if sync.eta_s is None else f", {datetime.timedelta(seconds=int(sync.eta_s))} left"
        return f"{peers}   catching up to {sync.target_height:,} at {sync.rate:,.0f}/s{left}"
    return f"{peers}   {number_of(status.mempool.transfers, 'transfer')} waiting"


def _machine(miner: PoolStatistics | None, control: ControlStatistics | None) -> Text:
    if miner is None or control is None:
        return Text("-")
    text = Text(f"{miner.backend}   nice {miner.nice}")
    if miner.cpu_cap < 100:
        text.append(f"   cap {miner.cpu_cap} %")
    if control.load is not None:
        text.append(f"   others use {control.load:.0%}")
    sensors = control.sensors
    if sensors is None:
        return text
    if sensors.temperature is not None:
        text.append(f"   {sensors.temperature:.0f} °C")
    if sensors.clock is not None:
        low = sensors.clock < THROTTLED_SHARE and not miner.paused
        text.append(f"   clock {sensors.clock:.0%}", "yellow" if low else "")
    if sensors.throttled:
        text.append(f"   throttled {number_of(sensors.throttled, 'time')}", "yellow")
    return text


class ObservedNode(Protocol):
    """The node that is shown."""

    def statistics(self) -> NodeStatistics:
        """Return a snapshot of every part."""


class Stoppable(Protocol):
    """What can be asked to stop."""

    def request_stop(self, reason: str) -> None:
        """Begin a stop in good order."""


class MinerPanel:
    """Draws the panel and obeys its keys, until cancelled."""

    def __init__(
        self,
        screen: Screen,
        network: Network,
        control: MiningControl,
        node: ObservedNode,
        *,
        stop: Stoppable,
        guide: Guide,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._screen = screen
        self._network = network
        self._control = control
        self._node = node
        self._stop = stop
        self._guide = guide
        self._clock = clock
        self._log = log
        self._pressed = trio.Event()
        self._began = trio.current_time()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Show the panel until cancelled; the terminal is then as it was before."""
        task_status.started()
        try:
            await trio.to_thread.run_sync(self._enter, self._view())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey)
                await self._draw()
        except* OSError as errors:
            # The terminal went away; the node goes on without it.
            self._log.warning("panel.lost", error=describe(errors))
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._screen.leave)
        await trio.sleep_forever()

    async def _draw(self) -> None:
        while True:
            # A terminal that takes nothing must not keep the node from stopping.
            await trio.to_thread.run_sync(self._show, self._view(), abandon_on_cancel=True)
            self._pressed = trio.Event()
            with trio.move_on_after(REFRESH_S):
                await self._pressed.wait()

    # Laying out takes milliseconds, which the loop has for others: it gives the figures alone.

    def _enter(self, view: View) -> None:
        self._screen.enter(self._picture(view))

    def _show(self, view: View) -> None:
        self._screen.draw(self._picture(view))

    def _picture(self, view: View) -> RenderableType:
        return picture(view, self._screen.console, self._screen.lines)

    def _view(self) -> View:
        return View(
            self._network,
            self._node.statistics(),
            self._clock.now_ms(),
            trio.current_time() - self._began,
            self._guide.rpc,
            self._guide.next,
        )

    async def _obey(self) -> None:
        """Do what the keys say until there are none any more."""
        while True:
            await trio.lowlevel.wait_readable(self._screen.keys)
            typed = os.read(self._screen.keys, 64)
            if not typed:
                return
            for key in _ESCAPES.sub(b"", typed).decode("ascii", errors="ignore"):
                self.press(key)
            self._pressed.set()

    def press(self, key: str) -> None:
        """Do what a key stands for; others do nothing."""
        match key:
            case "p":
                self._control.pause()
            case "r":
                self._control.resume()
            case "+" | "=" | "-":
                workers = len(self._control.pool_statistics().workers)
                wanted = max(1, workers - 1) if key == "-" else workers + 1
                try:
                    self._control.set_workers(wanted)
                except SettingError as error:
                    self._log.warning("panel.refused", key=key, why=str(error))
            case "q":
                self._stop.request_stop("q pressed")
