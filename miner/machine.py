"""What a miner can learn of this machine: cores, memory, huge pages, heat, battery, who uses it.

Everything here reads the system and may block for some milliseconds: call it from a worker thread.
What a system does not report is None, and never an error.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil

SPARE_KIB: Final = 256 * 1024
"""Memory left to everything else when the number of workers is chosen, KiB."""

WORKER_KIB: Final = 24 * 1024
"""Memory of a worker beside what it hashes in, KiB."""

THROTTLED_SHARE: Final = 0.7
"""A core that runs below this share of its highest clock while it is busy is held back."""

_CPU: Final = Path("/sys/devices/system/cpu")
_CGROUP: Final = Path("/sys/fs/cgroup")
_CORE_SENSORS: Final = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")


class Sensors(msgspec.Struct, frozen=True):
    """Heat and clock. `temperature` of the hottest core in degrees Celsius; `clock` the mean of
    the cores as a share of their highest; `throttled` counts the times that heat held a core back.
    """

    temperature: float | None
    clock: float | None
    throttled: int | None


class Usage(msgspec.Struct, frozen=True):
    """Processor time since some moment, in seconds: all of the machine's, that which was used, and
    that which this process and its children used."""

    total: float
    busy: float
    own: float


def cpu_name() -> str:
    """Return what the maker calls the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def usable_cpus() -> tuple[int, ...]:
    """Return the numbers of the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def physical_cores(cpus: tuple[int, ...], root: Path = _CPU) -> int:
    """Return the number of cores behind CPUs: two threads of one core count once."""
    cores = set()
    for cpu in cpus:
        try:
            cores.add((root / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            return min(len(cpus), psutil.cpu_count(logical=False) or len(cpus))
    return len(cores)


def quota_cores(root: Path = _CGROUP) -> float | None:
    """Return how many cores' time a container may use; None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def available_kib(root: Path = _CGROUP) -> int:
    """Return the memory that can be had without swapping, also within a container's limit, KiB."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = int((root / "memory.max").read_text())
        free = min(free, limit - int((root / "memory.current").read_text()))
    return max(0, free) // 1024


def choose_workers(mem_kib: int, *, cores: int, quota: float | None, free_kib: int) -> int:
    """Return how many workers suit a machine: one for each core, as far as memory goes."""
    most = cores if quota is None else min(cores, round(quota))
    return max(1, min(most, (free_kib - SPARE_KIB) // (mem_kib + WORKER_KIB)))


def auto_workers(mem_kib: int, cpus: tuple[int, ...] | None = None) -> int:
    """Return how many workers suit this machine, on the given CPUs or all that it may use."""
    return choose_workers(
        mem_kib,
        cores=physical_cores(cpus or usable_cpus()),
        quota=quota_cores(),
        free_kib=available_kib(),
    )


def huge_kib(pid: int) -> int | None:
    """Return what of a process's memory lies in huge pages, KiB."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    found = re.search(r"^AnonHugePages:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else None


def read_sensors(root: Path = _CPU) -> Sensors:
    """Read heat, clock and throttling."""
    return Sensors(_temperature(), _clock(root), _throttled(root))


def _temperature() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):
        return None
    try:
        found = psutil.sensors_temperatures()
    except (OSError, ValueError):
        return None
    for name in (*_CORE_SENSORS, *found):
        readings = [reading.current for reading in found.get(name, ())]
        if readings:
            return float(max(readings))
    return None


def _clock(root: Path) -> float | None:
    shares = []
    for folder in root.glob("cpu[0-9]*/cpufreq"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            now = int((folder / "scaling_cur_freq").read_text())
            shares.append(now / int((folder / "cpuinfo_max_freq").read_text()))
    return sum(shares) / len(shares) if shares else None


def _throttled(root: Path) -> int | None:
    counts = []
    for file in root.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"):
        with contextlib.suppress(OSError, ValueError):
            counts.append(int(file.read_text()))
    return sum(counts) if counts else None


def on_battery() -> bool | None:
    """Return whether the machine runs on its battery; None where it has none."""
    if not hasattr(psutil, "sensors_battery"):
        return None
    try:
        battery = psutil.sensors_battery()
    except (OSError, ValueError):
        return None
    return None if battery is None else battery.power_plugged is False


def read_usage() -> Usage:
    """Read the processor time used so far."""
    times = psutil.cpu_times()
    # Guests are in user time already; waiting for a disk is idling.
    idle = times.idle + getattr(times, "iowait", 0.0)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    here = psutil.Process()
    used = here.cpu_times()
    # What children that have ended used is known of them all together.
    own = float(sum(used[:4]))
    for process in here.children():
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            own += used.user + used.system
    return Usage(total, total - idle, own)


def others_load(before: Usage, after: Usage) -> float:
    """Return the share of the machine that other programs used between two readings, 0 to 1."""
    passed = after.total - before.total
    if passed <= 0:
        return 0.0
    # Where the system does not report children that ended, the sum may fall.
    own = max(0.0, after.own - before.own)
    return min(1.0, max(0.0, (after.busy - before.busy - own) / passed))


def since_input_s() -> float | None:
    """Return the seconds since someone typed at a terminal of this machine, but for the node's own;
    None where nobody is logged in. A desktop does not say."""
    own = set()
    for stream in (sys.stdin, sys.stdout):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            own.add(os.ttyname(stream.fileno()))
    ages = []
    for user in psutil.users():
        device = f"/dev/{user.terminal}" if user.terminal else ""
        if device and device not in own:
            with contextlib.suppress(OSError):
                ages.append(max(0.0, time.time() - Path(device).stat().st_atime))
    return min(ages, default=None)
