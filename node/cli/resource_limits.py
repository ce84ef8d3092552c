"""What the system allows a node's process, looked at before it is made: too little is said in one
line, instead of whatever fails first for want of it."""

from __future__ import annotations

import resource
from typing import Final

from unchained.node.cli.asker import CommandFailedError

OPEN_FILES_LEAST: Final = 64
"""Descriptors without which a node does not come to serve anybody: it takes some 35 by itself."""
OPEN_FILES_WANTED: Final = 4_096
"""Descriptors that are asked for where more are allowed than are given: connections, and files."""
ADDRESS_SPACE_LEAST_MIB: Final = 1_024
"""Address space without which a node does not start: that of its libraries and threads, most of it
never used."""


def make_room() -> None:
    """Take as many descriptors as may be had, up to `OPEN_FILES_WANTED`. Raises
    `CommandFailedError` where the process is allowed too little to run a node."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES_WANTED:
        limited = hard != resource.RLIM_INFINITY
        soft = max(soft, min(hard, OPEN_FILES_WANTED) if limited else OPEN_FILES_WANTED)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES_LEAST:
        raise CommandFailedError(
            f"this process may open {soft} files, a node takes {OPEN_FILES_LEAST} at least: "
            "raise the limit (ulimit -n)"
        )
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY and space < ADDRESS_SPACE_LEAST_MIB << 20:
        raise CommandFailedError(
            f"this process may take {space >> 20} MiB of memory, counted as addresses; a node "
            f"takes {ADDRESS_SPACE_LEAST_MIB} at least: raise the limit (ulimit -v)"
        )
