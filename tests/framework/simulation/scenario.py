"""What can be simulated: how many nodes, on which network, for how long, with which faults."""

from __future__ import annotations

from typing import Final

import msgspec

from tests.framework.simulation.simnet import SIM
from unchained.node.consensus.params import MAIN, Network

MAIN_SIM: Final[Network] = msgspec.structs.replace(
    MAIN, mem_kib=8, target0=2**253, max_target=2**255 - 1
)
"""Main's parameters, retarget included, but that a coin takes eight hashes of 8 KiB."""

QUICK_SIM: Final[Network] = msgspec.structs.replace(SIM, maturity=2)
"""Eight seconds an epoch, and coins that can be spent soon."""

SHALLOW_SIM: Final[Network] = msgspec.structs.replace(QUICK_SIM, max_reorg=2, window=2)
"""Branches soon leave the main chain below the tree: a node has to deepen it, or to refuse."""

SIMULATED_NETWORKS: Final = {"main": MAIN_SIM, "quick": QUICK_SIM, "shallow": SHALLOW_SIM}
"""By the names that they have in recordings."""

WEATHER: Final = (
    "partition", "one-way partition", "isolation", "flapping link", "clogged link", "slow link",
    "replayed messages",
)  # fmt: skip
DISKS: Final = (
    "crash", "crash at a write", "power cut", "power cut at a write", "crash at a start",
    "power cut at a start", "disk full", "write fails", "slow disk", "bit flip", "unreadable file",
)  # fmt: skip
WALLET_FILES: Final = (
    "crash at a write-back", "power cut at a write-back", "crash at a key file",
    "power cut at a key file", "wallet bit flip", "wallet page lost",
)  # fmt: skip
PROCESSES: Final = ("service cancelled", "clock step", "clock drift", "small queues")
EVERYTHING: Final = (*WEATHER, *DISKS, *WALLET_FILES, *PROCESSES)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of simulation. All that differs between two of one kind follows from the seed."""

    name: str
    network: Network = QUICK_SIM
    nodes: int = 6
    miners: int = 4
    """Nodes that mine, the first ones; their shares are drawn."""
    wallets: int = 3
    """Nodes with a wallet that is mined to and that pays the others', the first ones."""
    payments_per_epoch: float = 0.5
    epochs: int = 30
    """Epochs for which faults go on."""
    faults: tuple[str, ...] = EVERYTHING
    fault_rate: float = 1.0
    """Times as many faults as a few nodes have: there may be many more for them to befall."""
    longest_partition: float = 10
    """Epochs that a partition lasts at most."""
    hostile_chance: float = 0.0
    """Chance with which a hostile node of each policy comes to the others."""
    inbound: int = 32
    """Inbound peers that a node has room for."""
    compares_with_model: bool = True
    """Whether the end is compared with the plain model, which is slow in long chains."""

    @property
    def epoch_s(self) -> float:
        return self.network.epoch_ms / 1000

    @property
    def seconds(self) -> float:
        """Virtual seconds for which faults go on."""
        return self.epochs * self.epoch_s

    @property
    def coins_per_s(self) -> float:
        """Coins that the whole network finds at `target0`."""
        return self.network.coins_per_epoch / self.epoch_s


SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="storm", hostile_chance=0.1),
        Scenario(name="weather", faults=WEATHER, nodes=8, miners=6),
        Scenario(name="disks", faults=(*DISKS, *WALLET_FILES)),
        Scenario(name="wallets", nodes=4, wallets=4, payments_per_epoch=1.0,
                 faults=("crash", "crash at a start", "isolation", "service cancelled",
                         *WALLET_FILES)),
        Scenario(name="deep", faults=("partition",), nodes=4, epochs=110, wallets=2,
                 payments_per_epoch=0.1, longest_partition=100, hostile_chance=0.1),
        # The model takes how deep the tree reaches from the node.
        Scenario(name="shallow", network=SHALLOW_SIM, nodes=4, wallets=0, epochs=40,
                 longest_partition=5, faults=("partition", "isolation", "unreadable file"),
                 compares_with_model=False),
        Scenario(name="hostile", faults=(), epochs=20, wallets=2, inbound=16, hostile_chance=0.7),
        Scenario(name="siege", epochs=20, wallets=2, hostile_chance=0.45),
        Scenario(name="calm", faults=(), epochs=12),
        Scenario(name="main", network=MAIN_SIM, epochs=36, payments_per_epoch=0.2,
                 hostile_chance=0.1),
        Scenario(name="main-calm", network=MAIN_SIM, faults=(), epochs=15, wallets=0),
        Scenario(name="crowd", network=MAIN_SIM, nodes=200, miners=16, wallets=0, epochs=2,
                 faults=(*WEATHER, "crash", "power cut", "clock drift"), fault_rate=8,
                 longest_partition=1, compares_with_model=False),
    )
}  # fmt: skip
