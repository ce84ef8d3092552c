"""Runs the module of a script, whose Ctrl-C is one line: `python -m tests.framework.script NAME
MODULE WORD…`.

It imports next to nothing itself: a module takes seconds to import, and may be interrupted then.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import sys

INTERRUPTED = 130
"""The exit code of what Ctrl-C has ended, as a shell has it."""

LEFT = 128 + signal.SIGPIPE
"""The exit code where nobody reads on what is written, as a shell has it."""


def main() -> int:
    """Run a module as `python -m` does; return 130 if Ctrl-C ended it, 141 if whoever read its
    output has left, as `head` does.

    What it had done by then is told from the notes of its KeyboardInterrupt.
    """
    _, name, module, *words = sys.argv
    sys.argv = [module, *words]
    try:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _has_left():
            raise
        return LEFT
    except KeyboardInterrupt as error:
        # All is tidied up: nothing is left that a second one would have to be told of.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        done = "; ".join(getattr(error, "__notes__", ()))
        print(f"{name}: interrupted{done and ': '}{done}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _has_left() -> bool:
    """Return whether nobody reads what is written; let the rest of it go nowhere then."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)
    return True


if __name__ == "__main__":
    sys.exit(main())
