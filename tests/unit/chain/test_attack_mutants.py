"""Faults that no test found: each test here fails with one of them.

Two owners of whom one has not signed; only the first signature verified; a tip that is not synced;
a refusal one anchor too early; held coins without bound; transfers in another order after a
reorganisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.framework.attacks import fail_where_refused
from tests.framework.chains import open_core
from tests.framework.corechain import Chain
from tests.framework.forge import BACKEND, Forge, Forged, key_condition, key_lock, of, spend_key
from tests.framework.rules import rule_broken
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.held_coins import MAX_EARLY, MAX_ORPHANS, MAX_ORPHANS_OF_PARENT
from unchained.node.chain.results import Held
from unchained.node.chain.service import ChainService
from unchained.node.chain.template import build_template
from unchained.node.consensus.errors import TimeTooNewError, UnknownParentError
from unchained.node.consensus.params import REG
from unchained.node.consensus.transfers import (
    check_conditions,
    check_signatures,
    check_transfer_alone,
)
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.conditions import (
    Condition,
    HashTimeLockCondition,
    MultisigCondition,
)
from unchained.node.primitives.transfer import Input, SizedTransfer, output_id
from unchained.node.primitives.types import ZERO32, CoinId
from unchained.storage import schema
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryDisk, MemoryStore

FORGE = Forge(REG)
OWNERS = (0, 5, 7)
"""Keys of three coins of one transfer."""


def coin_of(key: int) -> CoinId:
    """Return the id of a coin of a key."""
    return CoinId(bytes([key + 1]) * 32)


def of_owners(*keys: int, signed_by: Sequence[int]) -> SizedTransfer:
    """Return a transfer of a coin of each key, signed by some."""
    sized = FORGE.transfer([(coin_of(key), key) for key in keys], [(1_000, 1)], sign=False)
    return FORGE.signed(sized.transfer, signed_by)


def judge(sized: SizedTransfer) -> None:
    """Judge all that needs no coin set."""
    check_transfer_alone(sized.transfer, REG)
    check_conditions(sized.transfer)
    check_signatures(sized)


# Two owners


def test_a_transfer_of_several_owners_is_signed_by_all() -> None:
    judge(of_owners(*OWNERS, signed_by=OWNERS))


@pytest.mark.parametrize("keys", [OWNERS, OWNERS[::-1], (5, 0, 7)])
@pytest.mark.parametrize("missing", OWNERS)
def test_each_owner_has_to_sign(keys: tuple[int, ...], missing: int) -> None:
    signers = [key for key in keys if key != missing]
    sized = of_owners(*keys, signed_by=signers)
    assert rule_broken(lambda: judge(sized)) == "CONDITION_UNMET"


@pytest.mark.parametrize("keys", [OWNERS, OWNERS[::-1]])
@pytest.mark.parametrize("signer", OWNERS)
def test_one_owner_does_not_sign_for_the_others(keys: tuple[int, ...], signer: int) -> None:
    sized = of_owners(*keys, signed_by=[signer])
    assert rule_broken(lambda: judge(sized)) == "CONDITION_UNMET"


@pytest.mark.parametrize("kind", ["multisig", "swap"])
@pytest.mark.parametrize("at", range(3))
def test_each_input_is_looked_at_whatever_its_condition(kind: str, at: int) -> None:
    """Inputs that one key signs for, and one of another kind that it does not."""
    hashes = [spend_key(key).key_hash for key in (5, 7)]
    other: Condition = (
        MultisigCondition(2, tuple(sorted(hashes)))
        if kind == "multisig"
        else HashTimeLockCondition(bytes(32), *hashes, 9)
    )
    inputs = [Input(coin_of(number), key_condition(0), ZERO32) for number in range(2)]
    inputs.insert(at, Input(coin_of(9), other.to_bytes(), ZERO32))
    plain = FORGE.transfer([(coin_of(0), 0)], [(1_000, 1)], sign=False).transfer
    transfer = msgspec.structs.replace(plain, inputs=tuple(inputs))
    assert rule_broken(lambda: judge(FORGE.signed(transfer, {0}))) == "CONDITION_UNMET"


# Every signature


@pytest.mark.parametrize("at", range(len(OWNERS)))
def test_each_signature_is_verified(at: int) -> None:
    sized = of_owners(*OWNERS, signed_by=OWNERS)
    signatures = list(sized.transfer.signatures)
    flipped = bytearray(signatures[at].signature)
    flipped[100] ^= 1
    signatures[at] = msgspec.structs.replace(signatures[at], signature=bytes(flipped))
    bad = of(msgspec.structs.replace(sized.transfer, signatures=tuple(signatures)))
    assert rule_broken(lambda: judge(bad)) == "BAD_SIGNATURE"


@pytest.mark.parametrize("at", range(len(OWNERS)))
def test_each_signature_is_of_this_transfer(at: int) -> None:
    sized = of_owners(*OWNERS, signed_by=OWNERS)
    other = FORGE.signed(msgspec.structs.replace(sized.transfer, lock_height=1), OWNERS)
    signatures = list(sized.transfer.signatures)
    signatures[at] = other.transfer.signatures[at]
    assert signatures[at].public_key == sized.transfer.signatures[at].public_key
    bad = of(msgspec.structs.replace(sized.transfer, signatures=tuple(signatures)))
    assert rule_broken(lambda: judge(bad)) == "BAD_SIGNATURE"


@pytest.mark.parametrize("at", range(2))
def test_each_signature_has_a_use(at: int) -> None:
    keys = sorted((0, 5), key=lambda key: spend_key(key).key_hash)
    sized = of_owners(keys[at], signed_by=keys)
    assert rule_broken(lambda: judge(sized)) == "UNUSED_SIGNATURE"


# What is on disk


class PowerCut(MemoryStore):
    """A store on a disk whose cache is lost with the power: what came after the last synced write.

    A synced write takes all before it along, as a log does.
    """

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__()
        self._durable = disk
        self.disk.values.update(disk.values)
        self._cached: list[dict[bytes, bytes | None]] = []

    def write(self, batch: Batch, *, sync: bool) -> None:
        """Apply a batch; with `sync` all batches so far are on the disk."""
        self._cached.append(dict(batch.changes))
        super().write(batch, sync=sync)
        if not sync:
            return
        for changes in self._cached:
            for key, value in changes.items():
                if value is None:
                    self._durable.values.pop(key, None)
                else:
                    self._durable.values[key] = value
        self._cached.clear()


class Cut(Chain):
    """A chain whose machine may lose its power at any moment."""

    def store(self) -> PowerCut:
        return PowerCut(self.disk)

    def after_a_cut(self) -> tuple[bytes, int]:
        """Return the tip, and its height, that a node finds when the power is back."""
        core = open_core(PowerCut(self.disk), self.forge.network, self._running_ms)
        return core.tip.id, core.tip.height

    def is_on_disk(self) -> None:
        assert self.after_a_cut() == (self.core.tip.id, self.core.tip.height)


def test_a_tip_is_on_disk_when_it_is_told() -> None:
    chain = Cut()
    step = chain.genesis
    for _ in range(4):
        step = chain.grow(step, 1)
        chain.is_on_disk()
    # So is the tip that a vote makes, and one further down.
    rival = chain.take(chain.forge.anchor(step.chain()[-3]))
    chain.is_on_disk()
    chain.vote(rival, 9)
    assert chain.core.tip.id == rival.id
    chain.is_on_disk()


@pytest.mark.parametrize("count", [1, 3])
def test_tips_of_a_bulk_are_on_disk_when_it_ends(count: int) -> None:
    chain = Cut()
    chain.core.begin_bulk()
    chain.grow(chain.genesis, count)
    chain.core.end_bulk()
    chain.is_on_disk()
    chain.grow(chain.take(chain.forge.anchor(chain.genesis)), count + 2)
    chain.is_on_disk()


# MAX_REORG

DEPTH = 4
SHALLOW = msgspec.structs.replace(REG, max_reorg=DEPTH, window=3)
SETTLED_MS = SHALLOW.max_reorg * SHALLOW.epoch_ms


def forked(depth: int, age_ms: int) -> tuple[Chain, Forged, Forged]:
    """Return a chain of such a depth above a fork, as old as that, its tip, and a rival."""
    chain = Chain(SHALLOW)
    chain.step_ms = 0
    fork = chain.grow(chain.genesis, 2)
    rival = chain.take(chain.forge.anchor(fork))
    chain.take(old := chain.forge.anchor(fork))
    chain.vote(old, 4)
    tip = chain.grow(old, depth - 1)
    assert chain.core.tip.id == tip.id
    chain.ran_ms += age_ms
    return chain, tip, rival


@pytest.mark.parametrize("age_ms", [0, SETTLED_MS, 100 * SETTLED_MS])
@pytest.mark.parametrize("depth", [DEPTH - 1, DEPTH])
def test_max_reorg_anchors_are_undone_however_old(
    depth: int, age_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, _, rival = forked(depth, age_ms)
    fail_where_refused(chain.core, monkeypatch)
    chain.vote(rival, 20)
    assert chain.core.tip.id == rival.id
    assert chain.core.refused is None


@pytest.mark.parametrize("age_ms", [SETTLED_MS - 1, SETTLED_MS])
def test_more_are_left_to_the_operator_when_they_are_old(age_ms: int) -> None:
    chain, tip, rival = forked(DEPTH + 1, age_ms)
    fork_height = rival.height - 1
    assert chain.core.may_undo_from(fork_height + 1)
    assert chain.core.may_undo_from(fork_height) == (age_ms < SETTLED_MS)
    # By itself nothing comes of votes that are so far below.
    vote = chain.forge.coin(rival)
    assert rule_broken(lambda: chain.coin(vote)) in {"STALE_PARENT", "UNKNOWN_PARENT"}
    assert chain.core.tip.id == tip.id


# Held coins


async def hold(service: ChainService, coins: Sequence[Coin]) -> None:
    """Submit coins that have to wait: they are held, or turned away where there is no room."""
    for coin in coins:
        with suppress(UnknownParentError, TimeTooNewError):
            assert isinstance(await service.submit_coin(coin), Held)


async def with_service(forge: Forge, nursery: trio.Nursery) -> ChainService:
    """Return a running chain at the forge's time."""
    service = await ChainService.open(
        MemoryStore(),
        forge.network,
        clock=TrioClock(forge.now_ms),
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=1,
        backend=BACKEND,
        log=structlog.wrap_logger(
            structlog.ReturnLogger(),
            wrapper_class=structlog.make_filtering_bound_logger("critical"),
        ),
    )
    await nursery.start(service.run)
    return service


