"""The panel's picture of a node, and what its keys do."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import msgspec
import pytest
import structlog
from rich.console import Console
from rich.text import Text

from unchained.miner.errors import BadWorkerCountError
from unchained.miner.jobs import PoolStatistics, WorkerStatistics
from unchained.miner.machine import Sensors
from unchained.node.base.clock import SystemClock
from unchained.node.base.settings import load
from unchained.node.chain.mempool.mempool import MempoolStatistics
from unchained.node.chain.status import ChainStatus, ManagerStatistics
from unchained.node.cli.guide import Guide
from unchained.node.cli.panel import KEYS, LINES_WANTED, MinerPanel, View, picture
from unchained.node.cli.screen import LEAST_COLUMNS, LEAST_ROWS, Screen, panel_possible
from unchained.node.consensus.params import LOCAL
from unchained.node.mining.control import BATTERY, ControlStatistics, PauseRules
from unchained.node.mining.epoch_manager import EpochStatistics
from unchained.node.mining.mined_coins import MinedCoinsStatistics
from unchained.node.observe.node_statistics import NodeStatistics
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.http.criterion import Readiness


def worker(index: int, **fields: object) -> WorkerStatistics:
    sound = WorkerStatistics(index, 100 + index, "mining", 10, 1000.0, 2, 0, None, 1, 0.5)
    return msgspec.structs.replace(sound, **fields)


def pool(*workers: WorkerStatistics, pauses: tuple[str, ...] = ()) -> PoolStatistics:
    return PoolStatistics(
        workers=workers,
        backend="native-avx2",
        paused=bool(pauses),
        pauses=pauses,
        nice=10,
        affinity=None,
        cpu_cap=50,
        huge_pages=True,
        job_number=1,
        hashes=100,
        rate=2000.5,
        rate_1m=1900.0,
        rate_15m=1800.0,
        solutions=7,
        stale=0,
        restarts=0,
    )


def empty(kind: type, **fields: object) -> object:
    """A value of a statistics class with zeros for what is not given."""
    zeros = {field.name: 0 for field in msgspec.structs.fields(kind)}
    return kind(**(zeros | fields))


def node(miner: PoolStatistics | None, **fields: object) -> NodeStatistics:
    mining = miner is not None
    found: dict[str, object] = {
        "chain": empty(ManagerStatistics),
        "status": empty(
            ChainStatus,
            tip=CoinId(b"\xab" * 32),
            height=12,
            tip_time=1_000_000,
            target=LOCAL.target0,
            mempool=empty(MempoolStatistics, transfers=3),
            refused=None,
        ),
        "epochs": EpochStatistics(True, 13, 5, 9, 8, 2, 1, 3) if mining else None,
        "miner": miner,
        "control": ControlStatistics(PauseRules(), True, 0.25, Sensors(71.0, 0.5, 4), expected=4.0)
        if mining
        else None,
        "harvest": MinedCoinsStatistics(5, 1, 0, 1, 1, 550_000_000) if mining else None,
        "network": None,
        "payee": "wallet mining" if mining else None,
    }
    return NodeStatistics(**(found | fields))  # type: ignore[arg-type]


def shown(
    statistics: NodeStatistics, width: int = 100, height: int = 30, lines: int = 0
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    view = View(LOCAL, statistics, 1_005_000, 3723.0, "http://127.0.0.1:1", "unchained-node status")
    log = [Text(f"line {number} " + "x" * 200) for number in range(lines)]
    with console.capture() as capture:
        console.print(picture(view, console, lambda count: log[-count:] if count > 0 else []))
    return capture.get().splitlines()


def test_everything_is_shown() -> None:
    statistics = node(pool(worker(0), worker(1, state="backing-off", restarts=2, last_failure="f")))
    text = "\n".join(shown(statistics))
    for piece in (
        "Unchained local", "height 12", "tip abababababab", "up 1:02:03", "mining",
        "2,000.5 H/s in 10 s   1,900.0 in 1 min   1,800.0 in 15 min",
        "8 found   5 included   1 late   1 waiting   1 astray   1 rejected",
        "2 found   5.50 UNC earned   new ones go to wallet mining",
        "page     http://127.0.0.1:1", "ask      unchained-node status",
        "4.0 expected   200%", "5 s of about 8   3 of about 4 coins",
        "alone   3 transfers waiting", "native-avx2   nice 10   cap 50 %   others use 25%",
        "71 °C   clock 50%   throttled 4 times", KEYS,
    ):  # fmt: skip
        assert piece in text
    assert re.search(r"1 +backing-off +1,000\.0 +2  2  f", text)


def test_why_nothing_is_mined_is_shown() -> None:
    assert f"PAUSED: by hand, {BATTERY}" in shown(node(pool(pauses=("by hand", BATTERY))))[0]
    waiting = EpochStatistics(False, 0, 0, 0, 0, 0, 0, 0)
    lines = shown(node(pool(), epochs=waiting))
    assert "waiting   height 12" in lines[0]
    assert not any(line.startswith("waits") for line in lines)
    why = "no peer has answered yet; if none does, this node goes on by itself in 42 s"
    readiness = Readiness(False, {"synced": f"not known: {why}"})
    lines = shown(node(pool(), epochs=waiting, readiness=readiness))
    assert any(line.startswith(f"waits    {why}") for line in lines)
    assert not any(line.startswith("waits") for line in shown(node(pool(), readiness=readiness)))
    assert "not mining" in shown(node(None))[0]


def test_log_lines_fill_what_is_left_and_no_more() -> None:
    lines = shown(node(pool(worker(0))), height=24, lines=50)
    assert len(lines) == 24
    assert lines[-1].startswith("line 49 ")
    assert lines[-1].endswith("…")
    assert all(len(line) <= 100 for line in lines)
    small = shown(node(pool(worker(0))), width=50, height=8, lines=50)
    assert not any(line.startswith("line") for line in small)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (50, 12), (40, 10), (30, 6)])
def test_the_panel_fits_and_keeps_its_keys_in_sight(width: int, height: int) -> None:
    workers = [worker(index, restarts=1, last_failure="f" * 300) for index in range(40)]
    for statistics in (node(pool(*workers)), node(pool()), node(None)):
        lines = shown(statistics, width, height, lines=60)
        assert len(lines) == height
        assert all(len(line) <= width for line in lines)
        assert sum("pause" in line for line in lines) == 1
        assert "Unchained local" in lines[0]


def test_on_the_smallest_terminal_each_figure_has_a_line() -> None:
    lines = shown(node(pool(worker(0), worker(1))), LEAST_COLUMNS, LEAST_ROWS)
    names = [line.split()[0] for line in lines[2:-1]]
    assert names == ["rate", "coins", "anchors", "luck", "epoch", "network", "machine"]
    assert "2,000.5 H/s in 10 s" in lines[2]
    assert "5 s of about 8" in lines[6]
    assert "q quit" in lines[-1]
    assert (LEAST_COLUMNS, LEAST_ROWS) == (40, 10)


def test_on_a_common_terminal_no_figure_takes_two_lines() -> None:
    lines = shown(node(pool(worker(0))), 80, 24)
    names = [line.split()[0] for line in lines if line]
    assert names[3:11] == [
        "0", "rate", "coins", "anchors", "luck", "epoch", "network", "machine",
    ]  # fmt: skip


def test_workers_without_a_row_are_summed_up() -> None:
    many = node(pool(*(worker(index) for index in range(40))))
    lines = shown(many, 100, 24, lines=50)
    rows = [line for line in lines if re.match(r"\d+ +mining", line)]
    summed = next(line for line in lines if re.match(r"\d+ more", line))
    assert summed.startswith(f"{40 - len(rows)} more")
    assert f"{(40 - len(rows)) * 1000:,.1f}" in summed
    assert sum(line.startswith("line") for line in lines) == LINES_WANTED
    assert len([line for line in shown(many, 100, 60) if re.match(r"\d+ +mining", line)]) == 40


class FakeControl:
    def __init__(self) -> None:
        self.did: list[str] = []
        self.workers = 2

    def pause(self) -> None:
        self.did.append("pause")

    def resume(self) -> None:
        self.did.append("resume")

    def pool_statistics(self) -> PoolStatistics:
        return pool(*(worker(index) for index in range(self.workers)))

    def set_workers(self, workers: int) -> None:
        if workers > 3:
            raise BadWorkerCountError(workers, 3)
        self.workers = workers


class Observed:
    def statistics(self) -> NodeStatistics:
        return node(None)


class Stop:
    def __init__(self, reasons: list[str]) -> None:
        self._reasons = reasons

    def request_stop(self, reason: str) -> None:
        self._reasons.append(reason)


async def test_keys() -> None:
    reasons: list[str] = []
    control = FakeControl()
    panel = MinerPanel(
        Screen(Console(file=io.StringIO()), -1),
        LOCAL,
        control,  # type: ignore[arg-type]
        Observed(),
        stop=Stop(reasons),
        guide=Guide(load({}, {}, home=Path("/"))),
        clock=SystemClock(),
        log=structlog.get_logger(),
    )
    for key in "prx":
        panel.press(key)
    assert control.did == ["pause", "resume"]
    counts = []
    for key in "+=---":
        panel.press(key)
        counts.append(control.workers)
    # The pool refuses a fourth; the last always stays.
    assert counts == [3, 3, 2, 1, 1]
    panel.press("q")
    assert reasons == ["q pressed"]


def test_a_screen_that_is_no_terminal_is_a_log() -> None:
    out = io.StringIO()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    screen = Screen(Console(file=out, width=80), nowhere)
    screen.draw(Text("a picture"))
    screen.write({"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "node.started"})
    screen.close()
    assert "node.started" in out.getvalue()
    assert "picture" not in out.getvalue()
    assert not screen.shown
    with pytest.raises(OSError, match="ioctl"):
        screen.enter(Text("a picture"))
    assert not screen.shown
    os.close(nowhere)


def test_no_panel_where_there_is_no_terminal() -> None:
    assert not panel_possible(io.StringIO(), io.StringIO(), {"TERM": "xterm"})
