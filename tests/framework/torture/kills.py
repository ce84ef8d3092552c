"""A node killed at any instant, while it mines, pays, syncs and reorganises, again and again.

After each kill its store has to open and be sound, and to know what was acknowledged: anchors whose
mining was answered, transfers whose payment was. When it runs again, its wallets have to have all
that there is.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable

from tests.framework.network import until
from tests.framework.torture.report import PartReport, Shown
from tests.framework.torture.world import PATIENCE_S, World, world
from unchained.node.consensus.params import REG
from unchained.node.rpc.client.client import ClientError
from unchained.node.rpc.core.errors import RpcError
from unchained.storage import schema
from unchained.storage.check import check
from unchained.storage.errors import StoreError
from unchained.storage.open import open_store

ANCHORS = 24
LONGEST_S = 1.5
"""Seconds after the load has begun in which a node is killed."""
REORG_DEPTH_MAX = 3


class Acknowledged:
    """What the node has answered: it may not be gone after any kill."""

    def __init__(self) -> None:
        self.anchors: list[str] = []
        self.transfers: list[str] = []
        self.counts: dict[str, int] = {}
        self.aside: set[str] = set()
        """Anchors that were to be set aside for a moment."""


class Load:
    """Threads that ask a node for one thing after the other until it is gone."""

    def __init__(self, it: World, acknowledged: Acknowledged, seed: int) -> None:
        self._world = it
        self._acknowledged = acknowledged
        self._rng = random.Random(seed)
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(what, work))
            for what, work in (
                ("mined", self._mine),
                ("paid", self._pay),
                ("reorganised", self._reorganise),
                ("synced", self._sync),
            )
        ]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop asking; the node is gone, or goes on alone."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, what: str, work: Callable[[], None]) -> None:
        counts = self._acknowledged.counts
        while not self._ended.is_set():
            try:
                work()
                counts[what] = counts.get(what, 0) + 1
            except RpcError as error:
                # A reorganisation has taken the coins away, or a wallet reads: asked again.
                counts[f"refused: {error.error}"] = counts.get(f"refused: {error.error}", 0) + 1
            except (ClientError, OSError):
                counts["cut off"] = counts.get("cut off", 0) + 1
                return

    def _mine(self) -> None:
        self._acknowledged.anchors += self._world.mine(self._world.victim, 1)

    def _pay(self) -> None:
        self._acknowledged.transfers.append(self._world.pay())

    def _reorganise(self) -> None:
        """Set an anchor below the tip aside, mine another branch, let the first count again."""
        victim = self._world.victim
        height = victim.call("chain.tip")["height"] - self._rng.randrange(REORG_DEPTH_MAX)
        anchor = victim.call("chain.anchor_at", height=height)["header"]["id"]
        self._acknowledged.aside.add(anchor)
        victim.call("chain.set_aside", anchor=anchor)
        try:
            self._acknowledged.anchors += self._world.mine(victim, 1)
        finally:
            victim.call("chain.take_back", anchor=anchor)

    def _sync(self) -> None:
        self._world.mine(self._world.well, 1)


class KillPart:
    """Kills of one node, one after the other, its files kept from each to the next."""

    def __init__(self, it: World, report: PartReport) -> None:
        self._world = it
        self._report = report
        self._rng = random.Random(report.seed)
        self._acknowledged = Acknowledged()
        self._looked_at = 0

    def run(self, kills: int) -> None:
        """Kill the node so many times."""
        if not self._world.addresses:
            self._world.begin(ANCHORS)
        shown = Shown(self._report.part, kills)
        for number in range(1, kills + 1):
            self._kill(number)
            shown.show(number, f"{len(self._acknowledged.anchors)} anchors acknowledged")
            if len(self._report.failures) > 10:
                break
        for what, count in self._acknowledged.counts.items():
            self._report.counts[what] = count
        self._report.counts["anchors acknowledged"] = len(self._acknowledged.anchors)
        self._report.counts["transfers acknowledged"] = len(self._acknowledged.transfers)

    def _kill(self, number: int) -> None:
        it, report = self._world, self._report
        wait_s = self._rng.uniform(0, LONGEST_S)
        load = Load(it, self._acknowledged, self._rng.randrange(2**32))
        load.begin()
        time.sleep(wait_s)  # the instant is what is varied
        it.victim.kill()
        load.end()
        report.counts["kills"] += 1
        case = f"kill {number}, {wait_s * 1000:.0f} ms after the load began"
        for wrong in self._look():
            report.fail(case, wrong, it.victim.data_dir)
        it.victim.start()
        try:
            self._go_on()
        except (AssertionError, ClientError) as error:
            report.fail(case, error, it.victim.data_dir)

    def _look(self) -> list[str]:
        """Return what is wrong with the store that a kill has left."""
        try:
            with contextlib.closing(
                open_store(self._world.victim.data_dir, REG, create=False)
            ) as store:
                found = check(store, REG)
                if not found.sound:
                    return list(found.problems[:3])
                return [
                    f"acknowledged anchor {anchor} is gone"
                    for anchor in self._acknowledged.anchors
                    if store.get(schema.ANCHOR.key(bytes.fromhex(anchor))) is None
                    and store.get(schema.COIN.key(bytes.fromhex(anchor))) is None
                ]
        except StoreError as error:
            return [str(error)]

    def _go_on(self) -> None:
        """Let the node come back, and its wallets be right."""
        it = self._world
        it.unlock()
        while self._acknowledged.aside:
            it.victim.call("chain.take_back", anchor=self._acknowledged.aside.pop())
        until(lambda: it.victim.tip() == it.well.tip(), "of one mind", within_s=PATIENCE_S)
        it.settle()
        wrong = it.check_sums()
        assert wrong is None, wrong
        for txid in self._acknowledged.transfers[self._looked_at :]:
            self._report.counts[self._fate(txid)] += 1
        self._looked_at = len(self._acknowledged.transfers)

    def _fate(self, txid: str) -> str:
        """Return what became of an acknowledged payment: some wallet has to know of it."""
        for wallet in ("till", "purse"):
            with contextlib.suppress(RpcError):
                found = self._world.victim.call("wallet.transfer", wallet=wallet, txid=txid)
                return f"payment {found['entry']['status']}"
        raise AssertionError(f"acknowledged payment {txid} is in no wallet")


def run_kills(report: PartReport, kills: int) -> None:
    """Kill a node under load so many times."""
    with world(report.seed) as it:
        KillPart(it, report).run(kills)
