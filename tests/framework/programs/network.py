"""Runs a program on a few nodes, each beside a judge of its own, in one process and no time.

A node is the production's chain, with its rules, its choice, its mempool and its store; what it
says of each object, and what it holds after some of them, has to be what the judge says. At the end
every node, and three that hear of everything only then, are given all that there is, each in an
order of its own, one of them in one that the program names: then all of them agree with what the
plain model makes of it, and with one another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from tests.framework.chains import assert_equal_to_model, open_core, tree_of
from tests.framework.forge import BACKEND, Forged
from tests.framework.programs.judge import ACCEPTED, KNOWN, Extent, Judge, Verdicts
from tests.framework.programs.steps import Operation, Program, Step
from tests.framework.programs.toy_signatures import toy_signatures
from tests.framework.programs.world import NETWORKS, World
from tests.framework.simulation.faulty_disk import FaultyDisk, FaultyStore
from unchained.node.chain.anchor_reads import targets_through
from unchained.node.chain.cheap_checks import split_fitting
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import NeedsProof, Outcome, Package, ProvenAnchor, ProvenCoin
from unchained.node.consensus.coins import check_mix, parse_coin
from unchained.node.consensus.errors import BadMixError, ProtocolError
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transfers import validate_transfer
from unchained.node.primitives.coin import Coin

NODES: Final = 2
"""Nodes that a program can address."""

LATE_NODES: Final = 3
"""Nodes that hear of everything only at the end."""

FORMS: Final = ("coin", "cut", "flipped", "body", "bare body", "half a body", "wrong body")
"""What DELIVER gives: a coin, some of its bytes, the same with a bit changed; a body with all that
it lists, with nothing of it, without its transfers; one that its header does not commit to."""

LAST_FIXED_ORDER: Final = NODES + LATE_NODES - 2
"""The order of the last node but one: the last has one that the program names."""

NOT_YET: Final = frozenset({"UNKNOWN_PARENT", "BODY_MISSING", "TIME_TOO_NEW"})
"""What is worth another try."""


class DisagreementError(Exception):
    """The production and the plain reading of the protocol came to different ends."""


class Said(NamedTuple):
    """What a node said of something."""

    node: int
    what: str
    verdict: str

    def __str__(self) -> str:
        return f"node {self.node}: {self.what}: {self.verdict}"


class ProgramNode:
    """A chain on a disk of its own, and its judge."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.said: list[Said] = []
        self.dead: dict[bytes, str] = {}
        self._writes = 0
        genesis = world.forge.genesis
        self.judge = Judge(world.network, genesis.coin, genesis.body, world.faults)
        self.judge.now_ms = world.now_ms
        self._disk = FaultyDisk()
        self._extents: list[Extent] = []
        """Of each batch that was written and not lost: what was known by then."""
        self.core = self._open()
        self._note_changes()

    def _open(self) -> ChainCore:
        return open_core(FaultyStore(self._disk), self.world.network, now_ms=self.world.now_ms)

    def restart(self) -> None:
        """Open the store again: everything is as it was."""
        before = tree_of(self.core), self.core.tip.id, self._waiting().keys()
        self._note_changes()
        self.core = self._open()
        after = tree_of(self.core), self.core.tip.id, self._waiting().keys()
        if before != after:
            raise DisagreementError(f"node {self.number} is not as it was before it was restarted")
        self._note_changes()

    def crash(self, kept: int) -> None:
        """Let a power cut leave only so many of the first batches that were not synced, counted
        anew from 0 beyond all of them, and open the store again. The tip is as it was, for the
        node has told of it, and all else follows from what is left."""
        self._note_changes()
        tip, unsynced = self.core.tip.id, len(self._disk.unsynced)
        lost = unsynced - kept % (unsynced + 1)
        self._disk.give_up_compaction()
        self._disk.lose(lost)
        del self._extents[len(self._extents) - lost :]
        self.judge.forget(self._extents[-1])
        self.core = self._open()
        self._note_changes()
        if self.core.tip.id != tip:
            raise DisagreementError(
                f"node {self.number} was at {tip.hex()[:8]} before it crashed, and is at "
                f"{self.core.tip.id.hex()[:8]}"
            )
        self.compare()

    def note_clock(self) -> None:
        """Look at the clock."""
        self.judge.now_ms = self.world.now_ms
        self.core.note_clock(self.world.now_ms)
        self._note_changes()

    def _waiting(self) -> dict[bytes, bytes]:
        """Return the transfers of the mempool."""
        found = {}
        for entry in self.core.mempool:
            raw = self.core.transfer_bytes(entry.wid)
            assert raw is not None, "what waits is stored"
            found[bytes(entry.wid)] = raw
        return found

    # What comes in

    def coin(self, raw: bytes) -> str:
        """Give the node a coin by its bytes."""
        return self._compare("coin " + raw[:8].hex(), self.judge.coin(raw), lambda: self._coin(raw))

    def _coin(self, raw: bytes) -> Outcome:
        coin = parse_coin(raw)
        result = self.core.submit_coin(coin, self.world.now_ms)
        if isinstance(result, NeedsProof):
            check_mix(coin, self.core.network, BACKEND)
            result = self.core.submit_proven_coin(ProvenCoin(coin), self.world.now_ms)
        assert isinstance(result, Outcome)
        return result

    def body(self, package: Package) -> str:
        """Give the node a body with some of what it lists."""
        wanted = self.judge.body(
            package.anchor,
            package.body,
            dict[bytes, Coin](package.coins.items()),
            dict[bytes, bytes](package.transfers.items()),
            self._waiting(),
        )
        if self.judge.root != self.world.forge.genesis.id:
            # What a coin below the root was is forgotten.
            wanted |= {"BODY_MISSING"} if wanted == {ACCEPTED} and not package.coins else set()
        what = f"body of {package.anchor.id.hex()[:8]}"
        core = self.core
        below = targets_through(core.view, package.anchor.parent, core.network.window)
        _, broken = split_fitting([package], below, core.network)
        verdict = self._compare(what, wanted, lambda: self._body(package))
        # What is not worth a look at its proofs breaks a rule by the ordinary way as well: else it
        # would depend on how an anchor comes whether it counts.
        if broken is not None and verdict == ACCEPTED:
            raise DisagreementError(f"a sync refuses a {what} that counts: {broken}")
        return verdict

    def _body(self, package: Package) -> Outcome:
        result = self.core.submit_package(package)
        if isinstance(result, NeedsProof):
            try:
                for coin in result.coins:
                    check_mix(coin, self.core.network, BACKEND)
            except BadMixError as error:
                self.core.condemn(package.anchor.id, error)
                raise
            result = self.core.submit_proven_anchor(ProvenAnchor(package))
        assert isinstance(result, Outcome)
        return result

    def transfer(self, raw: bytes) -> str:
        """Offer the node's mempool a transfer."""
        wanted = self.judge.transfer(raw, self._waiting())
        return self._compare("transfer", wanted, lambda: self._transfer(raw))

    def _transfer(self, raw: bytes) -> Outcome:
        now_ms = self.world.now_ms
        checked = self.core.check_transfer(raw, now_ms)
        if isinstance(checked, Outcome):
            return checked
        found = validate_transfer(raw, self.core.network)
        return self.core.submit_transfer(found.proven(), now_ms)

    def _compare(self, what: str, wanted: Verdicts, work: Callable[[], Outcome]) -> str:
        try:
            verdict = {Outcome.ACCEPTED: ACCEPTED, Outcome.KNOWN: KNOWN}[work()]
        except (ProtocolError, PolicyError) as error:
            verdict = error.name
        self._note_changes()
        self.said.append(Said(self.number, what, verdict))
        if verdict not in wanted:
            raise DisagreementError(
                f"node {self.number} says {verdict} of a {what}, the protocol "
                f"{' or '.join(sorted(wanted))}"
            )
        if verdict == ACCEPTED and self.judge.model().tip.id != self.core.tip.id:
            raise DisagreementError(
                f"node {self.number} is at {self.core.tip.id.hex()[:8]} after a {what}, the "
                f"protocol at {self.judge.model().tip.id.hex()[:8]}"
            )
        return verdict

    def _note_changes(self) -> None:
        written = self._disk.writes - self._writes
        self._extents += [self.judge.extent()] * written
        self._writes = self._disk.writes
        self.judge.root = self.core.tree.root.id
        for anchor_id, error in self.core.take_changes().dead:
            self.dead[anchor_id] = error.name

    # What it holds

    def compare(self) -> None:
        """Compare choice, tip and state with those of the model."""
        model = self.judge.model()
        try:
            assert_equal_to_model(self.core, model)
        except AssertionError as error:
            raise DisagreementError(
                f"node {self.number} at {self.core.tip.id.hex()[:8]} is not as the model at "
                f"{model.tip.id.hex()[:8]}: {error}"
            ) from error
        for anchor_id, name in self.dead.items():
            wanted = model.broken_by(anchor_id)
            if anchor_id in model.anchors and name != wanted:
                raise DisagreementError(
                    f"node {self.number} says {name} of anchor {anchor_id.hex()[:8]} as it is "
                    f"connected, the protocol {wanted}"
                )
        missed = model.dead.keys() - self.dead.keys()
        if missed:
            raise DisagreementError(
                f"node {self.number} has not found dead: {min(missed).hex()[:8]}"
            )


