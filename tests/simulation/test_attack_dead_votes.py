"""Votes for anchors that cannot be connected (Protocol §6): the order of arrival decides nothing.

An anchor that fails §5.3 is dead: nobody mines on it and the descent passes it by, but it goes on
counting, and so do the votes for it, whoever has tried to connect it and who has not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import pytest
import trio

from tests.framework.attacks import (
    LOCK,
    Attacker,
    assert_nobody_honest_was_banned,
    counts,
    header_of,
    job_of,
    now_ms,
    scores_of,
    take_in,
    template_of,
    votes_for,
)
from tests.framework.chains import Feeder, Item, open_core, shuffled
from tests.framework.forge import Forge, Forged
from tests.framework.simulation.simnet import EPOCH_S, SIM, SimNet, SimNode, simulate, solve
from tests.framework.trees import RandomTree
from unchained.node.chain.results import Outcome, ProvenCoin
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transition import body_root
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import wid_of
from unchained.storage.memory import MemoryStore

RETARGETING = msgspec.structs.replace(REG, tau_ms=200_000)

Kill = Callable[[Forge, Forged, Forged], Forged]


# How an anchor on `parent` comes to be dead; `rich` has a coin of key 0.


def of_another_state(forge: Forge, parent: Forged, rich: Forged) -> Forged:
    """BAD_STATE_ROOT."""
    return forge.anchor(parent, body_fields={"state_root": bytes(32)})


def with_an_unsigned_transfer(forge: Forge, parent: Forged, rich: Forged) -> Forged:
    """CONDITION_UNMET."""
    value = forge.network.subsidy
    unsigned = forge.transfer([(rich.id, 0)], [(value, 1)], sign=False)
    return forge.anchor(parent, transfers=[unsigned])


def that_spends_twice(forge: Forge, parent: Forged, rich: Forged) -> Forged:
    """COIN_SPENT."""
    value = forge.network.subsidy
    two = [forge.transfer([(rich.id, 0)], [(value, to)]) for to in (1, 2)]
    return forge.anchor(parent, transfers=two)


def with_bytes_that_are_no_transfer(forge: Forge, parent: Forged, rich: Forged) -> Forged:
    """NON_CANONICAL."""
    raw = b"no transfer"
    wid = wid_of(raw)
    return forge.anchor(parent, raw_transfers={wid: raw}, body_fields={"transfers": (wid,)})


KILLS = [
    of_another_state,
    with_an_unsigned_transfer,
    that_spends_twice,
    with_bytes_that_are_no_transfer,
]


class Split:
    """Two branches on P: with the votes for a dead anchor the left one wins, without them the
    right one does.

    On the left A, with the dead B and the honest B' on it; six votes for B and one for each of
    D's, which descends from B; six for B'. On the right C, with ten votes: A has 3 + 7 + 1 + 6,
    without what hangs from B 3 + 6.
    """

    def __init__(self, network: Network, kill: Kill = of_another_state) -> None:
        forge = Forge(network)
        self.p = forge.anchor(forge.genesis)
        self.a = forge.anchor(self.p)
        self.c = forge.anchor(self.p)
        self.b = kill(forge, self.a, self.p)
        self.d = forge.anchor(self.b)
        self.honest = forge.anchor(self.a, [forge.coin(self.a)])
        self.for_b = [forge.coin(self.b) for _ in range(6)]
        self.for_d = [forge.coin(self.d)]
        self.for_c = [forge.coin(self.c) for _ in range(10)]
        self.for_honest = [forge.coin(self.honest) for _ in range(6)]
        self.forge = forge
        self.base: list[Item] = [self.p.coin, self.p, self.a.coin, self.a]

    def dead_first(self) -> list[Item]:
        """Return what makes B the winner, for a moment, before B' comes."""
        return [*self.base, self.b.coin, self.b, *self.good()]

    def honest_first(self) -> list[Item]:
        """Return B' with its votes, then B: it is never the winner."""
        return [*self.base, *self.good(), self.b.coin, self.b]

    def good(self) -> list[Item]:
        """Return B' and its votes."""
        fresh = list(self.honest.coins.values())
        return [*fresh, self.honest.coin, self.honest, *self.for_honest]

    def rest(self) -> list[Item]:
        """Return all that is in neither."""
        return [
            self.c.coin,
            self.c,
            *self.for_c,
            *self.for_b,
            self.d.coin,
            self.d,
            *self.for_d,
        ]

    def everything(self) -> list[Item]:
        """Return all coins and bodies."""
        return [*self.dead_first(), *self.rest()]


