"""Every decoder is total and, where it is canonical, gives back what it read: on the corpus that
`scripts/fuzz` has found so far, and on some changes of it."""

from __future__ import annotations

import pytest

from tests.fuzz import targets
from tests.fuzz.command import draw, main
from tests.fuzz.replay import replay
from tests.fuzz.target import Bound, FuzzTarget, NotTotalError
from tests.fuzz.targets import all_targets
from unchained.node.primitives import amounts

TARGETS = all_targets()


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_is_total_on_its_corpus(name: str) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())
    assert seeds, "a target begins with something"
    for raw in (b"", *seeds, *target.corpus()):
        target.check(raw)
    draw(target, target.draws, seed=1)


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].encode is not None])
def test_a_canonical_decoder_accepts_its_seeds(name: str) -> None:
    target = TARGETS[name]
    assert any(target.check(raw) for raw in target.seeds())


def test_each_target_has_a_corpus() -> None:
    """`scripts/fuzz NAME` makes one."""
    assert [name for name, target in TARGETS.items() if not target.corpus()] == []


BOUNDS = [(target, bound) for target in TARGETS.values() for bound in target.bounds]


@pytest.mark.parametrize(
    ("target", "bound"), BOUNDS, ids=[f"{target.name}, {bound.what}" for target, bound in BOUNDS]
)
def test_a_decoder_accepts_what_its_bound_allows_and_no_more(
    target: FuzzTarget, bound: Bound
) -> None:
    allowed, beyond = bound.make(bound.most), bound.make(bound.most + 1)
    value = target.outcome(allowed)
    assert not isinstance(value, target.refusals), value
    assert bound.size(allowed, value) == bound.most
    assert not target.check(beyond)


def test_what_accepts_more_than_its_bound_is_told() -> None:
    bound = Bound("bytes", 7, lambda raw, _: len(raw), bytes)
    faulty = FuzzTarget("faulty", bytes, (), lambda: (bytes(7),), bounds=(bound,))
    assert faulty.check(bound.make(7))
    with pytest.raises(NotTotalError, match=r"faulty accepts 8 bytes, at most 7 may be"):
        faulty.check(bound.make(8))
    with pytest.raises(NotTotalError, match="faulty accepts"):
        draw(faulty, 200, seed=1)


@pytest.mark.parametrize("check", ["grains_of", "check_amount"])
def test_an_amount_that_there_cannot_be_is_told(
    check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amounts, "MAX_AMOUNT", 2**100)
    if check == "check_amount":
        monkeypatch.setattr(targets, "MAX_AMOUNT", 2**100)
    with pytest.raises(NotTotalError, match="amount"):
        replay([TARGETS["amount"]])


def test_what_is_not_total_is_told() -> None:
    def decode(raw: bytes) -> object:
        return raw[7]

    faulty = FuzzTarget("faulty", decode, (ValueError,), lambda: (bytes(8),))
    with pytest.raises(NotTotalError, match="faulty of"):
        draw(faulty, 200, seed=1)


def test_what_gives_back_other_bytes_is_told() -> None:
    faulty = FuzzTarget("faulty", bytes, (), lambda: (b" 1",), lambda value: value.strip())
    with pytest.raises(NotTotalError, match="gives back"):
        faulty.check(b" 1")


def test_an_unknown_target_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["nothing"])
    assert refused.value.code == 2
    assert "no target 'nothing'; there are: coin, body" in capsys.readouterr().err