def test_coins_that_wait_for_parents_are_bounded() -> None:
    forge = Forge(REG)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            service = await with_service(forge, nursery)
            hidden = [forge.anchor(forge.genesis) for _ in range(6)]
            one_parent = [forge.forged_mix(hidden[0]) for _ in range(MAX_ORPHANS_OF_PARENT + 50)]
            await hold(service, one_parent)
            assert 0 < service.statistics().orphans <= MAX_ORPHANS_OF_PARENT
            many = [forge.forged_mix(hidden[at % 6]) for at in range(MAX_ORPHANS + 100)]
            await hold(service, many)
            assert 0 < service.statistics().orphans <= MAX_ORPHANS
            assert len(service.awaited_anchors()) <= len(hidden)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_coins_that_wait_for_their_time_are_bounded() -> None:
    forge = Forge(REG)
    time = forge.now_ms + REG.future_limit_ms + 60_000

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            service = await with_service(forge, nursery)
            coins = [forge.coin(forge.genesis, time=time + at) for at in range(MAX_EARLY + 50)]
            await hold(service, coins)
            assert 0 < service.statistics().early <= MAX_EARLY
            # All that is held is judged when its time has come.
            await trio.sleep(120)
            assert service.statistics().early == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


# Transfers that a reorganisation undoes


