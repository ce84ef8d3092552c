"""Alerts about the node itself: each fires from its fault and clears after it."""

from __future__ import annotations

import shutil
import threading
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import plyvel
import pytest
import structlog
import trio

from tests.framework.alert_recorder import STEP_S, AlertRecorder, check_rule
from tests.framework.observed import observer_of
from tests.framework.rpc_server import SampleRoom
from tests.framework.simulated_pool import SimulatedPool
from tests.framework.simulation.simnet import simulate
from tests.framework.wallet_node import WalletNode, wallet_node
from unchained.miner.jobs import Solution
from unchained.node.base.clock import TrioClock
from unchained.node.base.fanout import Watch
from unchained.node.base.logs import Event, Logs, Sink
from unchained.node.base.loop_monitor import LoopMonitor
from unchained.node.base.runner import InlineRunner
from unchained.node.base.services import Service, Supervisor
from unchained.node.observe.alerts import ALERTS
from unchained.node.observe.node_observer import NodeObserver, process_statistics
from unchained.node.observe.node_statistics import NodeStatistics
from unchained.node.rpc.core.registry import Access, Registry
from unchained.node.rpc.core.rights import Caller
from unchained.node.rpc.http.criterion import Readiness
from unchained.node.rpc.http.readiness import ReadinessCheck
from unchained.node.rpc.http.server import RpcSettings, Server
from unchained.node.wallet.plan import Payee
from unchained.storage.errors import StoreFullError
from unchained.storage.kv import Batch
from unchained.storage.leveldb import LevelStore

BY_NAME = {alert.name: alert for alert in ALERTS}
UNC = 10**8
Usage = namedtuple("Usage", "total used free")


def recorder_of(name: str, observer: NodeObserver) -> AlertRecorder:
    return AlertRecorder(BY_NAME[name], observer.statistics)


class Disk:
    """A disk of 100 GB on which something else writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes_per_s = 0.0
        self._free = 100e9
        self._at = trio.current_time()
        monkeypatch.setattr(shutil, "disk_usage", self.usage)

    def usage(self, _path: object) -> Usage:
        now = trio.current_time()
        self._free = max(0.0, self._free - self.bytes_per_s * (now - self._at))
        self._at = now
        return Usage(10**11, 10**11 - int(self._free), int(self._free))

    def set_free(self, free: float) -> None:
        self._free = free


async def test_a_disk_that_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with simulate(201) as net:
        node = net.node()
        await node.start()
        disk = Disk(monkeypatch)
        observer = observer_of(node, tmp_path)
        recorder = AlertRecorder(
            BY_NAME["UnchainedDiskFilling"], lambda: observer.complete(observer.statistics())
        )
        await recorder.watch(1_800)
        disk.bytes_per_s = 100e9 / 43_200
        await recorder.through_fault()
        disk.bytes_per_s = 0
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with simulate(202) as net:
        node = net.node()
        await node.start()
        disk = Disk(monkeypatch)
        observer = observer_of(node, tmp_path)
        observer.readiness = ReadinessCheck(
            node.chain, tmp_path, node.chain._clock, synced=Watch(True), peers=None
        )
        recorder = recorder_of("UnchainedDiskLow", observer)
        await recorder.watch(60)
        disk.set_free(100e6)
        await recorder.through_fault()
        disk.set_free(50e9)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_node_that_is_not_ready(tmp_path: Path) -> None:
    async with simulate(203) as net:
        node = net.node()
        await node.start()
        observer = observer_of(node, tmp_path)
        synced = Watch(True)
        observer.readiness = ReadinessCheck(
            node.chain, tmp_path, node.chain._clock, synced=synced, peers=None
        )
        recorder = recorder_of("UnchainedNotReady", observer)
        await recorder.watch(60)
        synced.set(False)
        await recorder.through_fault()
        synced.set(True)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_store_whose_disk_is_full(tmp_path: Path) -> None:
    """LevelDB's own word for a full disk, from its write on; then the node is started again."""
    async with simulate(204) as net:
        node = net.node()
        await node.start()
        observer = observer_of(node)
        store = LevelStore(tmp_path / "db", create=True)
        observer.store = store
        recorder = recorder_of("UnchainedStoreFailed", observer)
        batch = Batch()
        batch.put(b"key", b"value")
        store.write(batch, sync=True)
        await recorder.watch(60)
        database = store._db
        store._db = FullDisk(database)
        with pytest.raises(StoreFullError):
            store.write(batch, sync=True)
        await recorder.through_fault()
        store._db = database
        store.close()
        observer.store = again = LevelStore(tmp_path / "db")
        await recorder.through_healing()
        again.close()
        check_rule(recorder, tmp_path)


