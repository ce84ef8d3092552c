"""Measuring and advising, as people and programs call them, with real worker processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import trio

from tests.framework.network import until
from tests.framework.processes import LUCK_S, PATIENCE_S, NodeHome, node_program
from unchained.miner import benchmark
from unchained.miner.benchmark import (
    Measurement,
    MeasurementFailedError,
    advised_workers,
    affordable,
    quick_rate,
    run_benchmark,
)
from unchained.miner.machine import usable_cpus
from unchained.miner.pool import MiningPool
from unchained.node.crypto.pow import POW_BACKEND_VARIABLE, available_backends
from unchained.node.rpc.client.client import Client, Endpoint
from unchained.node.rpc.core.errors import UnauthorizedError

pytestmark = pytest.mark.real_time

KEYS = ["workers", "mem_kib", "rate", "reference_rate", "ratio", "huge_pages"]


def measured(workers: int, rate: float) -> Measurement:
    return Measurement(workers, 1024, rate, 1.0, rate, True)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture
def no_worker_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def test_ctrl_c_ends_it_with_one_line_and_leaves_no_worker(home: NodeHome) -> None:
    measuring = home.start(
        *("bench", "pow", "--mem-kib", "1024", "--seconds", "600", "--workers", "1"),
        program=[node_program()],
    )
    mining = until(lambda: psutil.Process(measuring.pid).children(), "mining")
    assert measuring.stop(signal.SIGINT) == 1
    assert measuring.errors == ["unchained-node: interrupted"]
    _, alive = psutil.wait_procs(mining, PATIENCE_S)
    assert not alive


def test_the_json_has_the_keys_that_programs_read(home: NodeHome) -> None:
    done = home.run("bench", "pow", "--mem-kib", "8", "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert list(report) == ["cpu", "backend", "results"]
    assert report["backend"] == available_backends()[0]
    assert [found["workers"] for found in report["results"]] == [
        count + 1 for count in range(len(usable_cpus()))
    ]
    for found in report["results"]:
        assert list(found) == KEYS
        assert found["mem_kib"] == 8
        assert found["rate"] > 0
        assert found["reference_rate"] > 0
        assert found["ratio"] > 0
        assert isinstance(found["huge_pages"], bool)


def test_people_get_a_table_and_an_advice(home: NodeHome) -> None:
    done = home.run("bench", "pow", "--mem-kib", "64", "--seconds", "0.3", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "H/s" in done.stdout
    assert "GB/s" in done.stdout
    assert "advised    2 workers" in done.stdout


def test_without_the_kernel_the_reference_is_measured_against_itself(home: NodeHome) -> None:
    done = home.run(
        *("bench", "pow", "--mem-kib", "8", "--seconds", "0.2", "--workers", "1", "--json"),
        env={POW_BACKEND_VARIABLE: "cryptography"},
    )
    report = json.loads(done.stdout)
    assert report["backend"] == "cryptography"
    assert report["results"][0]["ratio"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--mem-kib", "7"], 2, "Invalid value for '--mem-kib'"),
        (["--workers", "0"], 2, "Invalid value for '--workers'"),
        (["--mem-kib", str(2**24), "--workers", "64"], 1, "not enough memory for 64 workers"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    home: NodeHome, arguments: list[str], code: int, line: str
) -> None:
    done = home.run("bench", "pow", *arguments)
    assert done.returncode == code
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["bench", "pow"], ["start"], ["miner", "--connect", "x"]])
def test_a_backend_that_does_not_exist_is_one_line(home: NodeHome, command: list[str]) -> None:
    done = home.run(*command, env={POW_BACKEND_VARIABLE: "native-frob"})
    assert done.returncode == 2
    named = f"{POW_BACKEND_VARIABLE} is 'native-frob', expected one of"
    assert done.stderr == f"unchained-node: {named} {', '.join(available_backends())}\n"


def test_advice_without_a_node(home: NodeHome) -> None:
    flags = ("mine", "advise", "--network", "local", "--seconds", "0.2", "--workers", "1")
    done = home.run(*flags, "--json")
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)
    assert advice["source"].endswith("the network's first target")
    assert int(advice["target"], 16) == 2**243
    assert advice["hashes_per_coin"] == pytest.approx(8192)
    assert advice["hashrate"] > 0
    assert advice["per_day"]["least"] <= advice["per_day"]["mean"]
    assert 0 < advice["share"] <= 1
    assert advice["luck"] is None
    done = home.run(*flags)
    assert "coins per day" in done.stdout
    assert "% of the network" in done.stdout


def test_advice_with_a_node_that_mines(home: NodeHome) -> None:
    node = home.start("--network", "local", "--workers", "1", "--rpc-listen", "127.0.0.1:0")
    node.wait_events(2, "coin.found", timeout_s=LUCK_S)
    done = home.run("mine", "advise", "--json", "--data-dir", str(home.data_dir()))
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)
    assert advice["source"] == "the running node's workers and its chain's target"
    assert advice["workers"] == 1
    assert advice["luck"]["found"] >= 2
    assert node.stop() == 0


def test_a_miner_works_for_a_node_elsewhere(home: NodeHome) -> None:
    token_file = home.data_dir().parent / "mining.token"
    node = home.start(
        *("--network", "local", "--rpc-listen", "127.0.0.1:0", "--workers", "1"),
        *("--set", f"rpc.mining_token_file={token_file}"),
    )
    node.wait_event("node.started")
    url = (home.data_dir() / "rpc.url").read_text().strip()
    # The node's own workers rest.
    assert home.run("mine", "stop", "--data-dir", str(home.data_dir())).returncode == 0
    # What the miner is given is good for mining alone.
    given = Client(Endpoint.at(url, token=token_file.read_text()))
    with pytest.raises(UnauthorizedError, match="the miners' token is not enough"):
        given.call("node.stop")
    miner = home.start(
        *("miner", "--json", "--workers", "2", "--token-file", str(token_file)),
        *("--connect", "http://127.0.0.1:1", "--connect", url),
        program=[node.command[0]],
    )
    miner.wait_event("miner.node_lost")
    found = miner.wait_events(2, "coin.found", timeout_s=LUCK_S)
    assert {event["node"] for event in found} == {url.removeprefix("http://").rstrip("/")}
    node.wait_event("anchor.connected", timeout_s=LUCK_S)
    assert miner.stop(signal.SIGINT) == 0
    assert node.stop() == 0


def test_a_miner_goes_on_with_the_next_node_when_its_own_is_killed(home: NodeHome) -> None:
    token_file = home.path / "mining.token"
    names = ["first", "second"]
    nodes, urls = [], []
    for name in names:
        node = home.start(
            *("--network", "local", "--rpc-listen", "127.0.0.1:0", "--workers", "1"),
            *("--set", f"rpc.mining_token_file={token_file}"),
            name=name,
        )
        node.wait_event("node.started")
        nodes.append(node)
        urls.append((home.data_dir(name) / "rpc.url").read_text().strip())
        assert home.run("mine", "stop", "--data-dir", str(home.data_dir(name))).returncode == 0
    first, second = (url.removeprefix("http://").rstrip("/") for url in urls)
    miner = home.start(
        *("miner", "--json", "--workers", "1", "--token-file", str(token_file)),
        *("--connect", urls[0], "--connect", urls[1]),
        program=[nodes[0].command[0]],
    )
    assert miner.wait_event("coin.found", timeout_s=LUCK_S)["node"] == first
    nodes[0].kill()
    # Its call for other work breaks off: it needs no coin to notice.
    miner.wait_event("miner.node_lost", lambda event: event["node"] == first)
    miner.wait_event("miner.node_found", lambda event: event["node"] == second)
    wanted = miner.wait_event("coin.found", lambda event: event["node"] == second, timeout_s=LUCK_S)
    # The second node knows it, as a candidate or as an anchor.
    asked = ("coin", "get", str(wanted["id"]), "--data-dir", str(home.data_dir("second")))
    assert home.run(*asked).returncode == 0
    # Killed like its node was, it leaves no worker behind.
    workers = psutil.Process(miner.pid).children()
    assert len(workers) == 1
    miner.kill()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not alive
    assert nodes[1].stop() == 0


def test_settings_of_a_running_miner_reach_its_workers(home: NodeHome) -> None:
    node = home.start("--network", "local", "--workers", "1", "--rpc-listen", "127.0.0.1:0")
    node.wait_event("node.started")
    cpu = usable_cpus()[-1]

    def mine(*arguments: str) -> Any:
        done = home.run("mine", *arguments, "--data-dir", str(home.data_dir()), "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = mine(
        *("set", "--workers", "2", "--nice", "17", "--affinity", str(cpu), "--cpu-cap", "60"),
        *("--no-huge-pages", "--no-pause-on-battery", "--pause-above-load", "100"),
        *("--pause-after-input-s", "0"),
    )
    assert found["settings"] == {
        "workers": 2,
        "automatic_workers": False,
        "nice": 17,
        "affinity": [cpu],
        "cpu_cap": 60,
        "huge_pages": False,
        "pause_on_battery": False,
        "pause_above_load": 100,
        "pause_after_input_s": 0,
    }
    while [w["status"] for w in mine("status")["workers"]] != ["mining", "mining"]:
        pass
    workers = psutil.Process(node.pid).children()
    assert [worker.nice() for worker in workers] == [17, 17]
    assert [worker.cpu_affinity() for worker in workers] == [[cpu], [cpu]]
    # What is not named stays; where one thing is refused, nothing changes.
    refused = home.run(
        *("mine", "set", "--nice", "19", "--affinity", "4095"),
        *("--data-dir", str(home.data_dir())),
    )
    assert refused.returncode == 1
    assert "the affinity must name CPUs among" in refused.stderr
    found = mine("set", "--affinity", "all", "--workers", "1")
    assert found["settings"]["nice"] == 17
    assert found["settings"]["affinity"] == []
    assert found["advice"]["workers"] == 1
    assert mine("stop")["pauses"] == ["by hand"]
    assert mine("start")["pauses"] == []
    assert node.stop() == 0


def test_a_miner_needs_a_url_that_is_one_and_a_file_that_exists(home: NodeHome) -> None:
    done = home.run("miner", "--connect", "frob")
    assert done.returncode == 2
    assert "a node's URL looks like" in done.stderr
    done = home.run("miner", "--connect", "http://127.0.0.1:1", "--token-file", "/none")
    assert done.returncode == 2
    assert "/none: no such file" in done.stderr


def test_few_workers_are_advised_where_more_gain_nothing() -> None:
    assert advised_workers([measured(1, 100), measured(2, 101), measured(3, 90)]) == 1
    assert advised_workers([measured(1, 100), measured(2, 180), measured(3, 183)]) == 2
    assert affordable(1, 1024, 10**6)
    assert not affordable(1, 10**6, 10**6)
    assert measured(1, 1000).bandwidth == 1000 * 1024 * 2 * 1024


@pytest.mark.usefixtures("no_worker_left")
async def test_a_quick_rate() -> None:
    with trio.fail_after(60):
        assert await quick_rate(2, 8, 0.05) > 0


@pytest.mark.usefixtures("no_worker_left")
async def test_a_worker_that_dies_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    original = MiningPool.resume

    def kill_first(pool: MiningPool) -> None:
        for worker in pool.statistics().workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        original(pool)

    monkeypatch.setattr(MiningPool, "resume", kill_first)

    with trio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await run_benchmark([1], 8, 30)
    assert caught.group_contains(MeasurementFailedError)


@pytest.mark.usefixtures("no_worker_left")
async def test_a_worker_that_does_nothing_ends_the_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "START_S", 0.0)

    with trio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        await quick_rate(1, 8, 0.1)
    assert caught.group_contains(MeasurementFailedError)
