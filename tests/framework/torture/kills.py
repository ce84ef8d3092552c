"""A node killed at any instant, again and again: while it mines, pays, syncs and reorganises, while
it starts on what the kill before has left, while it takes a long chain from its peer, and while its
wallets read the chain anew.

After each kill its store has to open and be sound, and to know what was acknowledged: anchors whose
mining was answered, transfers whose payment was. When it runs again, its wallets have to have all
that there is.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from tests.framework.network import until
from tests.framework.torture.report import PartReport, Shown
from tests.framework.torture.world import PATIENCE_S, WALLETS, World, world
from unchained.node.chain.core import ChainCore
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.client.client import ClientError
from unchained.node.rpc.core.errors import RpcError
from unchained.storage import schema
from unchained.storage.check import check
from unchained.storage.errors import StoreError
from unchained.storage.kv import KeyValueStore
from unchained.storage.open import open_store

ANCHORS = 24
LONGEST_S = 1.5
"""Seconds in which a node is killed, after what is waited for has come."""
KILLS_OF_A_PAIR = 30
"""Kills after which it goes on with new nodes: what is looked at after each is the whole chain."""
FOR_SYNC = (20, 80)
"""Anchors that a node lacks which is killed while it takes them from its peer."""
REORG_DEPTH_MAX = 3
FAILURES_MAX = 10
"""Failures after which a part ends: one often follows from the one before."""


class Acknowledged:
    """What the node has answered: it may not be gone after any kill."""

    def __init__(self) -> None:
        self.anchors: list[str] = []
        self.transfers: list[str] = []
        self.counts: dict[str, int] = {}
        """How often something was done, by what."""
        self.aside: set[str] = set()
        """Anchors that were set aside for a moment, until they are taken back."""


class Load:
    """Threads that ask a node for one thing after the other until it is gone."""

    def __init__(self, it: World, acknowledged: Acknowledged, seed: int) -> None:
        self._world = it
        self._acknowledged = acknowledged
        self._rng = random.Random(seed)
        self._ended = threading.Event()
        self._works: list[tuple[str, Callable[[], None]]] = [
            ("mined", self._mine),
            ("paid", self._pay),
            ("reorganised", self._reorganise),
            ("synced", self._sync),
        ]
        self._threads = [threading.Thread(target=self._ask, args=work) for work in self._works]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop asking; the node is gone, or goes on alone."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, what: str, work: Callable[[], None]) -> None:
        while not self._ended.is_set():
            if not self._try(what, work):
                return

    def ask_once(self, rng: random.Random) -> None:
        """Ask for one thing, by chance."""
        self._try(*rng.choice(self._works))

    def pay_once(self) -> None:
        """Ask for a payment."""
        self._try("paid", self._pay)

    def _try(self, what: str, work: Callable[[], None]) -> bool:
        """Ask for something; return whether there is still somebody to ask."""
        counts = self._acknowledged.counts
        try:
            work()
            counts[what] = counts.get(what, 0) + 1
        except RpcError as error:
            # A reorganisation has taken the coins away, or a wallet reads: asked again.
            counts[f"refused: {error.error}"] = counts.get(f"refused: {error.error}", 0) + 1
        except (ClientError, OSError):
            counts["cut off"] = counts.get("cut off", 0) + 1
            return False
        return True

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
            self._acknowledged.aside.discard(anchor)

    def _sync(self) -> None:
        self._world.mine(self._world.well, 1)


class Survival:
    """A node under load to which something happens again and again, its files kept from each time
    to the next: what has to hold then."""

    def __init__(self, it: World, report: PartReport) -> None:
        self.world = it
        self.report = report
        self.rng = random.Random(report.seed)
        self.acknowledged = Acknowledged()
        self._looked_at = 0
        self._left_behind = 0
        self._counted: Counter[str] = Counter()
        self._lost_at: dict[str, int] = {}
        """Where the branch of an acknowledged anchor leaves the main chain, if it is not of that:
        a height, as last seen."""

    def begin(self) -> None:
        """Give both nodes a chain, if they have none."""
        if not self.world.addresses:
            self.world.begin(ANCHORS)

    def load(self) -> Load:
        """Return load that is to be begun."""
        return Load(self.world, self.acknowledged, self.rng.randrange(2**32))

    def fail(self, case: str, what: object) -> None:
        """Note that something did not hold."""
        self.report.fail(case, what, self.report.keep(self.world.victim.data_dir))

    def look(self, case: str) -> None:
        """Look at the store that is left: it is sound, and knows what was acknowledged."""
        try:
            with contextlib.closing(
                open_store(self.world.victim.data_dir, REG, create=False)
            ) as store:
                found = check(store, REG)
                for problem in found.problems[:3]:
                    self.fail(case, problem)
                self._look_for_anchors(case, store)
        except StoreError as error:
            self.fail(case, error)

    def _look_for_anchors(self, case: str, store: KeyValueStore) -> None:
        """See that no acknowledged anchor is gone, but for those of branches that were lost so deep
        below the tip that no node keeps them."""
        tree = ChainCore(store, REG, lambda: 0, 2**62).tree
        for anchor in list(self.acknowledged.anchors):
            anchor_id = CoinId(bytes.fromhex(anchor))
            if (node := tree.get(anchor_id)) is not None:
                self._lost_at.pop(anchor, None)
                if not node.on_main:
                    self._lost_at[anchor] = tree.fork_point(node).height
            if store.get(schema.COIN.key(anchor_id)) is not None:
                continue
            if self._lost_at.get(anchor, tree.root.height) < tree.root.height:
                self.acknowledged.anchors.remove(anchor)
                self._left_behind += 1
            else:
                self.fail(case, f"acknowledged anchor {anchor} is gone")

    def go_on(self, case: str) -> None:
        """Let the node come back; its peer's tip is its own then, and its wallets are right."""
        it = self.world
        try:
            it.victim.start()
            it.unlock()
            while self.acknowledged.aside:
                it.victim.call("chain.take_back", anchor=self.acknowledged.aside.pop())
            until(lambda: it.victim.tip() == it.well.tip(), "of one mind", within_s=PATIENCE_S)
            it.settle()
            wrong = it.check_sums()
            assert wrong is None, wrong
            for txid in self.acknowledged.transfers[self._looked_at :]:
                self.report.counts[self._fate(txid)] += 1
            self._looked_at = len(self.acknowledged.transfers)
        except (AssertionError, ClientError) as error:
            self.fail(case, error)

    def _fate(self, txid: str) -> str:
        """Return what became of an acknowledged payment: some wallet has to know of it."""
        for wallet in WALLETS:
            with contextlib.suppress(RpcError):
                found = self.world.victim.call("wallet.transfer", wallet=wallet, txid=txid)
                return f"payment {found['entry']['status']}"
        raise AssertionError(f"acknowledged payment {txid} is in no wallet")

    def count(self) -> None:
        """Put what was asked and answered since the last time into the report."""
        now = Counter(self.acknowledged.counts)
        now["left with a lost branch"] = self._left_behind
        now["anchors acknowledged"] = len(self.acknowledged.anchors) + self._left_behind
        now["transfers acknowledged"] = len(self.acknowledged.transfers)
        self.report.counts.update(now - self._counted)
        self._counted = now

    def rounds(self, times: int, happen: Callable[[int], str]) -> None:
        """Let something happen to the node so many times, and see that it goes on; `happen` takes
        the number of the round and returns what to call it."""
        self.go_through(range(1, times + 1), happen, Shown(self.report.part, times))

    def go_through(
        self, numbers: Iterable[int], happen: Callable[[int], str], shown: Shown
    ) -> None:
        """The same for rounds that have these numbers."""
        self.begin()
        for number in numbers:
            case = happen(number)
            self.look(case)
            self.go_on(case)
            self.count()
            shown.show(number, case)
            if len(self.report.failures) > FAILURES_MAX:
                break  # there is no use in going on


