"""Many anchors at once: in which runs they are verified, and what is done with each of these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

import pytest

from tests.framework.forge import Forge, Forged
from unchained.node.base.clock import TrioClock
from unchained.node.chain import chain_intake
from unchained.node.chain.chain_intake import ChainIntake, _runs
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import (
    Held,
    NeedsProof,
    Outcome,
    Package,
    ProvenAnchor,
    ProvenCoin,
)
from unchained.node.chain.verifier import Verifier
from unchained.node.chain.writer import ChainWriter
from unchained.node.consensus.errors import BadMixError, ProtocolError, StaleParentError
from unchained.node.consensus.params import REG
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid

T = TypeVar("T")

FORGE = Forge()
FIRST = FORGE.anchor(FORGE.genesis)


def package(transfers: int = 0, anchor: Forged = FIRST) -> Package:
    """Return an anchor that brings so many transfers."""
    raws = {Wid(number.to_bytes(32, "big")): b"raw" for number in range(transfers)}
    return Package(anchor.coin, anchor.body, {}, raws)


def lengths(counts: Sequence[int]) -> list[list[int]]:
    """Return by how many transfers each has the runs of packages with so many."""
    runs = list(_runs([package(count) for count in counts]))
    return [[len(one.transfers) for one in run] for run in runs]


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([], []),
        ([0], [[0]]),
        ([255, 0, 1, 7], [[255, 0, 1], [7]]),
        ([256, 257, 3], [[256], [257], [3]]),
        ([256, 255, 1], [[256], [255, 1]]),
        ([256, 256], [[256], [256]]),
        ([256, 256, 1], [[256], [256], [1]]),
        ([100, 100, 100, 255, 1], [[100, 100, 100], [255, 1]]),
    ],
)
def test_a_run_ends_with_enough_transfers(counts: list[int], wanted: list[list[int]]) -> None:
    assert chain_intake.RUN_TRANSFERS == 256
    assert lengths(counts) == wanted


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(1, [1]), (63, [63]), (64, [64]), (65, [64, 1]), (128, [64, 64]), (130, [64, 64, 2])],
)
def test_a_run_ends_with_enough_anchors(count: int, wanted: list[int]) -> None:
    assert chain_intake.RUN_ANCHORS == 64
    assert [len(run) for run in lengths([0] * count)] == wanted


def test_a_run_of_enough_anchors_begins_to_count_transfers_anew() -> None:
    runs = lengths([4] * 63 + [3, 252, 4])
    assert [len(run) for run in runs] == [64, 2]


class Recorder:
    """Writer, core, verifier and single intake in one: writes down what it is asked to do."""

    def __init__(self, forged: Collection[CoinId] = (), stops: int | None = None) -> None:
        self.forged = forged
        self.stops = stops
        """After how many anchors the writer finds that one breaks a rule."""
        self.done: list[Any] = []
        self.needs_proof = True

    # The writer, and the chain behind it

    async def call(self, work: Callable[[ChainCore], T]) -> T:
        return work(cast("ChainCore", self))

    def choose_now(self) -> None:
        self.done.append("choose")

    def submit_chain(
        self, anchors: Sequence[ProvenAnchor], now_ms: int
    ) -> tuple[int, ProtocolError | None]:
        self.done.append(("chain", len(anchors), now_ms))
        if self.stops is not None and len(anchors) > self.stops:
            return self.stops, StaleParentError(expected="", actual="")
        return len(anchors), None

    def submit_coin(self, coin: Any, now_ms: int | None = None, **_: object) -> Any:
        if now_ms is None:
            return self._submit_single(coin)
        self.done.append(("coin", coin.id, now_ms))
        return NeedsProof((coin,)) if self.needs_proof else Outcome.KNOWN

    # The verifier

    async def find_forged(self, coins: Sequence[Coin]) -> CoinId | None:
        self.done.append(("find forged", [coin.id for coin in coins]))
        return next((coin.id for coin in coins if coin.id in self.forged), None)

    async def verify_mixes(self, coins: Sequence[Coin]) -> None:
        self.done.append(("verify", [coin.id for coin in coins]))
        if any(coin.id in self.forged for coin in coins):
            raise BadMixError(expected="", actual="")

    # The single intake

    async def _submit_single(self, coin: ProvenCoin) -> Outcome | Held:
        self.done.append(("single", coin.coin.id))
        return Outcome.ACCEPTED

    async def submit_package(self, package: Package) -> Outcome:
        self.done.append(("package", package.anchor.id))
        if set(package.coins) & set(self.forged):
            raise BadMixError(expected="", actual="")
        return Outcome.ACCEPTED

    async def validate_transfers(self, transfers: Mapping[Wid, bytes]) -> None:
        self.done.append(("transfers", sorted(transfers)))


def intake_of(recorder: Recorder) -> ChainIntake:
    single = cast("chain_intake.SingleIntake", recorder)
    return ChainIntake(
        REG,
        cast("ChainWriter", recorder),
        cast("Verifier", recorder),
        single,
        clock=TrioClock(7_000_000),
    )


def chain_of(count: int) -> list[Forged]:
    """Return so many anchors, each of which lists a coin."""
    anchors: list[Forged] = []
    parent = FORGE.genesis
    for _ in range(count):
        parent = FORGE.anchor(parent, [FORGE.coin(parent)])
        anchors.append(parent)
    return anchors


async def test_nothing_is_nothing() -> None:
    recorder = Recorder()
    assert await intake_of(recorder).submit([], ()) == (0, None)
    assert recorder.done == []


async def test_what_a_run_holds_is_verified_before_it_is_submitted() -> None:
    first, second = chain_of(2)
    packages = [first.package(), second.package()]
    packages[1].transfers[Wid(bytes(32))] = b"raw"  # type: ignore[index]
    listed = second.body.fresh[0]
    recorder = Recorder()
    assert await intake_of(recorder).submit(packages, {first.id, *first.body.fresh}) == (2, None)
    assert recorder.done == [
        ("find forged", [second.id, listed]),
        ("transfers", [bytes(32)]),
        # Choices that were put off come before: who submits hears what its own anchors break.
        "choose",
        ("chain", 2, 7_000_000),
    ]


async def test_the_next_run_is_verified_while_one_is_submitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain_intake, "RUN_ANCHORS", 1)
    anchors = chain_of(3)
    recorder = Recorder()
    packages = [anchor.package() for anchor in anchors]
    assert await intake_of(recorder).submit(packages, ()) == (3, None)
    looked_at = [each[1][0] for each in recorder.done if each[0] == "find forged"]
    assert looked_at == [anchor.id for anchor in anchors]
    assert recorder.done.count(("chain", 1, 7_000_000)) == 3


async def test_what_comes_after_a_broken_rule_is_not_submitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain_intake, "RUN_ANCHORS", 2)
    packages = [anchor.package() for anchor in chain_of(6)]
    recorder = Recorder(stops=1)
    done, error = await intake_of(recorder).submit(packages, ())
    assert (done, type(error)) == (1, StaleParentError)
    assert [each for each in recorder.done if each[0] == "chain"] == [("chain", 2, 7_000_000)]


@pytest.mark.parametrize("needs_proof", [True, False])
async def test_a_forged_anchor_goes_the_ordinary_way_for_the_rule_that_it_breaks(
    monkeypatch: pytest.MonkeyPatch, needs_proof: bool
) -> None:
    monkeypatch.setattr(chain_intake, "RUN_ANCHORS", 2)
    anchors = chain_of(5)
    bad = anchors[3]
    recorder = Recorder({bad.id})
    recorder.needs_proof = needs_proof
    packages = [anchor.package() for anchor in anchors]
    done, error = await intake_of(recorder).submit(packages, ())
    tail = recorder.done[recorder.done.index(("coin", bad.id, 7_000_000)) :]
    if needs_proof:
        # Its own mix is forged: it goes no further.
        assert (done, type(error)) == (3, BadMixError)
        assert tail == [("coin", bad.id, 7_000_000), ("verify", [bad.id])]
    else:
        # Its coin is known already, and its body turns out to be sound.
        assert (done, error) == (3, None)
        assert tail == [("coin", bad.id, 7_000_000), ("package", bad.id)]
    assert ("chain", 1, 7_000_000) in recorder.done


async def test_an_anchor_that_lists_a_forged_coin_is_submitted_with_its_own_coin_first() -> None:
    good, bad = chain_of(2)
    listed = CoinId(bad.body.fresh[0])
    recorder = Recorder({listed})
    packages = [good.package(), bad.package()]
    packages[1].transfers[Wid(bytes(32))] = b"raw"  # type: ignore[index]
    done, error = await intake_of(recorder).submit(packages, ())
    assert (done, type(error)) == (1, BadMixError)
    assert recorder.done[1:] == [
        # Of what comes with the forged anchor nothing is validated.
        ("transfers", []),
        "choose",
        ("chain", 1, 7_000_000),
        ("coin", bad.id, 7_000_000),
        ("verify", [bad.id]),
        ("single", bad.id),
        ("package", bad.id),
    ]


async def test_no_proof_is_looked_at_from_an_anchor_on_that_lists_what_is_out_of_place() -> None:
    (good,) = chain_of(1)
    bad = FORGE.anchor(good, [FORGE.coin(good), FORGE.coin(FORGE.genesis)])
    beyond = FORGE.anchor(bad, [FORGE.coin(bad)])
    recorder = Recorder()
    packages = [anchor.package() for anchor in (good, bad, beyond)]
    _, error = await intake_of(recorder).submit(packages, ())
    # Also where the ordinary way says nothing: what is invalid here already is only known there.
    assert isinstance(error, ProtocolError)
    assert recorder.done[0] == ("find forged", [good.id, *good.body.fresh])
    # By the ordinary way the chain says which rule it breaks first.
    assert recorder.done[-1] == ("package", bad.id)
    assert ("coin", beyond.id, 7_000_000) not in recorder.done
