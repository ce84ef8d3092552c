from __future__ import annotations

import math
import random

import msgspec
import pytest

from tests.framework.simulation.simnet import lengthen
from unchained.node.chain.anchor_reads import header_base
from unchained.node.chain.core import ChainCore
from unchained.node.chain.tree import AnchorNode
from unchained.node.consensus import errors as rules
from unchained.node.consensus.context import AnchorContext
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.consensus.transition import check_header
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.primitives.coin import Coin
from unchained.node.sync.body_plan import (
    HEDGE_FACTOR,
    BodyPlan,
    DownloadBatch,
    SyncProgress,
    cut,
)
from unchained.storage.memory import MemoryStore

NOW = 2**60
# With a retarget, so that targets differ from header to header.
NETWORK = msgspec.structs.replace(
    LOCAL, mem_kib=8, target0=2**253, max_target=2**254, tau_ms=60_000
)


@pytest.fixture(scope="module")
def core() -> ChainCore:
    core = ChainCore(MemoryStore(), NETWORK, lambda: 0, 2**62)
    for seed in range(12):
        lengthen(core, 1, plain=seed % 4, step_ms=2_000 + 1_500 * (seed % 3))
    return core


def main_chain(core: ChainCore) -> list[AnchorNode]:
    nodes = [core.tree.main_at(height) for height in range(1, core.tip.height + 1)]
    return [node for node in nodes if node is not None]


def header_of(node: AnchorNode) -> AnchorHeader:
    return AnchorHeader.of(node.coin, node.validated.body)


def extend(point: AnchorContext, coin: Coin, header: AnchorHeader) -> AnchorContext:
    return check_header(
        coin,
        header.fresh.n,
        header.uncles.n,
        header.transfers.n,
        header.history_root,
        point,
        NETWORK,
        NOW,
    )


def point_of(core: ChainCore, node: AnchorNode) -> AnchorContext:
    base = header_base(core.view, node.id)
    assert base is not None
    assert base.fork_height == node.height
    return base.context


def test_headers_alone_give_what_the_bodies_give(core: ChainCore) -> None:
    point = point_of(core, core.tree.root)
    targets = set()
    for node in main_chain(core):
        point = extend(point, node.coin, header_of(node))
        assert point == point_of(core, node)
        targets.add(point.child_target)
    assert len(targets) > 3


def test_each_rule_of_headers_is_checked(core: ChainCore) -> None:
    below, node = main_chain(core)[4:6]
    point, header = point_of(core, below), header_of(node)

    def fails(error: type[Exception], **changes: object) -> None:
        changed = msgspec.structs.replace(node.coin.header, **changes)
        coin = Coin.assemble(changed, node.coin.mix)
        # The id is lucky whatever the header says: what is checked here comes after HIGH_HASH.
        coin = msgspec.structs.replace(coin, id=node.coin.id)
        with pytest.raises(error):
            extend(point, coin, header)

    fails(rules.BadVersionError, version=2)
    fails(rules.WrongChainError, chain_id=REG.chain_id)
    fails(rules.HighHashError, target=1)
    fails(rules.BadHeightError, height=node.height + 1)
    fails(rules.BadNTotalError, n_total=node.coin.header.n_total + 1)
    fails(rules.BadTargetError, target=node.coin.header.target - 1)
    fails(rules.TimeNotAfterParentError, time=below.coin.header.time)
    fails(rules.TimeTooNewError, time=NOW + NETWORK.future_limit_ms + 1)
    plain = msgspec.structs.replace(node.coin, id=node.coin.header.target.to_bytes(32, "big"))
    with pytest.raises(rules.NotAnchorError):
        extend(point, plain, header)
    many = msgspec.structs.replace(header.fresh, n=NETWORK.max_listed + 1)
    with pytest.raises(rules.TooManyCoinsError):
        extend(point, node.coin, msgspec.structs.replace(header, fresh=many))
    many = msgspec.structs.replace(header.transfers, n=NETWORK.max_transfers + 1)
    with pytest.raises(rules.TooManyTransfersError):
        extend(point, node.coin, msgspec.structs.replace(header, transfers=many))
    odd = msgspec.structs.replace(header, history_root=bytes(32))
    with pytest.raises(rules.BadHistoryRootError):
        extend(point, node.coin, odd)


