"""The kernel's variants for processors that this machine is not: cross-compiled and emulated.

`scripts/emulate` installs what this needs and runs it; elsewhere it is skipped, and says why.
"""

import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from unchained.node.crypto.pow import reference_backend

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "node" / "crypto" / "native"
COMPILER: Final = "aarch64-linux-gnu-gcc"
EMULATOR: Final = "qemu-aarch64"
MISSING: Final = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
CASES: Final = 150

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"{' and '.join(MISSING)} not found: run scripts/emulate"
)

Case = tuple[bytes, bytes, int, int, int]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel without Python, for aarch64."""
    made = tmp_path_factory.mktemp("aarch64") / "argon2_lines"
    sources = [path for path in sorted(SOURCES.glob("*.c")) if path.name != "module.c"]
    flags = ["-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-static", f"-I{SOURCES}"]
    sources.append(ROOT / "tests" / "native" / "argon2_lines.c")
    subprocess.run([COMPILER, *flags, *sources, "-o", made], check=True, timeout=300)
    return made


def run(program: Path, arguments: Sequence[str], text: str) -> list[str]:
    done = subprocess.run(
        [EMULATOR, str(program), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return done.stdout.splitlines()


def cases() -> list[Case]:
    """Passwords, salts, iterations, KiB of memory and lengths: the edges, then random ones."""
    edges: list[Case] = [
        (b"", bytes(8), 1, 8, 4),
        (bytes(1024), bytes(1024), 4, 11, 1024),
        (bytes(88), bytes(128), 1, 512, 64),
        (bytes(89), bytes(127), 2, 513, 65),
        (bytes(87), bytes(129), 3, 516, 96),
        (b"as on the main network", bytes(32), 1, 16_384, 32),
    ]
    chance = random.Random(20_000)
    return edges + [
        (
            chance.randbytes(chance.randrange(1025)),
            chance.randbytes(chance.randrange(8, 1025)),
            chance.randrange(1, 5),
            chance.choice((chance.randrange(8, 64), chance.randrange(8, 2000))),
            chance.randrange(4, 1025),
        )
        for _ in range(CASES)
    ]


def test_neon_is_what_aarch64_would_use(program: Path) -> None:
    assert run(program, ["variants"], "") == ["neon", "portable"]


@pytest.mark.parametrize("variant", ["neon", "portable"])
def test_it_gives_the_reference_s_tags(program: Path, variant: str) -> None:
    lines = [
        f"{variant} {iterations} {mem_kib} {length} {password.hex() or '-'} {salt.hex()}\n"
        for password, salt, iterations, mem_kib, length in cases()
    ]
    expected = [
        reference_backend()
        .argon2id(password, salt, iterations=iterations, mem_kib=mem_kib, length=length)
        .hex()
        for password, salt, iterations, mem_kib, length in cases()
    ]
    assert run(program, [], "".join(lines)) == expected