@pytest.mark.parametrize("kill", KILLS)
def test_two_orders_give_one_tip(kill: Kill) -> None:
    split = Split(REG, kill)
    feeders = []
    for first in (split.dead_first(), split.honest_first()):
        feeder = Feeder(open_core(MemoryStore(), REG), split.forge.now_ms)
        feeder.submit_all(first)
        feeder.submit_all([*split.rest(), *split.everything()])
        feeders.append(feeder)
    one, other = (feeder.core for feeder in feeders)
    assert one.tree.scores() == other.tree.scores()
    assert one.tip.id == other.tip.id == split.honest.id
    for feeder in feeders:
        assert feeder.errors == {}
        # It counts, and so does what descends from it.
        assert {split.b.id, split.d.id} <= set(feeder.core.tree.scores())
        assert {coin.id for coin in split.for_b} <= set(feeder.core.tree.nodes[split.b.id].bound)


@pytest.mark.parametrize("kill", KILLS)
def test_votes_for_a_dead_anchor_are_judged_and_those_for_an_invalid_one_refused(
    kill: Kill,
) -> None:
    split = Split(REG, kill)
    feeder = Feeder(open_core(MemoryStore(), REG), split.forge.now_ms)
    feeder.submit_all(split.dead_first())
    core, now_ms_ = feeder.core, split.forge.now_ms
    assert core.tip.id == split.honest.id
    assert core.submit_proven_coin(ProvenCoin(split.for_b[0]), now_ms_) is Outcome.ACCEPTED
    # What fails §5.2 is another thing: PARENT_INVALID is for that alone.
    invalid = split.forge.anchor(split.a, body_fields={"history_root": bytes(32)})
    feeder.submit_all([invalid.coin, invalid, vote := split.forge.coin(invalid)])
    assert feeder.errors == {invalid.id: "BAD_HISTORY_ROOT", vote.id: "PARENT_INVALID"}
    # So is what descends from a dead anchor and fails there.
    worse = split.forge.anchor(split.b, body_fields={"history_root": bytes(32)})
    feeder.submit_all([worse.coin, worse, late := split.forge.coin(worse)])
    assert feeder.errors[worse.id] == "BAD_HISTORY_ROOT"
    assert feeder.errors[late.id] == "PARENT_INVALID"


def contest(rng: random.Random, forge: Forge) -> list[Item]:
    """Return a close contest of many branches: of five anchors one is dead, and votes and
    anchors come to all that are young."""
    anchors = [forge.genesis]
    items: list[Item] = []
    for _ in range(30):
        parent = rng.choice(anchors[-6:])
        wrong = {"state_root": bytes(32)} if rng.random() < 0.2 else {}
        anchor = forge.anchor(parent, body_fields=wrong)
        anchors.append(anchor)
        items += [anchor.coin, anchor]
        items += [forge.coin(rng.choice(anchors[-6:])) for _ in range(rng.randrange(4))]
    return items


def of_all_kinds(rng: random.Random, forge: Forge) -> list[Item]:
    """Return a tree with late and stray coins, transfers and broken things of every kind, that
    grows on anchors which cannot be connected, too."""
    tree = RandomTree(forge, rng, broken=0.15, depth=5, on_unsound=True)
    tree.grow(25)
    return [*tree.coins.values(), *tree.anchors[1:]]


@pytest.mark.parametrize("make", [contest, of_all_kinds])
@pytest.mark.parametrize("network", [REG, RETARGETING], ids=["steady", "retargeting"])
@pytest.mark.parametrize("seed", range(8))
def test_any_order_gives_one_tip(
    seed: int, network: Network, make: Callable[[random.Random, Forge], list[Item]]
) -> None:
    rng = random.Random(seed)
    forge = Forge(network)
    items = make(rng, forge)
    found = set()
    for _ in range(5):
        feeder = Feeder(open_core(MemoryStore(), network), forge.now_ms)
        feeder.submit_all(shuffled(rng, items))
        core = feeder.core
        found.add((core.tip.id, frozenset(core.tree.scores().items())))
    assert len(found) == 1


# Whole nodes


async def two_nodes(net: SimNet, items: Sequence[Sequence[Item]]) -> tuple[SimNode, SimNode]:
    """Return two nodes, that do not know of each other, who have heard this and that."""
    nodes = net.node(), net.node()
    for node, heard in zip(nodes, items, strict=True):
        await node.start()
        assert await take_in(node, list(heard)) == {}
    return nodes


