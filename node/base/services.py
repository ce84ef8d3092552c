"""Services and their supervisor: what runs in a node, in which order it starts and stops.

A service is a function that runs until it is cancelled. The supervisor starts them stage by
stage, restarts those that may be restarted, and stops them stage by stage in the opposite order,
each stage gone before the next is touched: so mining ends before the chain does, and the chain
before the store under it.

    ServiceError
    +-- ServiceEndedError   a service returned although nobody had asked it to
    +-- ServiceFailedError  a service failed that cannot be restarted: the node stops
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec
import trio
from structlog.contextvars import bound_contextvars
from structlog.typing import FilteringBoundLogger

STOP_GRACE_S = 30.0
"""A node that was asked to stop is gone after this time."""
RESTART_DELAY_S_MIN = 0.5
RESTART_DELAY_S_MAX = 60.0
SAME_SIGNAL_S = 1.0
"""A signal that comes so soon after the first is the same wish, sent to process and group."""
STEADY_S = 120.0
"""A service that ran this long before it failed is restarted after `RESTART_DELAY_S_MIN` again."""


class ServiceRun(Protocol):
    """The function of a service: calls ``task_status.started()`` once it is ready for use."""

    def __call__(self, *, task_status: trio.TaskStatus[None]) -> Awaitable[None]:
        """Run until cancelled."""


class Service(msgspec.Struct, frozen=True):
    """A part of the node that runs until cancelled.

    Stages start in ascending order and stop in descending order; the services of one stage start
    and stop together.
    """

    name: str
    run: ServiceRun
    stage: int = 0
    restartable: bool = False


class ServiceStatistics(msgspec.Struct, frozen=True, gc=False):
    """What a service did so far."""

    name: str
    stage: int
    state: str
    """`waiting`, `starting`, `running`, `backing-off`, `stopping` or `stopped`."""
    restarts: int
    last_error: str
    """One line; empty if it never failed."""


class SupervisorStatistics(msgspec.Struct, frozen=True):
    """All services, in the order in which they start."""

    services: tuple[ServiceStatistics, ...]
    stopping: bool


class ServiceError(Exception):
    """A service did not do what it should; `service` is its name."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(f"{service}: {message}")
        self.service = service


class ServiceEndedError(ServiceError):
    """A service returned although nobody had asked it to."""

    def __init__(self, service: str) -> None:
        super().__init__(service, "ended by itself, expected to run until cancelled")


class ServiceFailedError(ServiceError):
    """A service that cannot be restarted failed; the cause is `__cause__`."""

    def __init__(self, service: str, cause: BaseException) -> None:
        super().__init__(service, describe(cause))


def root_cause(error: BaseException) -> BaseException:
    """Return the first error that a service's failure or a group of errors stands for."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, ServiceFailedError) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def describe(error: BaseException) -> str:
    """Return one line that says what went wrong, in groups of errors the first one."""
    error = root_cause(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Started:
    """A Trio task status that calls `note`, each time: a restarted service starts again."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def started(self, value: None = None) -> None:
        """Call `note`."""
        self._note()


