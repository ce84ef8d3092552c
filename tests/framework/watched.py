"""A command that runs for long, and whoever waits for it: told now and then what it has said."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread

from tests.framework.mutation.process import kill_group
from tests.framework.progress_line import LINE_S

PIECE_BYTES = 1 << 16


def run_watched(
    command: Sequence[str],
    show: Callable[[float, str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limit_s: float = math.inf,
    every_s: float = LINE_S,
) -> tuple[int, str]:
    """Run a command; return its exit code and its output, of both kinds. `show` is given the
    seconds and the output so far, every `every_s` seconds while it runs.

    Raises `TimeoutExpired` after `limit_s`. However it ends, nothing of its process group is left.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None, "it is piped"
    pieces: list[bytes] = []
    channel = process.stdout.fileno()

    def read() -> None:
        while piece := os.read(channel, PIECE_BYTES):
            pieces.append(piece)

    def said() -> str:
        return b"".join(pieces).decode(errors="replace")

    reader = Thread(target=read)
    reader.start()
    try:
        while True:
            left = began + limit_s - time.monotonic()
            try:
                code = process.wait(max(0.0, min(every_s, left)))
                break
            except subprocess.TimeoutExpired:
                taken = time.monotonic() - began
                if taken >= limit_s:
                    raise
                show(taken, said())
    finally:
        # What it has started holds its output open, too.
        kill_group(process.pid)
        process.wait()
        reader.join()
        process.stdout.close()
    return code, said()
