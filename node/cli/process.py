"""One node as the whole of this process: its log, its event loop, its end."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.metadata
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock, SystemClock
from unchained.node.base.config import declared_keys, toml_value
from unchained.node.base.heap import share_one_heap
from unchained.node.base.log_file import FileLimits
from unchained.node.base.logs import LogOutput, Logs, forward_libraries, open_logs
from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.base.process_parts import ProcessParts
from unchained.node.base.runner import ease_switches, freeze_imports, freeze_made
from unchained.node.base.service_manager import ServiceManager
from unchained.node.base.services import (
    Service,
    ServiceFailedError,
    Started,
    Supervisor,
    SupervisorStatistics,
    describe,
    root_cause,
    stop_on_signals,
)
from unchained.node.base.settings import LOG_NAME, MASK, Settings, prepare_data_dir
from unchained.node.cli.guide import Guide, hint, place_of
from unchained.node.cli.unfinished import remove_unfinished_in
from unchained.node.rpc.methods.node import LogLevel

STOPPED = 0
FAILED = 1


class LateSupervisor:
    """A supervisor that exists only once the services are known, which are given its methods."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self.supervisor: Supervisor | None = None
        self.reason: str | None = None

    def request_stop(self, reason: str) -> None:
        """Stop, or do so as soon as there is something to stop."""
        self._manager.stopping()
        if self.supervisor is None:
            self.reason = reason
        else:
            self.supervisor.request_stop(reason)

    def statistics(self) -> SupervisorStatistics:
        """Return the state of all services."""
        if self.supervisor is None:
            return SupervisorStatistics((), self.reason is not None)
        return self.supervisor.statistics()


class Process(msgspec.Struct, frozen=True):
    """What the process offers to the node in it."""

    settings: Settings
    data_dir: Path
    """Exists and can be written."""
    clock: Clock
    logs: Logs
    supervisor: LateSupervisor
    loop: LoopMonitor
    guide: Guide

    @property
    def log(self) -> FilteringBoundLogger:
        """The log for the components of the node."""
        return self.logs.log

    def request_stop(self, reason: str) -> None:
        """Begin a stop in good order."""
        self.supervisor.request_stop(reason)

    @property
    def log_level(self) -> LogLevel:
        """The level of the log at the start."""
        return self.settings.config.node.log_level

    def set_log_level(self, level: LogLevel, subsystem: str | None = None) -> None:
        """Change the level of the log, or of one subsystem's events."""
        self.logs.set_level(level, subsystem)

    def log_levels(self) -> Mapping[str, str]:
        """Return the levels of the subsystems that have one of their own."""
        return self.logs.levels()

    @property
    def setting_rows(self) -> Sequence[tuple[str, str, str]]:
        """Key, value as text and origin of each setting, secrets masked."""
        return [
            (
                key.name,
                MASK if key.secret else toml_value(self.settings.value(key.name)),
                self.settings.origins[key.name].text,
            )
            for key in declared_keys().values()
        ]

    @property
    def parts(self) -> ProcessParts:
        """The parts that give statistics."""
        return ProcessParts(self.supervisor, self.loop, self.logs)


def run_node(
    settings: Settings,
    compose: Callable[[Process], Awaitable[Sequence[Service]]],
    *,
    expected: tuple[type[Exception], ...],
    json: bool = False,
    screen: LogOutput | None = None,
) -> int:
    """Run a node until SIGINT, SIGTERM, SIGHUP or a failure; return the exit code.

    `compose` makes the services, in the event loop, before the first one starts. Errors of the
    `expected` families are reported by their text, others as internal errors with the traceback in
    the log file. The log's lines go to the `screen` if there is one, else to standard output.
    Raises ConfigError if the data directory cannot be used.
    """
    if not faulthandler.is_enabled():
        # What ends in a fault of the machine's says on standard error in which line.
        with contextlib.suppress(RuntimeError, OSError, ValueError):  # There may be none.
            faulthandler.enable()
    ease_switches()
    share_one_heap()
    freeze_imports()
    data_dir = prepare_data_dir(settings.data_dir)
    remove_unfinished_in(data_dir)
    clock = SystemClock()
    log_file = data_dir / LOG_NAME
    node = settings.config.node
    with (
        open_logs(
            clock=clock,
            level=node.log_level,
            file=log_file,
            file_limits=FileLimits(
                max_bytes=node.log_file_mib << 20,
                count=node.log_files,
                hours=node.log_hours,
                days=node.log_days,
            ),
            stream=sys.stdout,
            json=json,
            screen=screen,
        ) as logs,
        forward_libraries(logs.log),
    ):
        instrument = LoopMonitor(logs.log)
        manager = ServiceManager()
        late = LateSupervisor(manager)
        process = Process(settings, data_dir, clock, logs, late, instrument, Guide(settings))
        try:
            trio.run(_main, process, late, manager, compose, instruments=[instrument])
        except BaseException as failure:
            line = hint(_line(failure, expected, log_file), place_of(settings))
            logs.log.error("node.stopped", exit_code=FAILED, error=line, exc_info=failure)
        else:
            logs.log.info("node.stopped", exit_code=STOPPED)
            return STOPPED
    print(f"unchained-node: {line}", file=sys.stderr)  # noqa: T201
    return FAILED


def _line(failure: BaseException, expected: tuple[type[Exception], ...], log_file: Path) -> str:
    cause = root_cause(failure)
    if isinstance(cause, expected):
        return " ".join(str(cause).split())
    if isinstance(cause, MemoryError):
        return "out of memory: nothing that was acknowledged is lost"
    service = next(
        (e.service for e in _chain(failure) if isinstance(e, ServiceFailedError)), "node"
    )
    return f"internal error in {service}: {describe(cause)} (details: {log_file})"


def _chain(error: BaseException) -> Sequence[BaseException]:
    inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
    return (error, *(_chain(inner) if inner is not None else ()))


async def _main(
    process: Process,
    late: LateSupervisor,
    manager: ServiceManager,
    compose: Callable[[Process], Awaitable[Sequence[Service]]],
) -> None:
    log = process.log

    def end_now(why: str) -> None:
        # Whatever still runs may never end; the store loses nothing by it.
        log.error("node.stopped", exit_code=FAILED, error=why)
        process.logs.close()
        os._exit(FAILED)

    def note_started() -> None:
        process.guide.look()
        log.info(
            "node.started",
            version=importlib.metadata.version("unchained"),
            network=process.settings.config.node.network,
            data_dir=process.data_dir,
            pid=os.getpid(),
            **process.guide.facts(),
        )
        manager.ready(f"network {process.settings.config.node.network}")

    async with trio.open_nursery() as nursery:
        await nursery.start(
            stop_on_signals, late.request_stop, lambda number: end_now(f"signal {number} again")
        )
        nursery.start_soon(manager.watch)
        services = await compose(process)
        freeze_made()
        late.supervisor = Supervisor(
            services,
            log=log,
            on_overdue=lambda names: end_now(f"not stopped in time: {', '.join(names)}"),
        )
        if late.reason is not None:
            late.supervisor.request_stop(late.reason)
        await late.supervisor.run(task_status=Started(note_started))
        nursery.cancel_scope.cancel()
