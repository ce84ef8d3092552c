"""One simulation: a scenario, a seed and a schedule of faults, run to its end in virtual time.

Nodes come together; then faults befall them while they mine and pay; then all is mended and quiet,
and they have to agree on one chain that is as the rules say. What happens is the same each time.
"""

from __future__ import annotations

import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from tests.framework.async_tests import run_virtual
from tests.framework.interrupts import OrderlyInterrupt
from tests.framework.simulation import invariants
from tests.framework.simulation.event_log import EventLog
from tests.framework.simulation.failure_words import first_line, trace_of
from tests.framework.simulation.faults import FAULT_KINDS
from tests.framework.simulation.hostile_node import HOSTILE_KINDS
from tests.framework.simulation.invariants import InvariantBrokenError, require
from tests.framework.simulation.link_model import LinkModel
from tests.framework.simulation.outcome import Outcome
from tests.framework.simulation.payer import Payer
from tests.framework.simulation.progress import SILENCE, Progress
from tests.framework.simulation.rare_collections import rare_collections
from tests.framework.simulation.scenario import Scenario
from tests.framework.simulation.schedule import Fault, Schedule
from tests.framework.simulation.sightings import Sightings
from tests.framework.simulation.simnet import SimNet, SimPayout
from tests.framework.simulation.simulated_node import SimulatedNode
from tests.framework.simulation.small_queues import SmallQueues
from tests.framework.simulation.virtual_clock import virtual_clock
from tests.framework.simulation.wallet_disk import faulty_wallets
from unchained.node.chain.results import Changes
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage.errors import StoreError
from unchained.storage.schema import TransferEntered

COME_TOGETHER_S: Final = 600.0
MEND_S: Final = 1_800.0
"""Seconds after which all nodes have peers again, and one tip."""
MODEL_LOOKS: Final = 3
"""Looks after which one node is compared with the plain model under way: ties go by then."""
LOOK_EPOCHS: Final = 0.5
"""Epochs between looks at what always holds."""
QUIET_EPOCHS: Final = 3.0
"""Epochs of mining after everything is mended, and before it stops."""


CLOCK_BEHIND: Final = "chain.clock_behind"
TOLD_AS_ERRORS: Final = ("chain.reorg_refused", CLOCK_BEHIND)
"""What a node logs as an error, and what is none of its own."""


