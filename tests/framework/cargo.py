"""Programs in Rust, built by cargo from the folder that they stand in, with its lock file.

`scripts/test clients` runs this before the tests: on a slow machine a first build takes longer than
any test may.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "out/cargo"
"""Where all of them are built, so that what they share is built once; it is not under git."""
PROGRAMS = ("examples/rust-client", "tests/clients/rust")


def build(folder: str) -> Path:
    """Build a program; return the directory of its executables. Only a first time takes long."""
    command = ["cargo", "build", "--locked", "--quiet", "--target-dir", str(BUILT)]
    subprocess.run([*command, "--manifest-path", str(ROOT / folder / "Cargo.toml")], check=True)
    return BUILT / "debug"


if __name__ == "__main__":
    for program in PROGRAMS:
        build(program)