def cut_at(
    headers: list[tuple[Coin, AnchorHeader]], size: int, ids: int = 1_000, weight: int = 8 << 20
) -> list[DownloadBatch]:
    return cut(headers, NETWORK, size=size, most_ids=ids, most_bytes=weight)


def batches_of(core: ChainCore, size: int = 2) -> list[DownloadBatch]:
    return cut_at([(node.coin, header_of(node)) for node in main_chain(core)], size)


def test_batches_are_cut_by_anchors_and_by_ids(core: ChainCore) -> None:
    headers = [(node.coin, header_of(node)) for node in main_chain(core)]
    for size, ids in ((5, 1_000), (100, 3), (1, 0)):
        batches = cut_at(headers, size, ids)
        assert [pair for batch in batches for pair in batch.headers] == headers
        assert [batch.number for batch in batches] == list(range(len(batches)))
        assert all(len(batch.headers) <= size for batch in batches)
    assert cut_at([], 5, 5) == []
    assert batches[-1].top == core.tip.height


def test_batches_are_cut_by_what_their_transfers_may_weigh(core: ChainCore) -> None:
    def with_transfers(header: AnchorHeader, n: int) -> AnchorHeader:
        digest = msgspec.structs.replace(header.transfers, n=n)
        return msgspec.structs.replace(header, transfers=digest)

    plain = [(node.coin, header_of(node)) for node in main_chain(core)]
    few = [(coin, with_transfers(header, 2)) for coin, header in plain]
    many = [(coin, with_transfers(header, 10_000)) for coin, header in plain]
    # Two transfers of 256 KiB weigh half of 1 MiB; no body has more than 4 MiB of them.
    assert {len(batch.headers) for batch in cut_at(few, 100, 10**6, 1 << 20)[:-1]} == {2}
    assert {len(batch.headers) for batch in cut_at(many, 100, 10**6, 12 << 20)[:-1]} == {3}
    assert len(cut_at(many, 100, 10**6, 1)) == len(many)


HEDGE_S = 2.0


def plan_of(core: ChainCore, size: int = 2, ahead: int = 4, window: int = 3) -> BodyPlan[str]:
    return BodyPlan(
        batches_of(core, size), ahead=ahead, first_window=1, window=window, hedge_s=HEDGE_S
    )


def ask(plan: BodyPlan[str], peer: str, now: float = 0.0) -> DownloadBatch:
    batch = plan.next_for(peer, now)
    assert batch is not None
    return batch


def deliver(plan: BodyPlan[str], batch: DownloadBatch, peer: str, now: float = 0.0) -> None:
    assert plan.arrived(batch, peer, now)
    plan.delivered(batch, peer)


def overtaken(core: ChainCore) -> tuple[BodyPlan[str], DownloadBatch]:
    """Return a plan whose only batch is asked of "a", and has come from "b"."""
    plan = plan_of(core, size=100)
    batch = ask(plan, "a")
    assert plan.next_for("b", 3) is batch
    assert plan.arrived(batch, "b", 4)
    return plan, batch


def test_a_plan_keeps_windows_and_reassigns(core: ChainCore) -> None:
    plan = plan_of(core)
    first = ask(plan, "a")
    assert first.number == 0
    assert plan.next_for("a", 0) is None
    second = ask(plan, "b")
    assert second.number == 1
    plan.failed(first, "a")
    assert ask(plan, "a").number == 2  # not what it failed at
    deliver(plan, second, "b")
    assert ask(plan, "b").number == 0  # the lowest first
    assert ask(plan, "b").number == 3  # its window has grown
    assert plan.next_for("c", 0) is None  # nothing more than `ahead` of what is connected
    assert plan.in_flight == 3
    assert not plan.is_done
    plan.took_in(0)
    assert ask(plan, "c").number == 4