class FullDisk:
    def __init__(self, database: Any) -> None:
        self._database = database

    def write_batch(self, **_: object) -> Any:
        raise plyvel.IOError(b"IO error: 000005.log: No space left on device")


class HeldClock:
    """The virtual clock, and the time for which a step has computed."""

    def __init__(self) -> None:
        self.held_s = 0.0

    def monotonic(self) -> float:
        return trio.current_time() + self.held_s

    def processor(self) -> float:
        return self.held_s


async def test_a_loop_that_is_held(tmp_path: Path) -> None:
    """A task computes for 80 ms in a step; the machine's clock goes on meanwhile."""
    async with simulate(205) as net:
        node = net.node()
        await node.start()
        clock = HeldClock()
        monitor = LoopMonitor(structlog.wrap_logger(None, processors=[drop]), clock=clock)
        trio.lowlevel.add_instrument(monitor)
        observer = observer_of(node)
        observer.loop = monitor

        async def hold() -> None:
            while True:
                await trio.sleep(10)
                clock.held_s += 0.08

        recorder = recorder_of("UnchainedLoopLag", observer)
        await recorder.watch(60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await recorder.through_fault()
            nursery.cancel_scope.cancel()
        await recorder.through_healing()
        trio.lowlevel.remove_instrument(monitor)
        check_rule(recorder, tmp_path)


def drop(*_: object) -> Any:
    raise structlog.DropEvent


async def test_memory_that_grows(tmp_path: Path) -> None:
    async with simulate(206) as net:
        node = net.node()
        await node.start()
        observer = observer_of(node)
        leaked = 0

        def read() -> NodeStatistics:
            process = msgspec.structs.replace(process_statistics(None), resident=leaked + 120 << 20)
            return msgspec.structs.replace(observer.statistics(), process=process)

        recorder = AlertRecorder(BY_NAME["UnchainedMemoryHigh"], read)
        await recorder.watch(60)
        recorder.break_now()
        while leaked < 300:
            leaked += 20
            await recorder.watch(STEP_S)
        await recorder.watch(BY_NAME["UnchainedMemoryHigh"].within_s)
        leaked = 0
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_workers_that_hang(tmp_path: Path) -> None:
    async with simulate(207) as net:
        (node,) = await net.grow(1)
        await net.until(lambda: node.epochs.statistics().mining, "mining", 120)
        net.pause_mining()
        observer = observer_of(node)
        observer.epochs, observer.miner = node.epochs, (pool := SimulatedPool())
        recorder = recorder_of("UnchainedMinerStalled", observer)
        await recorder.watch(360)
        pool.hang(True)
        await recorder.through_fault()
        pool.hang(False)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_workers_that_crash(tmp_path: Path) -> None:
    async with simulate(208) as net:
        node = net.node()
        await node.start()
        observer = observer_of(node)
        observer.miner = pool = SimulatedPool()
        recorder = recorder_of("UnchainedWorkersCrash", observer)
        await recorder.watch(60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.crash_every, 60)
            await recorder.through_fault()
            nursery.cancel_scope.cancel()
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_own_coins_that_are_rejected(tmp_path: Path) -> None:
    """A broken processor: the proof of a coin is not that of its header."""
    async with simulate(209) as net:
        (node,) = await net.grow(1)
        await net.until(lambda: node.height >= 2, "under way", 120)
        observer = observer_of(node)
        observer.epochs = node.epochs
        recorder = recorder_of("UnchainedCoinsRejected", observer)
        await recorder.watch(60)
        send, real = node.miner._send, node.miner._send.send_nowait

        class Broken:
            def send_nowait(self, found: Solution) -> None:
                real(msgspec.structs.replace(found, mix=bytes(32)))

        node.miner._send = Broken()
        await recorder.through_fault()
        node.miner._send = send
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_calls_that_fail_inside_the_node(tmp_path: Path) -> None:
    async with simulate(210, expected=("rpc.failed",)) as net:
        node = net.node()
        await node.start()
        server = Server(
            Registry(SampleRoom()),
            settings=RpcSettings(tmp_path),
            runner=InlineRunner(),
            log=structlog.get_logger(),
            readiness=Ready(),
        )
        observer = observer_of(node)
        observer.rpc = server
        sound = call("test.echo", {"value": 1})
        broken = call("test.unlock", {"passphrase": "x"})
        recorder = recorder_of("UnchainedRpcErrors", observer)
        await server._dispatcher.answer(sound, Caller(Access.FULL))
        await recorder.watch(60)
        recorder.break_now()
        for _ in range(BY_NAME["UnchainedRpcErrors"].within_s // 60):
            await server._dispatcher.answer(broken, Caller(Access.FULL))
            await recorder.watch(60)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


def call(method: str, params: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


class Ready:
    def check(self) -> Readiness:
        return Readiness(True, {})


def observer_of_wallets(node: WalletNode) -> NodeObserver:
    return NodeObserver(chain=node.chain, clock=node.clock, wallets=node.wallets)


async def test_a_full_mempool(tmp_path: Path) -> None:
    """Payments come that no anchor includes; here the mempool has room for few of them."""
    async with wallet_node(tmp_path).running() as node:
        await node.wallets.create("a", "pass")
        await node.wallets.unlock("a", "pass", 86_400)
        await node.mine(6, "a")
        recorder = recorder_of("UnchainedMempoolFull", observer_of_wallets(node))
        await recorder.watch(60)
        payee = node.wallets.wallet("a").paycode()
        await node.wallets.send("a", [Payee(payee, UNC // 10, b"")])
        await node.settle()
        mempool = node.chain._writer._core.mempool
        mempool._capacity = int(node.chain.status.value.mempool.bytes * 1.05)
        await node.mine(0)
        await node.chain._call(lambda core: None)
        await recorder.through_fault()
        await node.mine(1)
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


class StalledRunner:
    """Does its work in place, and none of it while it stalls."""

    def __init__(self) -> None:
        self.may_go = trio.Event()
        self.may_go.set()

    async def run(self, work: Any, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        await self.may_go.wait()
        return work(*arguments)


async def test_a_wallet_that_is_behind(tmp_path: Path) -> None:
    from unchained.node.consensus.params import REG
    from unchained.storage.memory import MemoryStore

    runner = StalledRunner()
    async with WalletNode(REG, tmp_path, MemoryStore(), runner).running() as node:
        await node.wallets.create("a", "pass")
        await node.mine(2, "a")
        recorder = recorder_of("UnchainedWalletBehind", observer_of_wallets(node))
        await recorder.watch(60)
        runner.may_go = trio.Event()
        await node.mine(15)
        await recorder.through_fault()
        runner.may_go.set()
        await recorder.through_healing()
        check_rule(recorder, tmp_path)


async def test_a_log_that_nobody_takes(tmp_path: Path) -> None:
    """A terminal that stands still: its queue fills, what comes then is dropped."""
    async with simulate(213) as net:
        node = net.node()
        await node.start()
        flows = threading.Event()
        flows.set()

        class Terminal:
            def write(self, event: Event) -> None:
                flows.wait()

            def close(self) -> None:
                pass

        sink = Sink("terminal", Terminal(), capacity=8)
        logs = Logs([sink], TrioClock(net.start_ms))
        observer = observer_of(node)
        observer.log = logs
        recorder = recorder_of("UnchainedLogDropped", observer)
        await recorder.watch(60)
        flows.clear()
        recorder.break_now()
        for _ in range(BY_NAME["UnchainedLogDropped"].within_s // 30):
            for _ in range(10):
                logs.log.info("test.event")
            await recorder.watch(30)
        flows.set()
        await recorder.through_healing()
        logs.close()
        check_rule(recorder, tmp_path)


async def test_a_service_that_fails_again_and_again(tmp_path: Path) -> None:
    async with simulate(214, expected=("service.failed",)) as net:
        node = net.node()
        await node.start()
        breaks = trio.Event()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await breaks.wait()
            await trio.sleep(20)
            raise ValueError("broken")

        supervisor = Supervisor(
            [Service("sample", run, restartable=True)],
            log=structlog.get_logger(),
            on_overdue=lambda names: None,
        )
        observer = observer_of(node)
        observer.services = supervisor
        recorder = recorder_of("UnchainedServiceRestarts", observer)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await recorder.watch(60)
            breaks.set()
            await recorder.through_fault()
            breaks = trio.Event()
            await recorder.through_healing()
            nursery.cancel_scope.cancel()
        check_rule(recorder, tmp_path)


async def test_every_alert_has_a_fault() -> None:
    """Each alert is named by one of the tests of this folder."""
    text = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py")
    )
    assert [name for name in BY_NAME if f'"{name}"' not in text] == []
    with suppress(KeyError):
        assert len(BY_NAME) >= 20
