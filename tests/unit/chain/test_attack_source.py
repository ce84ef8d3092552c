"""What an attacker with the source found on 2026-11-28, each as what must hold instead."""

from __future__ import annotations

from tests.framework.chains import open_core, submit_coin
from tests.framework.corechain import Chain
from tests.unit.chain.test_reorg_window import FORK, NETWORK, POOR, Deep
from unchained.node.chain.results import Outcome, Package, ProvenCoin
from unchained.node.chain.template import build_template
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import ProvenTransfer

LIMIT = REG.future_limit_ms


def test_a_stray_goes_with_its_parent_where_more_uncles_wait_than_fit() -> None:
    chain = Chain()
    base = chain.grow(chain.genesis, 2)
    losing = chain.forge.anchor(base)
    stray = chain.forge.coin(losing)
    tip, mains = base, []
    for _ in range(14):
        tip = chain.take(chain.forge.anchor(tip))
        mains.append(tip)
    late = [chain.forge.coin(home) for home in mains[-9:-1] for _ in range(8)]
    chain.take(losing)
    chain.coin(stray)
    for coin in late[: REG.max_listed - 1]:
        chain.coin(coin)
    template = build_template(chain.core, chain.now_ms)
    assert losing.id not in template.body.uncles
    assert stray.id not in template.body.uncles
    time_ms = max(chain.now_ms, template.least_time)
    anchor = chain.forge.mine(template.header(lock=stray.header.lock, time=time_ms), grade=True)
    submit_coin(chain.core, anchor, time_ms)
    package = Package(anchor, template.body, {}, {})
    assert chain.core.submit_package(package) is Outcome.ACCEPTED
    assert chain.core.tip.id == anchor.id


class Slow(Deep):
    """A deep branch whose fork settles while it is weighed."""

    def __init__(self) -> None:
        Chain.__init__(self, NETWORK)
        self.step_ms = 0
        self.base = self.grow(self.genesis, FORK)
        self.ran_ms = 2_000
        self.poor = self.base
        for _ in range(POOR):
            self.poor = self.take(self.forge.anchor(self.poor))
        self.branch = self.rich(5)


def test_undo_data_of_a_lowered_tree_stays() -> None:
    deep = Slow()
    deep.ran_ms = 3_999
    deep.lower()
    deep.ran_ms = 4_500
    deep.poor = deep.grow(deep.poor, 2)
    assert deep.core.ledger.undo_floor <= deep.core.tree.root.height
    deep.reopened()


def test_an_anchor_whose_transfer_went_while_it_did_not_count_waits_for_its_body() -> None:
    chain = Chain()
    forge = chain.forge
    fork = chain.grow(chain.genesis, 3)
    spent = fork.chain()[1]
    main = chain.take(forge.anchor(fork))
    chain.vote(main, 5)
    payment = chain.pay(spent.id, 10**8)
    chain.add_transfer(payment)
    side = forge.anchor(fork, transfers=[payment], time=main.time + 10 * LIMIT)
    chain.take(side)
    chain.vote(side, 3)
    due_ms = side.time - LIMIT
    chain.core.note_clock(due_ms)
    assert side.id in chain.core.tree.nodes
    chain.core.note_clock(due_ms - 5)
    assert side.id not in chain.core.tree.nodes
    other = forge.transfer([(spent.id, 0)], [(10**8 - 200_000, 1)], fee=200_000)
    chain.core.submit_transfer(ProvenTransfer(other), due_ms - 5)
    assert chain.core.transfer_bytes(payment.wid) is None
    chain.core.note_clock(due_ms)
    assert chain.core.tip.id == main.id
    chain.core.submit_package(side.package())
    for _ in range(12):
        chain.core.submit_proven_coin(ProvenCoin(forge.coin(side)), due_ms + LIMIT)
    assert chain.core.tip.id == side.id
    again = open_core(chain.store(), forge.network, chain._running_ms, due_ms + LIMIT)
    again.advance()
    assert again.tip.id == side.id


def test_a_coin_that_waits_and_is_taken_in_is_one_anchor() -> None:
    chain = Chain()
    forge = chain.forge
    tip = chain.grow(chain.genesis, 1)
    now_ms = tip.time + 1_000
    early = forge.anchor(tip, time=now_ms + LIMIT)
    lists = forge.anchor(tip, [early.coin], time=now_ms)
    chain.core = open_core(chain.store(), forge.network, chain._running_ms, now_ms - 1)
    chain.take(lists)
    chain.core.note_clock(now_ms - 1)
    assert chain.core.admission.awaits(early.coin)
    # Judged by a reading of the clock from before it stepped back.
    chain.core.submit_coin(early.coin, now_ms + 5)
    assert not chain.core.admission.awaits(early.coin)
    chain.core.submit_package(early.package())
    for _ in range(6):
        chain.core.submit_proven_coin(ProvenCoin(forge.coin(early)), now_ms + 10**5)
    chain.core.note_clock(now_ms + 10**5)
    assert chain.core.tip is chain.core.tree.nodes[early.id]
    assert len(chain.core.tree.nodes[tip.id].children) == 2


def test_a_late_coin_of_a_side_anchor_is_a_vote_as_soon_as_its_parent_is_in_the_tree() -> None:
    deep = Deep()
    chain = {anchor.height: anchor for anchor in deep.poor.chain()}
    root = deep.core.tree.root.height
    parent = chain[root - 1]
    late = deep.forge.coin(parent)
    deep.take(deep.forge.anchor(chain[root], uncles=[late]))
    assert deep.core.admission.awaits(late)
    deep.lower()
    assert late.id in deep.core.tree.nodes[parent.id].bound
    deep.restart()