class Simulation:
    """A simulation under way: what faults, policies and invariants take hold of."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        schedule: Schedule,
        home: Path,
        progress: Progress = SILENCE,
        until_s: float = math.inf,
    ) -> None:
        """`until_s`: virtual seconds after which it ends, however far it is."""
        self.scenario = scenario
        self.seed = seed
        self._home = home
        self.schedule = schedule
        self.progress = progress
        self.rng = random.Random(f"{seed} simulation")
        self.log = EventLog()
        self.sightings = Sightings()
        self.link = LinkModel(
            latency=self.rng.choice((0.01, 0.05, 0.2)), jitter=self.rng.choice((0.0, 0.1))
        )
        self.net = SimNet(seed, model=self.link, params=scenario.network)
        self.mining_paused = False
        self.is_quiet = False
        self.coins: dict[CoinId, Coin] = {}
        """Every coin that an honest node has accepted, by id."""
        self.bodies: dict[CoinId, Body] = {}
        """The body of every anchor that has counted at an honest node, by id."""
        self.transfers: set[Wid] = set()
        """Every transfer that an honest node's mempool has had, or an anchor that counted."""
        self._dead: set[CoinId] = set()
        """Anchors that some honest node has found dead."""
        self.small_queues = SmallQueues()
        self._failure: BaseException | None = None
        self._scope = trio.CancelScope(deadline=until_s)
        shares = [self.rng.uniform(0.5, 1.5) for _ in range(scenario.miners)]
        self.nodes = [
            SimulatedNode(
                self,
                number,
                f"{20 + number // 200}.{1 + number % 200}.0.1",
                scenario.coins_per_s * shares[number] / math.fsum(shares)
                if number < scenario.miners
                else 0.0,
                home / f"node{number}" if number < scenario.wallets else None,
            )
            for number in range(scenario.nodes)
        ]
        self.net.nodes.extend(self.nodes)
        self.hostile = {
            fault.kind: HOSTILE_KINDS[fault.kind].node(self, fault.parameters)
            for fault in schedule
            if fault.kind in HOSTILE_KINDS
        }
        """Hostile nodes, by the kinds of fault that they are."""
        locks = [SimPayout(node.name).lock_for(CoinId(b""), 0) for node in self.nodes]
        theirs = [lock for policy in self.hostile.values() for lock in policy.locks]
        self.other_locks = {*locks, *theirs}
        """Locks of coins that belong to no wallet."""

    def fail(self, why: str) -> None:
        """End the simulation: something does not hold."""
        self._fail(InvariantBrokenError(why))

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._scope.cancel()

    def show(self) -> str:
        """Return a line about every node."""
        return "; ".join(
            f"{node.name}: {node.height} {node.tip.hex()[:6]} {len(node.transport.peers())} peers"
            if node.is_up
            else f"{node.name}: down"
            for node in self.nodes
        )

    # What it sees

    def note_step(self, node: SimulatedNode, step: Changes) -> None:
        """Take note of a step of a node's chain."""
        for coin in step.coins:
            self.coins.setdefault(coin.id, coin)
            self.log.note(node.name, "coin", id=coin.id)
        for counted in step.counted:
            self.coins.setdefault(counted.coin.id, counted.coin)
            self.bodies.setdefault(counted.coin.id, counted.body)
            self.transfers.update(map(Wid, counted.body.transfers))
            self.log.note(node.name, "counted", id=counted.coin.id)
        for height, anchor_id in step.disconnected:
            self.log.note(node.name, "disconnected", height=height, id=anchor_id)
        if node.is_new and len(step.connected) > 2:
            node.is_new = False
            self.sightings.note("synced from nothing")
        for anchor in step.connected:
            self.log.note(node.name, "connected", height=anchor.coin.height, id=anchor.coin.id)
            if anchor.late:
                self.sightings.note("late coin included", anchor.late)
            if anchor.stray:
                self.sightings.note("stray included", anchor.stray)
            if anchor.transfers:
                self.sightings.note("payment mined", anchor.transfers)
        self._dead.update(anchor_id for anchor_id, _ in step.dead)
        if votes := sum(coin.header.parent in self._dead for coin in step.coins):
            self.sightings.note("vote for a dead anchor", votes)
        for anchor_id, error in (*step.ruled_out, *step.dead):
            self.log.note(node.name, "invalid", id=anchor_id, rule=error.name)
            self.sightings.note("anchor ruled out")
        self.transfers.update(
            Wid(event.wid) for event in step.events if isinstance(event, TransferEntered)
        )
        if step.disconnected:
            self._note_reorganisation(step)

    def _note_reorganisation(self, step: Changes) -> None:
        self.sightings.note("reorganisation")
        if len(step.disconnected) >= 8:
            self.sightings.note("reorganisation of 8 or more")
        if len(step.disconnected) > 32:
            self.sightings.note("reorganisation deeper than 32")
        if step.coins and not step.counted:
            self.sightings.note("late vote changes the tip")
        if any(isinstance(event, TransferEntered) for event in step.events):
            self.sightings.note("transfer back in the mempool")

    def note_line(self, _logger: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        """Take note of a line of a node's log: a processor of structlog."""
        name = event.pop("node", "")
        life, error = event.pop("life", 0), event.pop("exc_info", None)
        node = next((node for node in self.nodes if node.name == name), None)
        if node is None or (node.starts == life and not node.is_dead):
            kind = event.pop("event")
            if error is True:
                error = sys.exc_info()[1]
            # The last digits of a logarithm, from which times are drawn, are the machine's.
            told = f"{trio.current_time():.6f} {name} {kind} {sorted(map(str, event.items()))}"
            # What is damaged is told by its path.
            self.log.note_hashed(told.replace(str(self._home), ""))
            self._look_at_line(node, level, kind, event, error)
        raise structlog.DropEvent

    def _look_at_line(
        self,
        node: SimulatedNode | None,
        level: str,
        kind: str,
        event: MutableMapping[str, Any],
        error: BaseException | None,
    ) -> None:
        seen = {
            "peer.banned": "peer banned",
            "peer.evicted": "peer evicted",
            "chain.deepened": "tree deepened",
            "chain.reorg_refused": "reorganisation refused",
            CLOCK_BEHIND: "clock behind the tip",
            "relay.lagging": "relay lagging",
        }.get(kind)
        if seen is not None:
            self.sightings.note(seen)
        if kind == "service.failed":
            self.sightings.note("service restarted")
        if kind == "peer.banned":
            self.log.note(node.name if node else "", kind, **event)
        if node is not None and node.tells_of_damage(kind):
            return
        if error is not None:
            if node is None or not node.accounts_for(error):
                self._fail(error)
        elif (
            level in ("error", "critical")
            and kind not in TOLD_AS_ERRORS
            and (node is None or not node.accounts_for_line(kind))
        ):
            self.fail(f"{node.name if node else '?'} logs {kind}: {event}")

    def transfers_of(self, body: Body) -> dict[Wid, bytes]:
        """Return the bytes of what a body lists, as far as some node that is up and has lost
        nothing has them."""
        found: dict[Wid, bytes] = {}
        sound = [node for node in self.nodes if node.is_up and not node.disk_under.damaged]
        for wid in map(Wid, body.transfers):
            for node in sound:
                raw = node.chain._writer._core.transfer_bytes(wid)
                if raw is not None:
                    found[wid] = raw
                    break
        return found

    # Faults

    async def _strike(self, fault: Fault, began: float) -> None:
        await trio.sleep_until(began + fault.at_ms / 1000)
        self.log.note("", "fault", fault=fault.kind, **fault.parameters)
        note = partial(self.sightings.note, fault.kind)
        try:
            await FAULT_KINDS[fault.kind].strike(self, fault.parameters, note)
        finally:
            self.log.note("", "fault over", fault=fault.kind)

    # The run

    async def run(self) -> None:
        """Run it to its end. Raises what went wrong, `InvariantBrokenError` or an exception of the
        nodes' code."""
        try:
            with self._scope:
                disks = [node.wallet_disk for node in self.nodes if node.wallet_disk is not None]
                with faulty_wallets(disks):
                    async with self.net.running():
                        await self._run()
        except BaseException as error:
            if not isinstance(error, (KeyboardInterrupt, GeneratorExit)):
                self._failure = self._failure or error
            raise
        finally:
            self.sightings.note("message came once more", self.net.weather.replayed)
            for node in self.nodes:
                if node.wallet_disk is not None:
                    self.sightings.note("wallet's log torn", node.wallet_disk.torn_logs)
                    self.sightings.note(
                        "wallet half written back", node.wallet_disk.half_written_back
                    )
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        nursery = self.net.nursery
        assert nursery is not None
        for node in self.nodes:
            known = [other for other in self.nodes[:3] if other is not node]
            node.bootstrap = tuple(
                f"/ip4/{other.ip}/tcp/9000/p2p/{other.peer_id}" for other in known
            )
            nursery.start_soon(node.keep)
        await self._until(lambda: all(node.is_up for node in self.nodes), "up", COME_TOGETHER_S)
        await self._until(self._has_mingled, "mingled", COME_TOGETHER_S)
        nursery.start_soon(self._look)
        for node in self.nodes:
            if node.home is not None and self.scenario.payments_per_epoch:
                nursery.start_soon(Payer(self, node).run)
        began = trio.current_time()
        async with trio.open_nursery() as faults:
            for fault in self.schedule:
                faults.start_soon(self._strike, fault, began)
            await trio.sleep_until(began + self.scenario.seconds)
            faults.cancel_scope.cancel()
        await self._mend()
        await self._end()
        self.log.note("", "end", tip=self.nodes[0].tip, height=self.nodes[0].height)

    async def _mend(self) -> None:
        """Let everything be well again, and wait until the nodes have found each other."""
        self.is_quiet = True
        self.log.note("", "mended")
        for node in self.nodes:
            node.clock.correct()
            node.disk_under.mend()
            if node.disk_under.damaged or node.mend_wallet_disk():
                node.crash(0.0, power_cut=False)
            node.hurry()
        for node in self.nodes:
            await self._until(
                lambda node=node: node.is_up and not node.is_told_of_damage,  # type: ignore[misc]
                f"{node.name} up",
                MEND_S,
            )
        await self._until(self._has_mingled, "mingled", MEND_S)
        await trio.sleep(QUIET_EPOCHS * self.scenario.epoch_s)
        await self._decide()
        await self._until(
            lambda: len({node.tip for node in self.nodes}) == 1, "of one mind", MEND_S
        )
        self.mining_paused = True
        await trio.sleep(2 * self.scenario.epoch_s)
        # Of a clock that was ahead there may be coins whose time has still to come.
        await self._until(
            lambda: all(node.chain.status.value.next_due_ms is None for node in self.nodes),
            "not waiting for the time of any coin",
            MEND_S,
        )
        await self._until(
            lambda: len({node.tip for node in self.nodes}) == 1, "of one mind", MEND_S
        )

    async def _decide(self) -> None:
        """Do what operators do whose nodes have left a better branch to them, and who trust it:
        begin anew on an empty disk."""
        for node in self.nodes:
            if node.is_up and node.chain.status.value.refused is not None:
                self.sightings.note("operator began anew")
                node.begin_anew()
        await self._until(self._has_mingled, "mingled", MEND_S)

    async def _end(self) -> None:
        invariants.check_one_tip(self)
        invariants.check_nobody_honest_is_banned(self)
        for node in self.nodes:
            invariants.check_services(node)
            invariants.check_bounds(node)
            invariants.check_disk(node)
        for node in self.nodes if len(self.nodes) <= 16 else self.nodes[:4]:
            await invariants.check_at_rest(node, self.scenario.compares_with_model)
        if any(node.wallets is not None for node in self.nodes):
            await self._until(self._wallets_have_read, "wallets caught up", 60.0)
            invariants.check_wallets(self)
            for node in self.nodes:
                if node.wallets is not None:
                    invariants.check_payments(node)

    def _wallets_have_read(self) -> bool:
        return not any(
            node.is_told_of_damage or node.wallets.statistics().behind
            for node in self.nodes
            if node.wallets is not None
        )

    def _has_mingled(self) -> bool:
        least = min(3, len(self.nodes) - 1)
        return all(
            node.is_up and node.network.peers.statistics().greeted >= least for node in self.nodes
        )

    async def _until(self, wanted: Callable[[], bool], what: str, within_s: float) -> None:
        end = trio.current_time() + within_s
        while not wanted():
            require(trio.current_time() < end, f"not {what} in {within_s:g} s: {self.show()}")
            await trio.sleep(0.5)

    async def _look(self) -> None:
        """Look again and again at what always holds."""
        looks = 0
        while True:
            await trio.sleep(LOOK_EPOCHS * self.scenario.epoch_s)
            for node in self.nodes:
                if node.is_up:
                    node.note_bans()
                    node.tend_wallet()
                    if not node.network.synced.value:
                        self.sightings.note("node behind")
                    invariants.check_bounds(node)
                    statistics = node.chain.statistics()
                    if statistics.orphans:
                        self.sightings.note("coin held for its parent")
                    if statistics.early:
                        self.sightings.note("coin too new held")
            invariants.check_nobody_honest_is_banned(self)
            looks += 1
            if looks % MODEL_LOOKS == 0 and self.scenario.compares_with_model:
                await self._compare_one()
            height = max((node.height for node in self.nodes if node.is_up), default=0)
            self.progress.show(trio.current_time(), self.scenario.seconds, height)

    async def _compare_one(self) -> None:
        """Compare a node with the model in the midst of it all, if its clock has always been
        right: what was too new for a node's clock is known to it and does not count."""
        wrong = {
            fault.parameters["node"] for fault in self.schedule if fault.kind.startswith("clock")
        }
        ready = [
            node
            for node in self.nodes
            if node.is_up and node.number not in wrong and not node.is_troubled
        ]
        if ready and not self.small_queues:
            node = self.rng.choice(ready)
            with suppress(StoreError, trio.ClosedResourceError):
                await invariants.check_under_way(node)


def simulate_schedule(
    scenario: Scenario,
    seed: int,
    schedule: Schedule,
    progress: Progress = SILENCE,
    until_s: float = math.inf,
) -> Outcome:
    """Run a simulation, for so many virtual seconds at most; the same arguments give the same
    outcome, but for `cpu_s`. Ctrl-C ends it in order, by KeyboardInterrupt."""
    began = time.process_time()
    failure: Exception | None = None
    seconds = 0.0
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        OrderlyInterrupt() as interrupt,
        tempfile.TemporaryDirectory(prefix="unchained-simulation-", dir=memory) as home,
    ):
        simulation: Simulation | None = None

        async def main() -> None:
            nonlocal simulation, seconds
            simulation = Simulation(scenario, seed, schedule, Path(home), progress, until_s)
            structlog.configure(
                processors=[simulation.note_line],
                wrapper_class=structlog.make_filtering_bound_logger(20),
            )
            interrupt.cancels(simulation._scope)
            try:
                await simulation.run()
            finally:
                seconds = trio.current_time()
                structlog.reset_defaults()

        try:
            with virtual_clock() as clock, rare_collections():
                run_virtual(main, seed=seed, clock=clock)
        except Exception as error:  # noqa: BLE001 - told in the outcome
            failure = error
        assert simulation is not None
    return Outcome(
        scenario,
        seed,
        schedule,
        "" if failure is None else first_line(failure),
        "" if failure is None else trace_of(failure),
        simulation.log.hash(),
        simulation.net.start_ms,
        [(node.name, False) for node in simulation.nodes]
        + [(policy.name, True) for policy in simulation.hostile.values()],
        seconds,
        time.process_time() - began,
        max(
            (event.data["height"] for event in simulation.log.events if "height" in event.data),
            default=0,
        ),
        simulation.sightings,
        simulation.log.events,
        simulation.coins,
        simulation.bodies,
    )