async def assert_same(net: SimNet, split: Split, nodes: Sequence[SimNode]) -> None:
    """Check that nodes have one tip, for one reason."""
    for node in nodes:
        assert node.tip == split.honest.id, node.name
        assert {coin.id for coin in split.for_b} <= await votes_for(node, split.b.id), node.name
        assert {coin.id for coin in split.for_d} <= await votes_for(node, split.d.id), node.name
    scores = [await scores_of(node) for node in nodes]
    assert all(found == scores[0] for found in scores)
    for node in nodes:
        assert node.network.peers.statistics().bans == 0
        assert set(node.network.peers.statistics().penalties) <= {"cost"}


async def test_two_nodes_hear_the_same_in_two_orders() -> None:
    async with simulate(51) as net:
        split = Split(SIM)
        rest = [*split.rest(), *split.everything()]
        nodes = await two_nodes(net, [[*split.dead_first(), *rest], [*split.honest_first(), *rest]])
        await assert_same(net, split, nodes)
        await nodes[1].transport.connect(nodes[0].transport.address)
        await trio.sleep(2 * EPOCH_S)
        await assert_same(net, split, nodes)
        for node in nodes:
            await node.stop()
            await node.start()
        await assert_same(net, split, nodes)


@pytest.mark.parametrize("knows_the_dead", [False, True])
async def test_votes_of_a_dead_branch_are_asked_for(knows_the_dead: bool) -> None:
    """One node has the votes for the dead anchors, the other those for the right branch."""
    async with simulate(52) as net:
        split = Split(SIM)
        left = [*split.dead_first(), *split.for_b, split.d.coin, split.d, *split.for_d]
        right = [*split.honest_first()] if knows_the_dead else [*split.base, *split.good()]
        right += [split.c.coin, split.c, *split.for_c]
        nodes = await two_nodes(net, [left, right])
        await nodes[1].transport.connect(nodes[0].transport.address)
        await net.until(lambda: len(net.tips()) == 1, "of one mind", 4 * EPOCH_S)
        await trio.sleep(2 * EPOCH_S)
        await assert_same(net, split, nodes)


async def test_votes_for_a_dead_anchor_are_relayed() -> None:
    async with simulate(53) as net:
        split = Split(SIM)
        nodes = await two_nodes(net, [split.dead_first(), split.dead_first()])
        await nodes[1].transport.connect(nodes[0].transport.address)
        await trio.sleep(2)
        assert await take_in(nodes[0], split.for_b) == {}
        await trio.sleep(1)
        votes = {coin.id for coin in split.for_b}
        for node in nodes:
            assert votes <= await votes_for(node, split.b.id), node.name


async def test_a_dead_anchor_that_goes_on_getting_votes_splits_nobody() -> None:
    """A quarter of all coins are votes for it; half of the nodes hear of it first."""
    async with simulate(54) as net:
        nodes = await net.grow(4)
        await net.mingle(nodes)
        await net.until(lambda: min(node.height for node in nodes) >= 3, "under way", 400)
        attacker = Attacker(net)
        await attacker.join(nodes[:2])
        await net.agree(within_s=60 * EPOCH_S)
        template = await template_of(nodes[0])
        its_body = msgspec.structs.replace(template.body, state_root=bytes(32))
        header = template.header(lock=LOCK, time=max(now_ms(net), template.parent_time + 1))
        header = msgspec.structs.replace(header, body_root=body_root(its_body))
        dead = solve(header, SIM, True)
        n_total = template.n_total + len(its_body.fresh) + len(its_body.uncles) + 1
        await attacker.announce_anchor(dead, its_body)
        height = max(node.height for node in nodes)
        votes: list[Coin] = []
        while min(node.height for node in nodes) < height + 5:
            vote = solve(
                msgspec.structs.replace(
                    header,
                    parent=dead.id,
                    height=dead.height + 1,
                    n_total=n_total,
                    time=now_ms(net) + 1,
                    nonce=len(votes) << 32,
                ),
                SIM,
                False,
            )
            votes.append(vote)
            await attacker.gossip_coins(vote)
            await trio.sleep(3 * EPOCH_S / SIM.coins_per_epoch)
            assert len(votes) < 200
            for node in nodes:
                job = job_of(node)
                assert job is None or header_of(job).parent != dead.id
                assert node.tip != dead.id
        net.pause_mining()
        await net.agree(nodes, within_s=2 * EPOCH_S)
        for node in nodes:
            assert await counts(node, dead.id), node.name
            assert {vote.id for vote in votes} <= await votes_for(node, dead.id), node.name
        scores = [await scores_of(node) for node in nodes]
        assert all(found == scores[0] for found in scores)
        assert_nobody_honest_was_banned(net)
