"""Runs `unchained-node` on a chain of forged proofs: each costs what a real one does.

    python -m tests.bench._costly MIXES unchained-node's arguments

MIXES holds pairs of header and mix (166 and 32 bytes). A proof of such a header is computed like
any other, and then the forged mix is given out for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from unchained.node import app
from unchained.node.cli.main import main
from unchained.node.crypto.pow import ProofOfWork, default_backend
from unchained.node.primitives.coin import COIN_SIZE, HEADER_SIZE


class Costly:
    """A backend that knows some mixes to be others."""

    def __init__(self, real: ProofOfWork, mixes: bytes) -> None:
        self._real = real
        self._mixes = {
            mixes[at : at + HEADER_SIZE]: mixes[at + HEADER_SIZE : at + COIN_SIZE]
            for at in range(0, len(mixes), COIN_SIZE)
        }

    @property
    def name(self) -> str:
        """What the real one is called."""
        return self._real.name

    def argon2id(
        self, password: bytes, salt: bytes, *, iterations: int, mem_kib: int, length: int
    ) -> bytes:
        """Return the forged tag of a known password after all the work for the real one."""
        tag = self._real.argon2id(
            password, salt, iterations=iterations, mem_kib=mem_kib, length=length
        )
        return self._mixes.get(password, tag)


if __name__ == "__main__":
    backend = Costly(default_backend(), Path(sys.argv.pop(1)).read_bytes())
    setattr(app, "default_backend", lambda: backend)  # noqa: B010 - one of its imports
    main()
