"""What git says of the working tree, where it knows of it: a source archive has no history."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

UNKNOWN: Final = "unknown"
"""The commit of files that git knows nothing of."""


def git(root: Path, *words: str) -> str | None:
    """Return what git says in a folder, None where there is no git or it refuses."""
    try:
        ran = subprocess.run(
            ["git", "-C", str(root), *words],
            check=True,
            capture_output=True,
            text=True,
            # A repository around this folder is another's.
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(root.resolve().parent)},
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()
