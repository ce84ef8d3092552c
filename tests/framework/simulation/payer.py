"""A user of a simulated node: pays the other wallets now and then."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import trio

from tests.framework.simulation.simulated_node import PASSPHRASE, SimulatedNode
from unchained.node.wallet.errors import SpendingError, TransferRefusedError, WalletError
from unchained.node.wallet.keystore import DEFAULT_WALLET
from unchained.node.wallet.records import Payee
from unchained.storage.errors import StoreError

if TYPE_CHECKING:
    from tests.framework.simulation.simulation import Simulation

UNLOCKED_S: Final = 60.0


class Payer:
    """Pays from one node's wallet, to paycodes and to addresses, at random times."""

    def __init__(self, simulation: Simulation, node: SimulatedNode) -> None:
        self._simulation = simulation
        self._node = node
        self._rng = random.Random(f"{simulation.seed} payer {node.name}")

    async def run(self) -> None:
        """Pay until cancelled."""
        scenario = self._simulation.scenario
        while True:
            every_s = scenario.epoch_s / scenario.payments_per_epoch
            await trio.sleep(self._rng.expovariate(1 / every_s))
            if self._node.is_up and not self._simulation.is_quiet:
                await self._pay()

    async def _pay(self) -> None:
        node, wallets = self._node, self._node.wallets
        others = [
            other
            for other in self._simulation.nodes
            if other is not node and other.is_up and other.wallets is not None
        ]
        if wallets is None or not others:
            return
        other = self._rng.choice(others).wallets
        value = self._rng.choice((10_000, 10**7, 10**8, 3 * 10**8))
        by_paycode = self._rng.random() < 0.5
        life = node.starts
        try:
            payee = other.wallet(DEFAULT_WALLET)  # type: ignore[union-attr]
        except WalletError as error:
            # The payee's node is starting, and has not opened it yet.
            self._simulation.log.note(node.name, "not paid", why=type(error).__name__)
            return
        try:
            to = payee.paycode() if by_paycode else payee.address()
            await wallets.unlock(DEFAULT_WALLET, PASSPHRASE, UNLOCKED_S)
            sent = await wallets.send(DEFAULT_WALLET, [Payee(to, value, b"")])
        except (SpendingError, TransferRefusedError) as error:
            self._simulation.log.note(node.name, "not paid", why=type(error).__name__)
        except (trio.ClosedResourceError, WalletError, StoreError) as error:
            # Its node has stopped meanwhile.
            if node.is_up and node.starts == life and not node.accounts_for_refusal(error):
                raise
            self._simulation.log.note(node.name, "not paid", why=type(error).__name__)
        else:
            if not node.is_up or node.starts != life:
                # Nobody has heard the answer of a process that is gone.
                self._simulation.log.note(node.name, "not paid", why="stopped")
                return
            node.sent.append(sent.txid)
            self._simulation.log.note(node.name, "paid", txid=sent.txid, value=value)