class KillPart(Survival):
    """Kills of one node, one after the other."""

    def __init__(self, it: World, report: PartReport, shown: Shown, first: int = 1) -> None:
        """`first`: the number of the first kill."""
        super().__init__(it, report)
        self.rng = random.Random(report.seed + first)
        self._shown = shown
        self._first = first
        self._kinds: dict[str, tuple[int, Callable[[], str]]] = {
            "at work": (8, self._at_work),
            "at its start": (4, self._at_its_start),
            "in a long sync": (4, self._in_a_long_sync),
            "while wallets read": (3, self._while_wallets_read),
        }
        """How often each is drawn, and what brings the node there; returns what to add in words."""

    def run(self, kills: int) -> None:
        """Kill the node so many times."""
        self.go_through(range(self._first, self._first + kills), self._kill, self._shown)

    def _kill(self, number: int) -> str:
        names = list(self._kinds)
        drawn = self.rng.choices(names, [share for share, _ in self._kinds.values()])[0]
        words = self._kinds[drawn][1]()
        self.report.counts["kills"] += 1
        self.report.counts[f"kills {drawn}"] += 1
        return f"kill {number}, {drawn}, {words}"

    def _strike(self) -> str:
        """Kill it at any instant from now on."""
        wait_s = self.rng.uniform(0, LONGEST_S)
        time.sleep(wait_s)  # the instant is what is varied
        self.world.victim.kill()
        return f"{wait_s * 1000:.0f} ms after"

    def _at_work(self) -> str:
        """Kill it under load; mostly once something has been answered, which is not to be lost."""
        what = self.rng.choice(("nothing", "mined", "paid", "paid", "reorganised", "synced"))
        load = self.load()
        before = self.acknowledged.counts.get(what, 0)
        load.begin()
        try:
            if what != "nothing":
                counts = self.acknowledged.counts
                until(lambda: counts.get(what, 0) > before, what, within_s=PATIENCE_S, step_s=0.01)
            return f"{self._strike()} {what} was answered"
        finally:
            load.end()

    def _at_its_start(self) -> str:
        """Kill it while it opens what a kill has left, before it serves or just after."""
        self.world.victim.kill()
        self.world.victim.start(wait=False)
        return f"{self._strike()} its process began"

    def _in_a_long_sync(self) -> str:
        self.world.victim.kill()
        lacks = self.rng.randint(*FOR_SYNC)
        self.world.mine(self.world.well, lacks)
        self.world.victim.start()
        self.report.counts["anchors to take from the peer"] += lacks
        return f"{self._strike()} it had started, {lacks} anchors behind"

    def _while_wallets_read(self) -> str:
        for name in WALLETS:
            self.world.victim.call("wallet.rescan", wallet=name)
        return f"{self._strike()} they began"


def run_kills(report: PartReport, kills: int) -> None:
    """Kill nodes under load so many times."""
    shown = Shown(report.part, kills)
    for done in range(0, kills, KILLS_OF_A_PAIR):
        with world(report.seed + done, forks=True) as it:
            KillPart(it, report, shown, done + 1).run(min(KILLS_OF_A_PAIR, kills - done))
        if len(report.failures) > FAILURES_MAX:
            break
