"""A node on a disk of its own that gets full or read-only while it works.

The disk is a file with ext4 on a loop device, or a tmpfs where that is not allowed, mounted in a
mount namespace that this makes and that ends with it; the machine's own mounts stay as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.framework.torture.kills import Survival
from tests.framework.torture.report import PartReport
from tests.framework.torture.world import PATIENCE_S, World, one_line, world

DISK_MIB = 48
WORDS = ("full", "No space left", "ead-only", "not writable", "disk")
"""One of these says what is wrong with the disk."""
CASES = ("full while it works", "full before it starts", "read-only while it works",
         "read-only before it starts", "full and soon free again")  # fmt: skip
LONGEST_S = 1.5
STAYS_S = 8.0
"""Seconds in which a node under load notices that it cannot write."""


class Disk:
    """A small disk at a directory, for processes in its namespace and, at `seen`, for others."""

    def __init__(self, place: Path, mib: int = DISK_MIB) -> None:
        place.mkdir(parents=True)
        self._image = place.with_name(place.name + ".img")
        self._place = place
        with self._image.open("wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True, capture_output=True)
        script = (
            f'mount -o loop "{self._image}" "{place}" 2>/dev/null && echo ext4 || '
            f'{{ mount -t tmpfs -o size={mib}m tmpfs "{place}" && echo tmpfs; }}; exec sleep inf'
        )
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        self.kind = self._holder.stdout.readline().strip()
        """ext4 or tmpfs, empty if mounting is not allowed."""
        self.seen = Path(f"/proc/{self._holder.pid}/root{place}")

    def inside(self, command: list[str]) -> list[str]:
        """Return a command that runs where the disk is mounted."""
        return ["nsenter", "-t", str(self._holder.pid), "-m", "--", *command]

    def make_read_only(self) -> None:
        """Let nothing be written from here on, as the system does after an error of the device:
        what was not synced by then is lost. A tmpfs becomes read-only once no file of it is open
        for writing."""
        self._mount("remount,abort" if self.kind == "ext4" else "remount,ro")

    def make_writable(self) -> None:
        """Bring it back, from what is on the device, once no process uses it."""
        if self.kind != "ext4":
            self._mount("remount,rw")
            return
        self._run("umount", str(self._place))
        self._run("e2fsck", "-p", str(self._image), codes=(0, 1))
        self._run("mount", "-o", "loop", str(self._image), str(self._place))

    def _mount(self, options: str) -> None:
        self._run("mount", "-o", options, str(self._place))

    def _run(self, *command: str, codes: tuple[int, ...] = (0,)) -> None:
        done = subprocess.run(self.inside([*command]), capture_output=True, text=True, check=False)
        if done.returncode not in codes:
            raise OSError(errno.EBUSY, f"{' '.join(command)}: {done.stderr.strip()}")

    def fill(self) -> None:
        """Leave no room on it."""
        with (self.seen / "filler").open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Give the room back."""
        (self.seen / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it: the mount ends with the last process in its namespace."""
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


class DiskPart(Survival):
    """What happens to one node's disk, one time after the other."""

    def __init__(self, it: World, report: PartReport, disk: Disk) -> None:
        super().__init__(it, report)
        self._disk = disk
        it.victim.seen = disk.seen
        it.victim.wrapped = disk.inside

    def run(self, times: int, cases: tuple[str, ...] = CASES) -> None:
        """Take each case in turn."""

        def happen(number: int) -> str:
            case = cases[(number - 1) % len(cases)]
            self.report.counts[case] += 1
            name = f"{number}: {case}"
            if "before" in case:
                self._before(name, case)
            else:
                self._while(name, case)
            self._disk.free()
            return name

        self.rounds(times, happen)

    def _take(self, case: str) -> None:
        if case.startswith("full"):
            self._disk.fill()
            return
        try:
            self._disk.make_read_only()
        except OSError:
            self.report.counts["a file was open: could not be made read-only"] += 1

    def _give_back(self, case: str) -> None:
        if case.startswith("full"):
            self._disk.free()
        else:
            self._disk.make_writable()

    def _before(self, name: str, case: str) -> None:
        """Let a node start on a disk that cannot be written."""
        victim = self.world.victim
        wrong = self.world.stop(victim)
        if wrong is not None:
            self.fail(name, wrong)
        self._take(case)
        victim.start(wait=False)
        try:
            victim.process.wait_event("node.started", timeout_s=STAYS_S * 4)
            self.report.counts["started all the same"] += 1
            code = victim.process.stop(timeout_s=PATIENCE_S)
        except AssertionError:
            code = victim.process.stop(timeout_s=PATIENCE_S)
        self._judge(name, code)
        self._give_back(case)

    def _while(self, name: str, case: str) -> None:
        """Take the disk away under load."""
        victim = self.world.victim
        load = self.load()
        load.begin()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The instant is what is varied.
            victim.process.wait(self.rng.uniform(0, LONGEST_S))
        self._take(case)
        if "soon" in case:
            self._give_back(case)
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.process.wait(STAYS_S)
        ended_by_itself = not victim.process.running
        self.report.counts["ended by itself" if ended_by_itself else "went on"] += 1
        load.end()
        code = victim.process.stop(timeout_s=PATIENCE_S)
        self._judge(name, code)
        if "soon" not in case:
            self._give_back(case)

    def _judge(self, name: str, code: int) -> None:
        """Look at how a process ended: in order, or with one line about the disk."""
        lines = self.world.victim.process.errors
        text = "\n".join(lines)
        if code == 0 and not lines:
            return
        self.report.counts["one line"] += 1
        wrong = one_line(text)
        if wrong is None and not any(word in text for word in WORDS):
            wrong = f"does not speak of the disk: {text}"
        if wrong is not None:
            self.fail(name, f"exit code {code}: {wrong}")


@contextlib.contextmanager
def small_disk(place: Path, mib: int = DISK_MIB) -> Iterator[Disk]:
    """Give a disk; raises OSError where mounting is not allowed."""
    disk = Disk(place, mib)
    try:
        if not disk.kind:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(place))
        yield disk
    finally:
        disk.close()


def run_disks(report: PartReport, times: int) -> None:
    """Fill a node's disk, and make it read-only, so many times."""
    with world(report.seed) as it, small_disk(it.net.home.data_dir("victim")) as disk:
        report.facts["disk"] = f"{disk.kind}, {DISK_MIB} MiB"
        try:
            DiskPart(it, report, disk).run(times)
        finally:
            # Nothing may keep the namespace when the files are removed.
            it.victim.process.end()
