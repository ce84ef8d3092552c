"""What can befall a node's wallets on its disk, beside what befalls all that it writes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from tests.framework.simulation.scenario import Scenario
    from tests.framework.simulation.simulation import Simulation

Parameters = dict[str, Any]
Note = Callable[[], None]


def _owner(rng: random.Random, scenario: Scenario) -> int:
    """Return a node that has a wallet, if one has."""
    return rng.randrange(scenario.wallets or scenario.nodes)


class CrashAtWriteBack:
    """A node's process is killed while SQLite writes the log of its wallet back into the database:
    the log is there, and the first of the pages."""

    power_cut = False

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "node": _owner(rng, scenario),
            "write_back": rng.randint(1, 3),
            "down_ms": int(rng.uniform(0.02, 3) * scenario.network.epoch_ms),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        kill = partial(node.die_writing, drawn["down_ms"], note, power_cut=self.power_cut)
        if node.wallet_disk is not None:
            node.wallet_disk.at_write_back(drawn["write_back"], kill)
        await trio.lowlevel.checkpoint()


class PowerCutAtWriteBack(CrashAtWriteBack):
    """A node's machine is off meanwhile: any of the pages' sectors are there."""

    power_cut = True


class WalletBitFlip:
    """A bit of a wallet's database, of its log or of its keys has flipped when its node starts the
    next time."""

    pages = 0

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {"node": _owner(rng, scenario), "where": rng.getrandbits(32)}

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        disk = simulation.nodes[drawn["node"]].wallet_disk
        if disk is not None:
            disk.rot(random.Random(drawn["where"]), note, pages=self.pages)
        await trio.lowlevel.checkpoint()


class WalletPageLost(WalletBitFlip):
    """A page of 4 KiB of one of these files is zeros."""

    pages = 1


class CrashAtKeys:
    """A user seals the keys of a node's wallet anew, and its process is killed while it writes
    them."""

    power_cut = False

    def draw(self, rng: random.Random, scenario: Scenario) -> Parameters:
        return {
            "node": _owner(rng, scenario),
            "sync": rng.randint(1, 2),
            "down_ms": int(rng.uniform(0.02, 1) * scenario.network.epoch_ms),
        }

    async def strike(self, simulation: Simulation, drawn: Parameters, note: Note) -> None:
        node = simulation.nodes[drawn["node"]]
        kill = partial(node.die_writing, drawn["down_ms"], note, power_cut=self.power_cut)
        if node.wallet_disk is not None:
            # Twice: what is told to be sealed has to be there, whatever is in the place of it.
            await node.seal_keys()
            node.wallet_disk.at_key_sync(drawn["sync"], kill)
            await node.seal_keys()
        await trio.lowlevel.checkpoint()


class PowerCutAtKeys(CrashAtKeys):
    """A user seals the keys of a node's wallet anew, and its machine is off meanwhile."""

    power_cut = True


WALLET_KINDS: Final[dict[str, CrashAtWriteBack | WalletBitFlip | CrashAtKeys]] = {
    "crash at a write-back": CrashAtWriteBack(),
    "power cut at a write-back": PowerCutAtWriteBack(),
    "crash at a key file": CrashAtKeys(),
    "power cut at a key file": PowerCutAtKeys(),
    "wallet bit flip": WalletBitFlip(),
    "wallet page lost": WalletPageLost(),
}
