"""A corpus grows by inputs that reach something new, without any tool."""

from __future__ import annotations

from tests.fuzz.growing import changed, grow, steps_of
from tests.fuzz.target import FuzzTarget
from tests.fuzz.targets import all_targets


def decode(raw: bytes) -> int:
    found = 0
    if raw[:1] == b"a":
        found = 1
        if len(raw) > 3:
            found = 2
    return found


HERE = ("test_growing",)


def test_steps_tell_which_way_an_input_went() -> None:
    target = FuzzTarget("lines", decode, (), lambda: ())
    nothing, one, two = (steps_of(target, raw, HERE) for raw in (b"", b"a", b"abcd"))
    assert nothing != one
    assert len(two - one - nothing) == 2
    assert steps_of(target, b"xyz", HERE) == nothing


def test_what_takes_a_new_step_is_kept_once() -> None:
    target = FuzzTarget("lines", decode, (), lambda: (b"a", b"", b"aaaa"))
    assert grow(target, 0, 1, HERE) == []


def test_a_kept_corpus_is_weighed_again() -> None:
    target = all_targets()["contract"]
    kept = grow(target, 0, 1)
    assert set(kept) <= {b"", *target.corpus()}


def test_changes_are_what_they_are_called() -> None:
    assert changed(b"abcd", [(("set", 1), b"xy")]) == b"axyd"
    assert changed(b"abcd", [(("insert", 5), b"x")]) == b"xabcd"
    assert changed(b"abcd", [(("delete", 1), b"xy")]) == b"ad"
    assert changed(b"abcd", [(("cut", 2), b"x")]) == b"ab"
    assert changed(b"abcd", [(("repeat", 4), b"xy")]) == b"abcdcd"