@pytest.mark.parametrize("restarting", [False, True])
def test_undone_transfers_wait_in_the_order_in_which_they_were(restarting: bool) -> None:
    """Those of the lowest anchor first, each in its place; then what waited already, by arrival."""
    chain = Chain()
    forge = chain.forge
    rich = [forge.coin(chain.genesis) for _ in range(10)]
    for coin in rich:
        chain.coin(coin)
    base = chain.grow(chain.take(forge.anchor(chain.genesis, rich)), REG.maturity)
    value = REG.subsidy
    assert all(base.unspent[coin.id].lock == key_lock(0) for coin in rich)
    # All pay alike, so that nothing but their order decides. By id they come in another.
    one, two, three, four, first, second, third = (
        chain.pay(coin.id, value) for coin in sorted(rich, key=lambda coin: coin.id)[:7]
    )
    for waiting in (second, first, third):
        chain.add_transfer(waiting)
    low = chain.take(forge.anchor(base, transfers=[two, one]))
    high = chain.take(forge.anchor(low, transfers=[four, three]))
    assert chain.core.tip.id == high.id
    rival = chain.take(forge.anchor(base))
    chain.vote(rival, 9)
    assert chain.core.tip.id == rival.id
    if restarting:
        chain.restart()
    wanted = [sized.wid for sized in (two, one, four, three, second, first, third)]
    assert list(build_template(chain.core, chain.now_ms).body.transfers) == wanted
    # And a body of them in that order is one that can be connected.
    anchor = chain.take(forge.anchor(rival, transfers=[two, one, four, three]))
    assert chain.core.tip.id == anchor.id


def test_undone_transfers_that_build_on_one_another_wait_again() -> None:
    chain = Chain()
    forge = chain.forge
    base = chain.grow(chain.grow(chain.genesis, 1), REG.maturity)
    coin = base.chain()[1].id
    steps = [chain.pay(coin, REG.subsidy, to=0)]
    for _ in range(4):
        output = steps[-1].transfer.outputs[0].value
        steps.append(chain.pay(_output(steps[-1]), output, to=0))
    low = chain.take(forge.anchor(base, transfers=steps[:2]))
    high = chain.take(forge.anchor(low, transfers=steps[2:4]))
    chain.add_transfer(steps[4])
    assert chain.core.tip.id == high.id
    rival = chain.take(forge.anchor(base))
    chain.vote(rival, 9)
    assert chain.core.tip.id == rival.id
    wids = [sized.wid for sized in steps]
    assert list(build_template(chain.core, chain.now_ms).body.transfers) == wids
    chain.events_fit()
    chain.restart()
    assert list(build_template(chain.core, chain.now_ms).body.transfers) == wids
    assert {wid for wid, _ in schema.MEMPOOL.scan(chain.core.store)} == set(wids)


def _output(sized: SizedTransfer) -> CoinId:
    return output_id(sized.txid, 0)
