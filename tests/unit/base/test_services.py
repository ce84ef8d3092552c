"""The supervisor: order of start and stop, restarts, failures, signals; in virtual time."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator

import pytest
import structlog
import structlog.testing
import trio
import trio.testing

from tests.framework.async_tests import reseed_scheduler
from unchained.node.base.services import (
    RESTART_DELAY_S_MAX,
    SAME_SIGNAL_S,
    STEADY_S,
    STOP_GRACE_S,
    Service,
    ServiceFailedError,
    Supervisor,
    describe,
    root_cause,
    stop_on_signals,
)

Status = trio.TaskStatus[None]


class House:
    """A supervisor with what its services did, in order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.logged = structlog.testing.LogCapture()
        self.late: list[tuple[str, ...]] = []

    def supervisor(self, *services: Service, grace_s: float = STOP_GRACE_S) -> Supervisor:
        log = structlog.wrap_logger(None, processors=[self.logged])
        return Supervisor(services, log=log, on_overdue=self.late.append, grace_s=grace_s)

    def service(self, name: str, stage: int = 0, stop_s: float = 0.0) -> Service:
        """A service that takes a second to start and `stop_s` to stop."""

        async def run(*, task_status: Status) -> None:
            await trio.sleep(1)
            self.said.append(f"+{name}")
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(stop_s)
                self.said.append(f"-{name}")

        return Service(name, run, stage)

    def failing(
        self, name: str, errors: Iterator[Exception], *, restartable: bool, steady_s: float = 0.0
    ) -> Service:
        """A service that raises the next of the errors each time, and runs on after the last."""

        async def run(*, task_status: Status) -> None:
            task_status.started()
            self.said.append(f"{name}@{trio.current_time():g}")
            await trio.sleep(steady_s)
            for error in errors:
                raise error
            await trio.sleep_forever()

        return Service(name, run, restartable=restartable)


