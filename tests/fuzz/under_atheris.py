"""One target under atheris: its process, which `tests.fuzz.command` starts."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["unchained", "msgspec", "libp2p"]):
    from tests.fuzz.targets import all_targets


def main() -> None:
    """Fuzz the target that the first argument names, by libFuzzer's options after it."""
    target = all_targets()[sys.argv.pop(1)]

    def check(raw: bytes) -> None:
        target.check(raw)

    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
