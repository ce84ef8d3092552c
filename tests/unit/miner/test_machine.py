"""What the machine reports, read from files of our own where it may report something else here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from unchained.miner import machine
from unchained.miner.machine import (
    SPARE_KIB,
    WORKER_KIB,
    Usage,
    auto_workers,
    available_kib,
    choose_workers,
    cpu_name,
    huge_kib,
    on_battery,
    others_load,
    physical_cores,
    quota_cores,
    read_sensors,
    read_usage,
    since_input_s,
    usable_cpus,
)


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        put(tmp_path, f"cpu{cpu}/topology/thread_siblings_list", f"{siblings}\n")
    assert physical_cores((0, 1, 2, 3), tmp_path) == 2
    assert physical_cores((0, 2), tmp_path) == 1
    assert physical_cores((0,), tmp_path / "none") == 1


def test_a_container_s_limits_count(tmp_path: Path) -> None:
    assert quota_cores(tmp_path) is None
    put(tmp_path, "cpu.max", "max 100000\n")
    assert quota_cores(tmp_path) is None
    put(tmp_path, "cpu.max", "150000 100000\n")
    assert quota_cores(tmp_path) == 1.5
    assert available_kib(tmp_path) > 0
    put(tmp_path, "memory.max", "max\n")
    assert available_kib(tmp_path) > 0
    put(tmp_path, "memory.max", f"{64 << 20}\n")
    put(tmp_path, "memory.current", f"{40 << 20}\n")
    assert available_kib(tmp_path) == 24 * 1024
    put(tmp_path, "memory.current", f"{80 << 20}\n")
    assert available_kib(tmp_path) == 0


@pytest.mark.parametrize(
    ("cores", "quota", "free_kib", "workers"),
    [
        (8, None, 1 << 24, 8),
        (8, 2.0, 1 << 24, 2),
        (8, 0.3, 1 << 24, 1),
        (8, None, SPARE_KIB + 3 * (16384 + WORKER_KIB), 3),
        (8, None, 0, 1),
    ],
)
def test_workers_suit_cores_quota_and_memory(
    cores: int, quota: float | None, free_kib: int, workers: int
) -> None:
    assert choose_workers(16384, cores=cores, quota=quota, free_kib=free_kib) == workers


def test_this_machine_is_read() -> None:
    assert 1 <= auto_workers(8) <= len(usable_cpus())
    assert auto_workers(8, usable_cpus()[:1]) == 1
    assert cpu_name()
    assert on_battery() in (None, True, False)
    assert huge_kib(os.getpid()) is None or huge_kib(os.getpid()) >= 0  # type: ignore[operator]
    assert huge_kib(2**22 + 1) is None


def test_heat_and_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reading:
        def __init__(self, current: float) -> None:
            self.current = current

    found = {"nvme": [Reading(90.0)], "k10temp": [Reading(61.0), Reading(64.5)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: found, raising=False)
    for cpu, khz in enumerate((1_000_000, 3_000_000)):
        put(tmp_path, f"cpu{cpu}/cpufreq/scaling_cur_freq", f"{khz}")
        put(tmp_path, f"cpu{cpu}/cpufreq/cpuinfo_max_freq", "4000000")
        put(tmp_path, f"cpu{cpu}/thermal_throttle/core_throttle_count", f"{cpu + 1}")
    sensors = read_sensors(tmp_path)
    assert (sensors.temperature, sensors.clock, sensors.throttled) == (64.5, 0.5, 3)

    def refuse() -> None:
        raise OSError("no sensors")

    monkeypatch.setattr(psutil, "sensors_temperatures", refuse, raising=False)
    sensors = read_sensors(tmp_path / "none")
    assert (sensors.temperature, sensors.clock, sensors.throttled) == (None, None, None)
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert read_sensors(tmp_path / "none").temperature is None


def test_a_battery_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Battery:
        power_plugged: bool | None = False

    monkeypatch.setattr(psutil, "sensors_battery", Battery, raising=False)
    assert on_battery() is True
    Battery.power_plugged = None
    assert on_battery() is False

    def refuse() -> None:
        raise OSError("no sysfs")

    monkeypatch.setattr(psutil, "sensors_battery", refuse, raising=False)
    assert on_battery() is None
    monkeypatch.delattr(psutil, "sensors_battery")
    assert on_battery() is None


def test_the_load_of_others() -> None:
    before = Usage(100.0, 50.0, 20.0)
    assert others_load(before, Usage(110.0, 60.0, 24.0)) == pytest.approx(0.6)
    assert others_load(before, before) == 0
    # Children that ended may be missing in the sum.
    assert others_load(before, Usage(110.0, 55.0, 10.0)) == pytest.approx(0.5)
    assert others_load(before, Usage(110.0, 51.0, 40.0)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports children that ended")
def test_what_a_child_used_counts_after_it_has_ended() -> None:
    before = read_usage().own
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert read_usage().own >= before + 0.2


def test_the_last_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class User:
        def __init__(self, terminal: str | None) -> None:
            self.terminal = terminal

    monkeypatch.setattr(psutil, "users", lambda: [User(None), User("no/such/terminal")])
    assert since_input_s() is None
    # A file that can be reached from /dev and was read an hour ago.
    file = tmp_path / "tty"
    file.touch()
    os.utime(file, (0, 0))
    monkeypatch.setattr(psutil, "users", lambda: [User(f"..{file}")])
    monkeypatch.setattr(machine.time, "time", lambda: 3600.0)
    assert since_input_s() == 3600
