"""What is wrong with a parameter is said in words, of every parameter that there is."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest

from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.core.values import Amount, Hash, Hex, Secret, decode
from unchained.node.rpc.core.wrong_values import in_words
from unchained.node.rpc.methods.rooms import ROOMS

NONE_OF_THEM: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**53, 2**70, -1.5, 1e300, "", "a/b", "é", "x" * 20_000, {}, {"x": 1}),
    *([], ["x"], [1] * 2000, ["a/b"] * 2000, [{}], [{"payee": ""}], [{"payee": "x", "nope": 1}]),
)
"""Values of which each is wrong for most parameters."""

PLACE = re.compile(r" - at `[a-z0-9_]+(\[[0-9]+\])?(\.[a-z]+)?`$")
NOTATION = re.compile(r"[`^\\]|regex|NoneType|\b(dict|str|int|bool|float|array)\b")
"""What only who knows Python and the decoder reads."""


class Order(StrEnum):
    UP = "up"
    DOWN = "down"


class Member(msgspec.Struct, forbid_unknown_fields=True):
    payee: Annotated[str, msgspec.Meta(min_length=1)]
    amount: Amount | None = None


SHORT = Annotated[str, msgspec.Meta(min_length=1, max_length=3)]
FEW = Annotated[list[int], msgspec.Meta(max_length=2)]
CODE = Annotated[str, msgspec.Meta(pattern="^[a-z]{3}$", extra={"expected": "3 small letters"})]


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "5", "expected a whole number, got '5'"),
        (Annotated[int, msgspec.Meta(ge=1, le=9)], 0, "expected a whole number from 1 to 9, got 0"),
        (Annotated[int, msgspec.Meta(ge=1)] | None, 0, "expected a whole number of at least 1"),
        (Annotated[float, msgspec.Meta(ge=0.1, le=604_800)], 0, "a number from 0.1 to 604800, got"),
        (Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], 2**70, "a number that is too large"),
        (str, None, "expected a text, got null"),
        (SHORT, "x" * 99, "expected a text of 1 to 3 characters, got a text of 99 characters"),
        (SHORT | None, "", "expected a text of 1 to 3 characters, got an empty one"),
        (CODE, "a/b", "expected 3 small letters, got 'a/b'"),
        (CODE | int, [], "expected 3 small letters or a whole number, got an empty list"),
        (list[CODE], ["abc", "x"], "expected 3 small letters, got 'x' - at `[1]`"),
        (FEW, [1] * 3, "expected a list of at most 2 entries, got a list of 3"),
        (Order, "left", "expected up or down, got 'left'"),
        (Literal["a", "b", "c"], "d", "expected a, b or c, got 'd'"),
        (Literal["debug", "info"], "inof", "got 'inof'; did you mean \"info\"?"),
        (Order | None, "Down", "expected up or down, got 'Down'; did you mean \"down\"?"),
        (list[Literal["debug", "info"]], ["infoo"], '; did you mean "info"? - at `[0]`'),
        (bool, 1, "expected true or false, got 1"),
        (list[Member], [{}], "the member 'payee' is missing, expected an object with payee, am"),
        (list[Member], [{"payee": "x", "to": 1}], "there is no member 'to', expected an object"),
        (list[Member], [{"payee": ""}], "is not empty, got an empty one - at `[0].payee`"),
        (Member, {"payee": "x", "amount": True}, 'in UNC, as "1.5", got true - at `amount`'),
        (Hash, "AB", "expected 64 lower-case hex digits, got 'AB'"),
        (Hex, "0", "expected pairs of lower-case hex digits, got '0'"),
        (Secret, 5, "expected a text, got a number"),
    ],
)
def test_a_wrong_value_is_told_in_words(kind: Any, value: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind, dec_hook=decode)
    assert said in in_words(str(caught.value), kind, value)


def test_what_may_be_a_secret_is_not_repeated() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert("sesame", int)
    assert in_words(str(caught.value), int, "sesame", quote=False) == (
        "expected a whole number, got a text"
    )


def test_no_error_of_any_parameter_takes_notation_to_read() -> None:
    for name, method in Registry(*ROOMS).items():
        for parameter in method.parameters:
            for value in NONE_OF_THEM:
                required = {p.name: "x" for p in method.parameters if p.required}
                alone = msgspec.defstruct("Alone", [(parameter.name, parameter.kind)])
                try:
                    msgspec.convert({parameter.name: value}, alone, dec_hook=decode)
                except msgspec.ValidationError:
                    pass
                else:
                    continue
                # it may be another one that the error is of: each has its turn
                with pytest.raises(InvalidParamsError) as caught:
                    method.check(required | {parameter.name: value})
                assert "\n" not in caught.value.message
                said = PLACE.sub("", caught.value.message)
                assert NOTATION.search(said) is None, (name, said)
