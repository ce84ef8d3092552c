"""What all tests share."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let programs that tests start be interrupted.

    A shell starts background jobs with SIGINT ignored, which every child inherits: Ctrl-C would do
    nothing there. A handler, unlike that, ends with the program that has it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
