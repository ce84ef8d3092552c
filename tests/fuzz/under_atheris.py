"""One target under atheris: its process, which `tests.fuzz.command` starts."""

from __future__ import annotations

import sys
import time

import atheris

with atheris.instrument_imports(include=["unchained", "msgspec", "libp2p"]):
    from tests.fuzz.targets import all_targets

SAID_S = 2.0
"""Seconds between two lines that say how often the target was run."""


def main() -> None:
    """Fuzz the target that the first argument names, by libFuzzer's options after it."""
    target = all_targets()[sys.argv.pop(1)]
    executed = 0
    said = time.monotonic()

    def check(raw: bytes) -> None:
        nonlocal executed, said
        executed += 1
        if (now := time.monotonic()) - said >= SAID_S:
            said = now
            # By itself libFuzzer counts aloud at powers of two alone.
            print(f"#{executed}\tstill at it", file=sys.stderr, flush=True)
        target.check(raw)

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
