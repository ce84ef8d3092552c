"""Templates: what they leave out, the times they allow, what they are worth (Protocol §3.1, §5.4,
§5.5)."""

from __future__ import annotations

import msgspec

from tests.framework.corechain import Chain
from tests.framework.forge import key_lock
from unchained.node.chain.results import Outcome
from unchained.node.chain.template import PARENTS_REMEMBERED, JobTimes, Template, build_template
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId

LIMIT = REG.future_limit_ms


def test_what_would_be_too_new_for_the_anchor_is_left_out() -> None:
    chain = Chain()
    forge = chain.forge
    base = chain.grow(chain.genesis, 2)
    now_ms = base.time + 50
    parent = chain.forge.genesis
    coins = {
        (home.id, late): forge.coin(home, time=now_ms + LIMIT + late)
        for home in (base, parent)
        for late in (0, 1)
    }
    for coin in coins.values():
        assert chain.coin(coin) is Outcome.ACCEPTED
    template = build_template(chain.core, now_ms)
    assert template.body.fresh == (coins[base.id, 0].id,)
    assert template.body.uncles == (coins[parent.id, 0].id,)
    assert template.least_time == now_ms
    later = build_template(chain.core, now_ms + 1)
    assert len(later.body.fresh) == len(later.body.uncles) == 2
    assert later.least_time == now_ms + 1


def test_an_anchor_of_the_least_time_is_valid() -> None:
    chain = Chain()
    forge = chain.forge
    base = chain.grow(chain.genesis, 1)
    newest = forge.coin(base, time=base.time + LIMIT + 700)
    chain.coin(newest)
    for now_ms in (0, base.time, base.time + 700):
        template = build_template(chain.core, now_ms)
        listed = [newest] if now_ms == base.time + 700 else []
        assert template.body.fresh == tuple(coin.id for coin in listed)
        assert template.least_time == max(base.time + 1, now_ms)
    header = template.header(lock=key_lock(0), time=template.least_time)
    anchor = forge.adopt(base, forge.mine(header, grade=True), template.body, listed)
    chain.take(anchor)
    assert chain.core.tip.id == anchor.id


def test_a_template_tells_what_an_anchor_on_it_mints_for_itself() -> None:
    chain = Chain()
    base = chain.grow(chain.genesis, 1)
    chain.add_transfer(chain.pay(base.id, REG.subsidy, fee=40_003))
    first = build_template(chain.core, chain.now_ms)
    assert (first.fees, first.value) == (40_003, REG.subsidy + 10_000)
    paid = chain.take(
        chain.forge.anchor(base, (), (), [chain.pay(base.id, REG.subsidy, fee=40_003)])
    )
    unspent = chain.core.ledger.unspent(paid.id)
    assert unspent is not None
    assert unspent.value == first.value
    assert chain.core.ledger.pool == 30_003
    assert build_template(chain.core, chain.now_ms).value == REG.subsidy + 7_500


def test_each_job_has_a_time_of_its_own_for_each_parent() -> None:
    template = build_template(Chain().core, 0)
    least = template.least_time
    times = JobTimes()
    assert [times.take(template, 0) for _ in range(3)] == [least, least + 1, least + 2]
    assert times.take(template, least + 10) == least + 10
    # the clock steps back
    assert times.take(template, least) == least + 11
    other = with_parent(template, 1)
    assert times.take(other, least) == least
    assert times.take(template, least) == least + 12
    for number in range(2, PARENTS_REMEMBERED + 2):
        times.take(with_parent(template, number), least)
    assert times.take(template, least) == least


def with_parent(template: Template, number: int) -> Template:
    return msgspec.structs.replace(template, parent=CoinId(number.to_bytes(32, "big")))