def test_a_plan_is_stuck_when_everybody_failed(core: ChainCore) -> None:
    plan = plan_of(core)
    for peer in ("a", "b"):
        assert not plan.is_stuck(["a", "b"])
        plan.failed(ask(plan, peer), peer)
    assert plan.is_stuck(["a", "b"])
    assert not plan.is_stuck(["a", "b", "c"])


def test_who_has_nothing_to_do_is_asked_for_what_takes_long(core: ChainCore) -> None:
    plan = plan_of(core, size=100)
    batch = ask(plan, "silent")
    assert plan.look_again_at("silent") == math.inf
    assert plan.look_again_at("b") == HEDGE_S
    assert plan.next_for("b", HEDGE_S - 0.1) is None
    assert plan.next_for("b", HEDGE_S) is batch
    # One more each time, and nobody twice.
    assert plan.next_for("c", HEDGE_S) is None
    assert plan.look_again_at("c") == 2 * HEDGE_S
    assert plan.next_for("b", 2 * HEDGE_S) is None
    assert plan.next_for("c", 2 * HEDGE_S) is batch
    # The first to answer counts; while that is verified, nobody else is asked.
    assert plan.arrived(batch, "b", 5)
    assert plan.next_for("d", 100) is None
    assert plan.look_again_at("d") == math.inf
    assert not plan.arrived(batch, "c", 5)
    plan.delivered(batch, "b")
    assert plan.is_done
    assert not plan.arrived(batch, "silent", 6)
    plan.failed(batch, "silent")
    assert plan.is_done


def test_an_answer_that_is_not_sound_does_not_end_what_others_are_asked(core: ChainCore) -> None:
    plan, batch = overtaken(core)
    plan.failed(batch, "b")
    assert plan.in_flight == 1
    assert plan.next_for("b", 100) is None  # it has failed at it
    deliver(plan, batch, "a", 5)
    assert plan.is_done


def test_somebody_fails_while_anothers_answer_is_verified(core: ChainCore) -> None:
    plan, batch = overtaken(core)
    plan.failed(batch, "a")
    assert plan.next_for("c", 100) is None
    plan.delivered(batch, "b")
    assert plan.is_done


def test_what_is_usual_is_waited_for(core: ChainCore) -> None:
    plan = plan_of(core, size=1, ahead=2)
    slow = ask(plan, "a", 0)
    deliver(plan, slow, "a", 10)
    ask(plan, "a", 10)
    plan.next_for("b", 10)
    # A batch usually takes ten seconds here.
    assert plan.look_again_at("c") == 10 + HEDGE_FACTOR * 10


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_ends_if_anybody_delivers(core: ChainCore, seed: int) -> None:
    rng = random.Random(seed)
    plan = plan_of(core, size=1, ahead=3, window=4)
    count = len(batches_of(core, 1))
    taken: set[int] = set()
    asked: list[tuple[str, DownloadBatch]] = []
    verified: list[tuple[str, DownloadBatch]] = []
    for now in range(10_000):
        if plan.is_done:
            break
        peer = rng.choice(["good", "bad", "worse"])
        if (batch := plan.next_for(peer, now)) is not None:
            asked.append((peer, batch))
        if asked and rng.random() < 0.6:
            who, batch = asked.pop(rng.randrange(len(asked)))
            if who == "worse":
                plan.failed(batch, who)
            elif plan.arrived(batch, who, now):
                verified.append((who, batch))
        if verified and rng.random() < 0.6:
            who, batch = verified.pop(rng.randrange(len(verified)))
            if who == "bad":
                plan.failed(batch, who)
                continue
            plan.delivered(batch, who)
            assert batch.number not in taken
            taken.add(batch.number)
            lowest = next(n for n in range(count + 1) if n not in taken)
            if lowest:
                plan.took_in(lowest - 1)
    assert plan.is_done
    assert taken == set(range(count))


def test_progress_shows_rate_and_time_to_go() -> None:
    progress = SyncProgress(window_s=10)
    assert progress.rate() == 0
    assert progress.eta_s(100) is None
    for second in range(30):
        progress.note(float(second), 5 * second)
    assert progress.rate() == pytest.approx(5)
    assert progress.eta_s(29 * 5 + 50) == pytest.approx(10)
