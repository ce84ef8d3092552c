"""Programs of networks, drawn at random and written by hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from tests.framework.programs.steps import Operation, Program, Step

MOST_STEPS: Final = 24

_SMALL = st.integers(0, 3)
_ANY = st.integers(0, 255)
_OPERAND = st.one_of(st.just(0), _SMALL, _ANY)
_SELDOM = st.one_of(st.just(0), st.just(0), _ANY)
"""What is forged: as a rule nothing."""


def programs() -> st.SearchStrategy[Program]:
    """Return a strategy of programs; they shrink to fewer steps and to zeros."""
    steps = st.lists(_steps(), max_size=MOST_STEPS)
    return st.builds(Program, st.integers(0, 3), steps, _OPERAND)


def _steps() -> st.SearchStrategy[Step]:
    usual = (Operation.COIN, Operation.COIN, Operation.ANCHOR, Operation.ANCHOR)
    return st.sampled_from((*usual, *Operation)).flatmap(_step_of)


def _step_of(operation: Operation) -> st.SearchStrategy[Step]:
    drawn = [_SELDOM if name == "fault" else _OPERAND for name in operation.value]
    return st.tuples(*drawn).map(lambda operands: Step(operation, operands))


NETWORKS: Final = Path(__file__).parent / "networks"
"""Programs that were written by hand, each with what it is about."""


@cache
def written() -> dict[str, Program]:
    """Return the programs that were written by hand, by name."""
    return {
        path.stem: Program.from_text(path.read_text())
        for path in sorted(NETWORKS.glob("*.program"))
    }
