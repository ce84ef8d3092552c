"""A Python process of its own, for what depends on what has been imported."""

from __future__ import annotations

import subprocess
import sys


def python(*lines: str) -> str:
    """Return what a program prints; a warning fails it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
