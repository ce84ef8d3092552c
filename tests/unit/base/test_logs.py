"""The log: what a line holds, where it goes, and that nobody ever waits for it."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import threading
from pathlib import Path

import pytest
import structlog
import trio
from rich.console import Console

from unchained.node.base.log_lines import Terminal, event_line
from unchained.node.base.logs import (
    LEVELS,
    Event,
    JsonLines,
    Logs,
    Sink,
    forward_libraries,
    iso_time,
    make_plain,
    open_logs,
)
from unchained.node.base.spans import span

ROOT = Path(__file__).parents[3]
NOON_MS = 1_795_262_400_123


class StoppedClock:
    def now_ms(self) -> int:
        return NOON_MS


class Kept:
    """An output that keeps the events in memory, and can be held up."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.writing = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def write(self, event: Event) -> None:
        self.writing.set()
        self.free.wait()
        self.events.append(event)

    def close(self) -> None:
        pass


def keep(level: str = "debug") -> tuple[Logs, Kept]:
    kept = Kept()
    return Logs([Sink("kept", kept)], StoppedClock(), level), kept  # type: ignore[arg-type]


def test_a_line_holds_time_level_name_and_fields_made_plain() -> None:
    logs, kept = keep()
    logs.log.info("coin.found", id=b"\x01\xff", height=7, work=2**70, path=Path("/x"), ids=(b"a",))
    logs.close()
    assert kept.events == [
        {
            "time": "2026-11-21T12:00:00.123Z",
            "level": "info",
            "event": "coin.found",
            "id": "01ff",
            "height": 7,
            "work": str(2**70),
            "path": "/x",
            "ids": ["61"],
        }
    ]


async def test_a_line_holds_its_task_and_the_context_also_from_threads() -> None:
    logs, kept = keep()

    with structlog.contextvars.bound_contextvars(service="chain"):
        logs.log.info("a.b")
        await trio.to_thread.run_sync(logs.log.info, "c.d")
    logs.close()
    first, second = kept.events
    assert (str(first["task"]).split(".")[-1], first["service"]) == ("main", "chain")
    assert ("task" in second, second["service"]) == (False, "chain")


def test_levels_filter_and_can_be_changed_live() -> None:
    logs, kept = keep("warning")
    logs.log.info("a.quiet")
    logs.log.warning("a.loud")
    logs.set_level("debug")
    logs.log.debug("a.detail")
    logs.close()
    assert [event["event"] for event in kept.events] == ["a.loud", "a.detail"]


def test_what_strangers_cause_again_and_again_is_left_out() -> None:
    logs, kept = keep()
    for number in range(1000):
        logs.log.info("peer.evicted", peer=number)
    for number in range(1000):
        logs.log.info("anchor.connected", height=number)
    logs.close()
    assert [event["event"] for event in kept.events].count("peer.evicted") == 1
    assert len(kept.events) == 1001


def test_fields_with_the_names_of_secrets_are_masked() -> None:
    logs, kept = keep()
    logs.log.info("wallet.opened", mnemonic="abandon", passphrase_hash="x", name="main")
    logs.close()
    (event,) = kept.events
    assert (event["mnemonic"], event["passphrase_hash"], event["name"]) == ("***", "***", "main")


def test_a_full_queue_drops_counts_and_reports_and_nobody_waits() -> None:
    kept = Kept()
    kept.free.clear()
    sink = Sink("slow", kept, capacity=2)
    logs = Logs([sink], StoppedClock())
    logs.log.info("a.0")
    kept.writing.wait()
    for n in range(1, 6):
        logs.log.info(f"a.{n}")
    assert sink.statistics().dropped == 3
    kept.free.set()
    logs.close()
    assert [event["event"] for event in kept.events] == ["a.0", "log.dropped", "a.1", "a.2"]
    assert kept.events[1]["count"] == 3
    (statistics,) = logs.statistics().sinks
    assert (statistics.written, statistics.dropped, statistics.failed) == (4, 3, 0)


def test_an_output_that_fails_is_counted_and_tried_again() -> None:
    class Full(Kept):
        def write(self, event: Event) -> None:
            if event["event"] == "a.lost":
                raise OSError("No space left on device")
            super().write(event)

    full = Full()
    logs = Logs([Sink("file", full)], StoppedClock())
    logs.log.info("a.lost")
    logs.log.info("a.kept")
    logs.close()
    assert [event["event"] for event in full.events] == ["a.kept"]
    assert logs.statistics().sinks[0].failed == 1


def test_a_subsystem_has_a_level_of_its_own() -> None:
    logs, kept = keep("info")
    assert logs.hides_debug
    logs.set_level("debug", "net")
    logs.set_level("error", "peer")
    assert logs.levels() == {"net": "debug", "peer": "error"}
    logs.log.debug("net.misbehaved")
    logs.log.debug("chain.detail")
    logs.log.warning("peer.banned")
    logs.log.info("chain.opened")
    logs.set_level("warning")
    assert logs.levels() == {}
    assert logs.hides_debug
    logs.log.debug("net.misbehaved")
    logs.log.info("chain.opened")
    logs.close()
    assert [event["event"] for event in kept.events] == ["net.misbehaved", "chain.opened"]


