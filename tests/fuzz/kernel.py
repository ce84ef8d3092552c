"""The proof-of-work kernel in C under libFuzzer and the sanitizers: built by clang, fuzzed, and its
corpus replayed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.fuzz import libfuzzer
from tests.fuzz.libfuzzer import Told, lay_out
from tests.fuzz.target import FuzzTarget

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "node" / "crypto" / "native"
HARNESS: Final = ROOT / "tests" / "native" / "fuzz_kernel.c"
COMPILERS: Final = ("clang", *(f"clang-{version}" for version in range(22, 13, -1)))
MISSING: Final = "the kernel takes clang with libFuzzer: apt install clang libclang-rt-VERSION-dev"
LARGEST: Final = 512
"""Bytes of an input."""

_FLAGS: Final = ("-std=gnu11", "-O1", "-g", "-fno-omit-frame-pointer")
_FILLS: Final = (
    "-fsanitize=fuzzer-no-link,address", "-mllvm", "-asan-instrumentation-with-call-threshold=0",
)  # fmt: skip
"""What fills the blocks: thousands of lines without a branch, of which clang makes checks of
undefined behaviour for minutes; gcc's are in scripts/sanitize."""
_REST: Final = ("-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all")
_WHOLE: Final = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")


def _seeds() -> Sequence[bytes]:
    def case(iterations: int, mem_kib: int, length: int, salt: bytes, password: bytes) -> bytes:
        numbers = bytes([iterations - 1]) + (mem_kib - 8).to_bytes(2, "big")
        return numbers + (length - 4).to_bytes(2, "big") + bytes([len(salt) - 8]) + salt + password

    return (
        case(1, 8, 32, bytes(8), b""),
        case(2, 11, 65, bytes(range(32)), b"password"),
        case(3, 64, 1_027, bytes(71), bytes(129)),
    )


KERNEL: Final = FuzzTarget("kernel", bytes, (), _seeds)
"""Its name and where its corpus lies: what decodes is in C."""


def compiler() -> str | None:
    """Return a clang that has libFuzzer, None where there is none."""
    return next((name for name in COMPILERS if shutil.which(name) and _has_fuzzer(name)), None)


def _has_fuzzer(clang: str) -> bool:
    asked = [clang, "-print-resource-dir"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    return any(Path(told).rglob("libclang_rt.fuzzer*.a"))


def build(folder: Path, sources: Path = SOURCES, fills: Path | None = None) -> Path:
    """Build the fuzzer in a folder. `fills`: another, where what fills the blocks is built already.

    Raises `CalledProcessError`, and `FileNotFoundError` without a clang.
    """
    clang = compiler()
    if clang is None:
        raise FileNotFoundError(MISSING)
    objects = []
    jobs = []
    for source in [*sorted(sources.glob("*.c")), HARNESS]:
        if source.name == "module.c":
            continue
        is_fill = source.name.startswith("fill_")
        if is_fill and fills is not None:
            objects.append(fills / f"{source.stem}.o")
            continue
        made = folder / f"{source.stem}.o"
        objects.append(made)
        watched = _FILLS if is_fill else _REST
        command = [clang, *_FLAGS, *watched, f"-I{sources}", "-c", str(source), "-o", str(made)]
        jobs.append((command, subprocess.Popen(command)))
    # Each is waited for, also after one that failed.
    failed = [(job.returncode, command) for command, job in jobs if job.wait()]
    if failed:
        raise subprocess.CalledProcessError(*failed[0])
    program = folder / "fuzz_kernel"
    subprocess.run([clang, *_WHOLE, *map(str, objects), "-o", str(program)], check=True)
    return program


def run(program: Path, folder: Path, *options: str, told: Told | None = None) -> list[bytes]:
    """Run the fuzzer on what lies in `folder/found`, with libFuzzer's options; return what lies
    there afterwards. Raises `NotTotalError`, `FuzzerFailedError`."""
    return libfuzzer.run([str(program)], folder, [*options, f"-max_len={LARGEST}"], told)


def fuzz_kernel(folder: Path, seconds: int, told: Told | None = None) -> list[bytes]:
    """Build the fuzzer and let it look for some seconds; return what it found worth keeping. Raises
    `NotTotalError`, `FuzzerFailedError`."""
    lay_out(KERNEL, folder)
    return run(build(folder), folder, f"-max_total_time={seconds}", told=told)