def run(program: Program) -> list[Said]:
    """Run a program; return what was said of each object, and of anchors as they were connected.

    Raises `DisagreementError`, and whatever the production raises that is no refusal.
    """
    with toy_signatures():
        return _Run(program).run()


def nodes_of(program: Program) -> list[ProgramNode]:
    """Run a program; return the nodes that it addresses, as they are at its end."""
    with toy_signatures():
        whole = _Run(program)
        whole.run()
        return whole.nodes


class _Run:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.world = World(NETWORKS[program.network % len(NETWORKS)])
        self.nodes = [ProgramNode(number, self.world) for number in range(NODES)]

    def run(self) -> list[Said]:
        for step in self.program.steps:
            if self.world.take(step):
                if step.operation is Operation.CLOCK:
                    for node in self.nodes:
                        node.note_clock()
                continue
            self._take(self.nodes[step["node"] % NODES], step)
        return self._end()

    def _take(self, node: ProgramNode, step: Step) -> None:
        world = self.world
        if step.operation is Operation.RESTART:
            node.restart()
        elif step.operation is Operation.CRASH:
            node.crash(step["kept"])
        elif step.operation is Operation.SPREAD:
            self._spread(node, self._order(step["order"]))
            node.compare()
        elif step.operation is Operation.OFFER:
            last = len(world.transfers) - step["transfer"] % max(1, len(world.transfers))
            for raw in world.transfers[max(0, last - 1 - step["more"]) : last]:
                node.transfer(raw)
        elif world.coins:
            self._deliver(node, step)

    def _deliver(self, node: ProgramNode, step: Step) -> None:
        world, form = self.world, FORMS[step["form"] % len(FORMS)]
        coin = world.coins[-1 - step["coin"] % len(world.coins)]
        if form in ("coin", "cut", "flipped"):
            node.coin(world.raw_coin(coin, FORMS.index(form), step["at"]))
            return
        # Whoever has a coin without a body can still send one: of the latest anchor.
        package = world.bodies.get(coin.id, world.anchors[-1]).package()
        if form == "bare body":
            package = Package(coin, package.body, {}, {})
        elif form == "half a body":
            package = Package(coin, package.body, package.coins, {})
        elif form == "wrong body":
            wrong = world.forge.body(world.forge.genesis)
            package = Package(coin, wrong, {}, {})
        elif coin.id not in world.bodies:
            package = Package(coin, package.body, package.coins, package.transfers)
        node.body(package)

    def _order(self, number: int) -> list[Coin | Forged]:
        """Return all coins and their bodies in an order: as made, from the last coin to the first,
        or shuffled; from 4 on, by odd numbers, bodies apart from their coins."""
        coins, rng = list(self.world.coins), random.Random(number)
        if number == 1:
            coins.reverse()
        elif number > 1:
            rng.shuffle(coins)
        objects = list(_objects(self.world, coins))
        if number > LAST_FIXED_ORDER and number % 2:
            rng.shuffle(objects)
        return objects

    def _spread(self, node: ProgramNode, waiting: Sequence[Coin | Forged]) -> None:
        """Give a node coins and bodies, again and again until nothing new comes of it."""
        while True:
            left = [one for one in waiting if self._give(node, one) in NOT_YET]
            if len(left) == len(waiting):
                return
            # The other way round, so that an order against all sense takes but a few turns.
            waiting = left[::-1]

    def _give(self, node: ProgramNode, one: Coin | Forged) -> str:
        return node.body(one.package()) if isinstance(one, Forged) else node.coin(bytes(one.raw))

    def _end(self) -> list[Said]:
        late = [ProgramNode(NODES + number, self.world) for number in range(LATE_NODES)]
        nodes = [*self.nodes, *late]
        for node in nodes:
            drawn = self.program.order if node is nodes[-1] else 0
            self._spread(node, self._order(node.number + drawn))
            node.compare()
            if node in late:
                node.crash(0)
            else:
                node.restart()
        ends = {(node.core.tip.id, node.core.ledger.state_root()) for node in nodes}
        if len(ends) > 1 and self._may_agree(nodes):
            raise DisagreementError("what the nodes come to depends on the order")
        said = [one for node in nodes for one in node.said]
        for node in nodes:
            said += [
                Said(node.number, f"anchor {anchor_id.hex()[:8]} as it is connected", name)
                for anchor_id, name in node.dead.items()
            ]
        return said

    def _may_agree(self, nodes: Sequence[ProgramNode]) -> bool:
        """Return whether no node has given up what another stands on: each one's root, below which
        it changes nothing any more (Protocol §6), is on the way to the tip of each."""
        anchors = {anchor.id: anchor for anchor in self.world.anchors}
        roots = {node.core.tree.root.id for node in nodes}
        ways = [{step.id for step in anchors[node.core.tip.id].chain()} for node in nodes]
        return all(roots <= way for way in ways)


def _objects(world: World, coins: Sequence[Coin]) -> Iterator[Coin | Forged]:
    for coin in coins:
        yield coin
        if coin.id in world.bodies:
            yield world.bodies[coin.id]
