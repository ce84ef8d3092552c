"""Every decoder is total and, where it is canonical, gives back what it read: on the corpus that
`scripts/fuzz` has found so far, and on some changes of it."""

from __future__ import annotations

import pytest

from tests.fuzz.command import draw, main
from tests.fuzz.target import FuzzTarget, NotTotalError
from tests.fuzz.targets import all_targets

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