async def stop_after(supervisor: Supervisor, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(seconds)
        supervisor.request_stop("asked")


async def test_stages_start_upwards_and_stop_downwards_one_after_the_other() -> None:
    house = House()
    supervisor = house.supervisor(
        house.service("miner", 2, stop_s=3), house.service("store", 0), house.service("chain", 1)
    )

    async with trio.open_nursery() as nursery:
        await nursery.start(lambda *, task_status: supervisor.run(task_status=task_status))
        assert house.said == ["+store", "+chain", "+miner"]
        assert [service.state for service in supervisor.statistics().services] == ["running"] * 3
        supervisor.request_stop("asked")
        supervisor.request_stop("asked again")
        await trio.sleep(2)
        assert [service.state for service in supervisor.statistics().services] == [
            "running",
            "running",
            "stopping",
        ]
    assert house.said[3:] == ["-miner", "-chain", "-store"]
    assert [entry["event"] for entry in house.logged.entries] == ["node.stopping"]
    assert house.late == []


async def test_cancelling_the_supervisor_stops_in_order_too() -> None:
    house = House()
    supervisor = house.supervisor(
        house.service("store", 0), house.service("chain", 1, stop_s=2), house.service("miner", 2)
    )

    with trio.move_on_after(10):
        await supervisor.run()
    assert house.said[3:] == ["-miner", "-chain", "-store"]


async def test_a_stop_during_the_start_ends_only_what_has_begun() -> None:
    house = House()
    supervisor = house.supervisor(house.service("store", 0), house.service("chain", 1))
    await stop_after(supervisor, 0.5)
    assert house.said == []
    assert [service.state for service in supervisor.statistics().services] == [
        "stopped",
        "waiting",
    ]


@pytest.mark.parametrize("order", range(8))
async def test_nothing_starts_once_the_stop_has_been_asked_for(order: int) -> None:
    reseed_scheduler(order)

    async def run(*, task_status: Status) -> None:
        # One that ran would run for good: nobody is left who stops it.
        raise AssertionError("started after the stop")

    supervisor = House().supervisor(Service("late", run))
    supervisor.request_stop("asked before it began")
    await supervisor.run()
    assert [one.state for one in supervisor.statistics().services] == ["waiting"]


async def test_a_restartable_service_is_restarted_with_growing_delays_and_counted() -> None:
    house = House()
    errors: Iterator[Exception] = (OSError(f"no {n}") for n in range(10))
    supervisor = house.supervisor(house.failing("net", errors, restartable=True))
    await stop_after(supervisor, 400)
    times = [float(line.split("@")[1]) for line in house.said]
    delays = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert delays == [
        0.5,
        1,
        2,
        4,
        8,
        16,
        32,
        RESTART_DELAY_S_MAX,
        RESTART_DELAY_S_MAX,
        RESTART_DELAY_S_MAX,
    ]
    (net,) = supervisor.statistics().services
    assert (net.restarts, net.last_error) == (10, "OSError: no 9")
    failures = [entry for entry in house.logged.entries if entry["event"] == "service.failed"]
    assert [entry["restarts"] for entry in failures] == list(range(10))


async def test_a_service_that_ran_steadily_is_restarted_soon() -> None:
    house = House()
    errors: Iterator[Exception] = (OSError() for _ in range(4))
    service = house.failing("net", errors, restartable=True, steady_s=STEADY_S)
    supervisor = house.supervisor(service)
    await stop_after(supervisor, 4 * (STEADY_S + 1))
    times = [float(line.split("@")[1]) for line in house.said]
    assert [later - sooner for sooner, later in itertools.pairwise(times)] == [STEADY_S + 0.5] * 4


async def test_a_service_that_cannot_be_restarted_stops_the_node_in_order() -> None:
    house = House()
    supervisor = house.supervisor(
        house.service("store"), house.failing("chain", iter([KeyError("tip")]), restartable=False)
    )

    with pytest.raises(ServiceFailedError, match=r"^chain: KeyError: 'tip'$") as caught:
        await supervisor.run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(root_cause(caught.value), KeyError)
    assert "service.failed_for_good" in [entry["event"] for entry in house.logged.entries]


async def test_a_service_that_ends_by_itself_has_failed() -> None:
    async def run(*, task_status: Status) -> None:
        task_status.started()

    supervisor = House().supervisor(Service("clock", run))

    with pytest.raises(ServiceFailedError, match="ended by itself, expected to run until"):
        await supervisor.run()


async def test_a_failure_while_stopping_is_reported_after_all_have_stopped() -> None:
    house = House()

    async def run(*, task_status: Status) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("disk full")

    supervisor = house.supervisor(house.service("store", 0), Service("chain", run, 1))

    with pytest.RaisesGroup(
        pytest.RaisesExc(ServiceFailedError, match="chain: OSError: disk full")
    ):
        await stop_after(supervisor, 5)
    assert house.said == ["+store", "-store"]


async def test_a_service_that_does_not_stop_in_time_is_named() -> None:
    house = House()
    supervisor = house.supervisor(
        house.service("store", 0), house.service("chain", 1, stop_s=100), grace_s=30
    )
    await stop_after(supervisor, 5)
    assert house.late == [("chain",)]
    assert [entry["event"] for entry in house.logged.entries] == [
        "node.stopping",
        "node.stop_overdue",
    ]


async def test_a_service_runs_under_its_name() -> None:
    seen: list[object] = []

    async def child() -> None:
        seen.append(structlog.contextvars.get_contextvars())

    async def run(*, task_status: Status) -> None:
        seen.append(trio.lowlevel.current_task().name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            task_status.started()
            await trio.sleep_forever()

    await stop_after(House().supervisor(Service("epochs", run)), 1)
    assert seen == ["service epochs", {"service": "epochs"}]


async def test_the_first_signal_asks_and_the_second_aborts() -> None:
    asked: list[str] = []
    aborted: list[int] = []

    before = signal.getsignal(signal.SIGTERM)

    async with trio.open_nursery() as nursery:

        def abort(number: int) -> None:
            aborted.append(number)
            nursery.cancel_scope.cancel()

        await nursery.start(
            lambda *, task_status: stop_on_signals(asked.append, abort, task_status=task_status)
        )
        signal.raise_signal(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked()
        # A terminal and a process manager may both signal the same wish.
        signal.raise_signal(signal.SIGINT)
        await trio.testing.wait_all_tasks_blocked()
        assert (asked, aborted) == (["SIGTERM"], [])
        await trio.sleep(SAME_SIGNAL_S)
        signal.raise_signal(signal.SIGINT)
    assert (asked, aborted) == (["SIGTERM"], [signal.SIGINT])
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_is_described_in_one_line() -> None:
    group = ExceptionGroup("many", [ExceptionGroup("inner", [OSError("a\n  b")]), KeyError()])
    assert describe(group) == "OSError: a b"
    assert describe(KeyError()) == "KeyError"