class _Record:
    """One service under supervision."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.scope = trio.CancelScope()
        self.settled = trio.Event()
        self.done = trio.Event()
        self.state = "waiting"
        self.restarts = 0
        self.last_error = ""

    def note_started(self) -> None:
        if self.state == "starting":
            self.state = "running"
        self.settled.set()


class Supervisor:
    """Runs services until it is asked to stop, or one of them fails for good.

    `on_overdue` is called with the names of the services that are still there `grace_s` seconds
    after the stop began: the owner of the process ends it then.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        log: FilteringBoundLogger,
        on_overdue: Callable[[tuple[str, ...]], None],
        grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._records = [
            _Record(service) for service in sorted(services, key=lambda item: item.stage)
        ]
        self._log = log
        self._on_overdue = on_overdue
        self._grace_s = grace_s
        self._stop = trio.Event()
        self._finished = trio.Event()
        self._failure: tuple[Service, Exception] | None = None

    def request_stop(self, reason: str) -> None:
        """Begin to stop, in order; may be called more than once."""
        if not self._stop.is_set():
            self._log.info("node.stopping", reason=reason)
            self._stop.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all services until `request_stop`; started when the last stage has.

        Cancelling it stops the services in the same order. Raises `ServiceFailedError` after
        everything has stopped.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._supervise, task_status, name="supervisor")
            try:
                await self._finished.wait()
            finally:
                self.request_stop("cancelled")
        if self._failure is not None:
            service, error = self._failure
            raise ServiceFailedError(service.name, error) from error

    def statistics(self) -> SupervisorStatistics:
        """Return a snapshot of every service's state."""
        return SupervisorStatistics(
            tuple(
                ServiceStatistics(
                    record.service.name,
                    record.service.stage,
                    record.state,
                    record.restarts,
                    record.last_error,
                )
                for record in self._records
            ),
            self._stop.is_set(),
        )

    def _stages(self) -> list[list[_Record]]:
        numbers = sorted({record.service.stage for record in self._records})
        return [
            [record for record in self._records if record.service.stage == number]
            for number in numbers
        ]

    async def _supervise(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            # A caller that cancels the supervisor still wants its services to go in order.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    start = trio.CancelScope()
                    nursery.start_soon(self._start, nursery, start, task_status)
                    await self._stop.wait()
                    start.cancel()
                    await self._stop_all()
        finally:
            self._finished.set()

    async def _start(
        self, nursery: trio.Nursery, scope: trio.CancelScope, task_status: trio.TaskStatus[None]
    ) -> None:
        with scope:
            for stage in self._stages():
                # Whoever stops looks only at what has begun: nothing begins after that.
                if self._stop.is_set():
                    return
                for record in stage:
                    record.state = "starting"
                    nursery.start_soon(self._keep, record, name=f"service {record.service.name}")
                for record in stage:
                    await record.settled.wait()
            if not self._stop.is_set():
                task_status.started()

    async def _stop_all(self) -> None:
        with trio.move_on_after(self._grace_s) as grace:
            for stage in reversed(self._stages()):
                for record in stage:
                    if record.state != "waiting":
                        record.state = "stopping" if not record.done.is_set() else "stopped"
                        record.scope.cancel()
                for record in stage:
                    if record.state != "waiting":
                        await record.done.wait()
        if grace.cancelled_caught:
            late = tuple(
                record.service.name for record in self._records if record.state == "stopping"
            )
            self._log.error("node.stop_overdue", services=late, seconds=self._grace_s)
            self._on_overdue(late)
            for record in self._records:
                record.scope.cancel()

    async def _keep(self, record: _Record) -> None:
        service = record.service
        delay = RESTART_DELAY_S_MIN
        try:
            with record.scope, bound_contextvars(service=service.name):
                while True:
                    began = trio.current_time()
                    error = await self._run_once(record)
                    record.last_error = describe(error)
                    if not service.restartable:
                        self._fail(service, error)
                        return
                    if trio.current_time() - began >= STEADY_S:
                        delay = RESTART_DELAY_S_MIN
                    self._log.error(
                        "service.failed",
                        service=service.name,
                        error=record.last_error,
                        restart_in_s=delay,
                        restarts=record.restarts,
                        exc_info=error,
                    )
                    record.state = "backing-off"
                    record.settled.set()
                    await trio.sleep(delay)
                    delay = min(delay * 2, RESTART_DELAY_S_MAX)
                    record.restarts += 1
                    record.state = "starting"
        except Exception as error:  # noqa: BLE001
            # It failed while it was being stopped: nothing is left to restart.
            record.last_error = describe(error)
            self._fail(service, error)
        finally:
            record.state = "stopped"
            record.settled.set()
            record.done.set()

    async def _run_once(self, record: _Record) -> Exception:
        status = Started(record.note_started)
        try:
            await record.service.run(task_status=status)
        except Exception as error:
            if record.scope.cancel_called:
                raise
            return error
        return ServiceEndedError(record.service.name)

    def _fail(self, service: Service, error: Exception) -> None:
        self._log.error(
            "service.failed_for_good", service=service.name, error=describe(error), exc_info=error
        )
        if self._failure is None:
            self._failure = (service, error)
        self.request_stop(f"{service.name} failed")


@contextmanager
def heeded_signals(*numbers: signal.Signals) -> Iterator[AsyncIterator[int]]:
    """Receive signals inside the block, but for those that the process was started to ignore."""
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    if wanted:
        with trio.open_signal_receiver(*wanted) as signals:
            yield signals
    else:
        silent, nothing = trio.open_memory_channel[int](0)
        with silent, nothing:
            yield nothing


async def stop_on_signals(
    request_stop: Callable[[str], None],
    abort: Callable[[int], None],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a stop in good order, a later one into `abort`.

    What the process was started to ignore stays ignored, as `nohup` and a shell's `&` want it.
    Runs until cancelled; the previous handlers are then back.
    """
    with heeded_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        asked_at: float | None = None
        async for number in signals:
            if asked_at is None:
                asked_at = trio.current_time()
                request_stop(signal.Signals(number).name)
            elif trio.current_time() - asked_at >= SAME_SIGNAL_S:
                abort(number)