def test_what_is_expensive_is_computed_only_where_its_line_is_written() -> None:
    logs, kept = keep("info")
    asked: list[int] = []

    def costly() -> str:
        asked.append(1)
        return "found"

    logs.log.debug("chain.detail", what=costly)
    assert asked == []
    logs.log.info("chain.opened", what=costly)
    logs.close()
    assert asked == [1]
    assert kept.events[0]["what"] == "found"


async def test_a_span_follows_tasks_and_threads() -> None:
    logs, kept = keep()

    async def child() -> None:
        await trio.to_thread.run_sync(logs.log.info, "a.thread")

    with span("peer", "12D3"), span("anchor", b"\xab\xcd"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
    logs.log.info("a.after")
    logs.close()
    inside, after = kept.events
    assert (inside["peer"], inside["anchor"]) == ("12D3", "abcd")
    assert "peer" not in after


def test_the_file_gets_the_traceback_and_the_terminal_does_not(tmp_path: Path) -> None:
    stream = io.StringIO()
    with open_logs(clock=StoppedClock(), file=tmp_path / "node.log", stream=stream) as logs:
        logs.log.error("service.failed", error="KeyError: 1", exc_info=KeyError(1))
    assert "KeyError: 1\n" in json.loads((tmp_path / "node.log").read_text())["traceback"]
    assert json.loads(stream.getvalue()) == {
        "time": "2026-11-21T12:00:00.123Z",
        "level": "error",
        "event": "service.failed",
        "error": "KeyError: 1",
    }


def test_the_error_being_handled_can_be_asked_for() -> None:
    logs, kept = keep()
    try:
        raise KeyError(1)
    except KeyError:
        logs.log.exception("a.b")
        logs.log.error("c.d", exc_info=True)
    logs.close()
    assert all("KeyError: 1" in str(event["traceback"]) for event in kept.events)
    assert [event["level"] for event in kept.events] == ["error", "error"]


def test_a_terminal_gets_one_coloured_line_free_of_control_characters() -> None:
    stream = io.StringIO()
    output = Terminal(Console(file=stream, force_terminal=True, color_system="standard"))
    output.write(
        {"time": iso_time(NOON_MS), "level": "info", "event": "net.peer", "agent": "x\x1b[2J\ny"}
    )
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b[32m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain == "2026-11-21 12:00:00 info     net.peer             agent=x?[2J?y\n"


def test_why_a_node_ended_stands_in_its_log_and_on_its_terminal_once() -> None:
    ended = {
        "time": iso_time(NOON_MS),
        "level": "error",
        "event": "node.stopped",
        "error": "the disk is full",
        "traceback": "...",
    }
    assert "the disk is full" in event_line(ended).plain
    # the process's last line says it there
    assert "the disk is full" not in event_line(ended, live=True).plain


def test_a_terminal_is_recognised_and_json_can_be_asked_for() -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    for asked in (False, True):
        stream = Tty()
        with open_logs(clock=StoppedClock(), stream=stream, json=asked) as logs:
            logs.log.info("node.started")
        assert stream.getvalue().startswith("{") is asked


def test_a_closed_stream_does_not_end_the_node() -> None:
    stream = io.StringIO()
    stream.close()
    logs = Logs([Sink("terminal", JsonLines(stream))], StoppedClock())
    logs.log.info("a.b")
    logs.close()
    assert logs.statistics().sinks[0].failed == 1


def test_warnings_of_libraries_become_events_while_asked_for() -> None:
    logs, kept = keep()
    before = list(logging.getLogger().handlers)
    with forward_libraries(logs.log):
        logging.getLogger("starlette").warning("odd %s", "peer")
        logging.getLogger("starlette").info("chatter")
        logging.getLogger("hypercorn").error("bad")
    logs.close()
    assert [(event["event"], event["library"], event["message"]) for event in kept.events] == [
        ("library.warning", "starlette", "odd peer"),
        ("library.error", "hypercorn", "bad"),
    ]
    assert logging.getLogger().handlers == before


def test_two_logs_in_one_process_do_not_mix() -> None:
    (one, kept_one), (two, kept_two) = keep("info"), keep("error")
    one.log.info("a.b")
    two.log.error("c.d")
    one.close()
    two.close()
    assert [event["event"] for event in kept_one.events] == ["a.b"]
    assert [event["event"] for event in kept_two.events] == ["c.d"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [(True, True), (None, None), (1.5, 1.5), ({1: b"\0"}, {"1": "00"}), (OSError("x"), "x")],
)
def test_values_are_made_plain(value: object, plain: object) -> None:
    assert make_plain(value) == plain


def names_in_code() -> dict[str, set[str]]:
    """Every event name that the code logs, with the levels it is logged at."""
    found = {"log.dropped": {"warning"}}
    for room in ("node", "miner", "storage"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Attribute(
                            value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=level
                        ),
                        args=[ast.Constant(value=str(name)), *_],
                    ) if owner.endswith("log") and level in LEVELS:
                        found.setdefault(name, set()).add(level)
    return found


def test_every_event_is_listed_in_the_documentation() -> None:
    text = (ROOT / "docs/logging.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([a-z, ]+) \|", text, re.MULTILINE)
    assert {name: set(levels.split(", ")) for name, levels in rows} == names_in_code()
