"""The worker threads of a node, by what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from unchained.node.base.runner import ThreadRunner

WALLET_THREADS: Final = 2
"""Wallets that are worked on at a time."""

RPC_THREADS: Final = 4
"""Reads, exports and the like that the RPC server has under way at a time."""


class NodeThreads:
    """One runner for each kind of work, so that none waits for another's. `cores`: proofs of work
    that are verified at a time."""

    def __init__(self, cores: int) -> None:
        self.writer = ThreadRunner(1)
        self.verifier = ThreadRunner(cores)
        self.wallets = ThreadRunner(WALLET_THREADS)
        self.rpc = ThreadRunner(RPC_THREADS)
        self.peers = ThreadRunner(1)
        self.notices = ThreadRunner(1)

    def by_name(self) -> Mapping[str, ThreadRunner]:
        """Return them by the names that statistics show."""
        return {
            "chain": self.writer,
            "verification": self.verifier,
            "wallets": self.wallets,
            "rpc": self.rpc,
            "peers": self.peers,
            "notices": self.notices,
        }
