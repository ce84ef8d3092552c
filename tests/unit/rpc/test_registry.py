"""Methods: how they are described, and how their parameters are checked."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from trio.testing import trio_test

from tests.framework.rpc_server import Paid, SampleRoom
from unchained.node.base.vocabulary import RENAMINGS, Named, Renaming
from unchained.node.rpc.core.errors import InvalidParamsError, MethodNotFoundError, NotFoundError
from unchained.node.rpc.core.registry import Access, Registry, method
from unchained.node.rpc.core.values import Amount
from unchained.node.rpc.methods.rooms import ROOMS

HASH = "ab" * 32


@pytest.fixture
def registry() -> Registry:
    return Registry(SampleRoom())


@trio_test
async def test_parameters_go_by_name_or_position(registry: Registry) -> None:
    expected = Paid(txid=bytes.fromhex(HASH), value=Amount(150_000_000), note=b"")  # type: ignore[arg-type]
    pay = registry.find("test.pay")
    assert await pay.call({"txid": HASH, "value": "1.5"}) == expected
    assert await pay.call([HASH, "1.50"]) == expected
    assert await registry.find("test.height").call([5, 2]) == 7
    assert await registry.find("test.height").call({"height": 5}) == 6


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("test.pay", {}, "needs the parameter 'txid'"),
        ("test.pay", [HASH], "needs the parameter 'value'"),
        ("test.pay", {"txid": HASH, "valu": 1}, 'did you mean "value"?'),
        ("test.pay", {"txid": HASH, "value": "1", "zzzz": 1}, "it has txid, value, note"),
        ("test.pay", {"txid": HASH, "value": "1", "x" * 5000: 1}, "it has txid, value, note"),
        ("test.pay", [HASH, "1", "", 4], "has 3 parameters, not 4"),
        ("test.pay", [HASH, 1.5], "got 1.5"),
        ("test.pay", ["AB", "1"], "expected 64 lower-case hex digits, got 'AB' - at `txid`"),
        ("test.pay", [5, "1"], "got 5"),
        ("test.height", [1.0], "expected a whole number of at least 0, got 1.0 - at `height`"),
        ("test.height", ["1"], "got '1' - at `height`"),
        ("test.height", [True], "got true"),
        ("test.height", [-1], "at least 0, got -1"),
        ("test.height", [None], "got null"),
        ("test.bug", [1], "it takes none"),
    ],
)
@trio_test
async def test_wrong_parameters_are_named(
    registry: Registry, name: str, params: Any, message: str
) -> None:
    with pytest.raises(InvalidParamsError) as caught:
        await registry.find(name).call(params)
    assert message in caught.value.message
    assert name in caught.value.message
    assert len(caught.value.message) < 400


@trio_test
async def test_a_secret_is_not_repeated(registry: Registry) -> None:
    with pytest.raises(InvalidParamsError) as caught:
        await registry.find("test.unlock").call(["sesame", "sesame"])
    assert "sesame" not in caught.value.message


def test_an_unknown_method_names_its_neighbour(registry: Registry) -> None:
    with pytest.raises(MethodNotFoundError, match=r'did you mean "test\.height"'):
        registry.find("test.hight")
    with pytest.raises(MethodNotFoundError, match=r"rpc\.discover"):
        registry.find("x" * 100_000)


def test_a_method_describes_itself(registry: Registry) -> None:
    height = registry["test.height"]
    assert height.access is Access.READ
    assert height.summary == "Return the height after `height`."
    assert height.description == "A second paragraph says more."
    assert height.errors == (NotFoundError,)
    assert [(p.name, p.required) for p in height.parameters] == [("height", True), ("step", False)]
    assert not height.secret
    assert registry["test.unlock"].secret
    assert list(registry) == sorted(registry)
    assert len(registry) == len(list(registry))


def test_the_class_alone_is_enough_to_describe() -> None:
    assert list(Registry(SampleRoom)) == list(Registry(SampleRoom()))


class NoDocstring:
    @method("bad.one", Access.PUBLIC)
    async def one(self) -> None: ...


class NoResult:
    @method("bad.one", Access.PUBLIC)
    async def one(self):  # type: ignore[no-untyped-def]
        """Do."""


class NoAnnotation:
    @method("bad.one", Access.PUBLIC)
    async def one(self, value) -> None:  # type: ignore[no-untyped-def]
        """Do."""


class Variadic:
    @method("bad.one", Access.PUBLIC)
    async def one(self, *values: int) -> None:
        """Do."""


@pytest.mark.parametrize(
    ("rooms", "message"),
    [
        ((NoDocstring,), "no user_text"),
        ((NoResult,), "what it returns"),
        ((NoAnnotation,), "no annotation"),
        ((Variadic,), "cannot be given by name"),
        ((SampleRoom, SampleRoom), "two methods"),
    ],
)
def test_a_badly_written_method_is_refused(rooms: tuple[type, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Registry(*rooms)


NODE = Registry(*ROOMS)


def renamed(named: Named) -> list[Renaming]:
    return [row for row in RENAMINGS if row.named is named]


@pytest.mark.parametrize("row", renamed(Named.METHOD), ids=lambda row: row.old)
def test_an_old_name_of_a_method_leads_to_the_new_one(row: Renaming) -> None:
    assert row.new in NODE
    with pytest.raises(MethodNotFoundError) as caught:
        NODE.find(row.old)
    assert caught.value.message == f"there is no method '{row.old}': it is called \"{row.new}\""


OLD_PARAMETERS = [
    (row, name)
    for row in renamed(Named.PARAMETER)
    for name, found in NODE.items()
    if fnmatchcase(name, row.where) and any(p.name == row.new for p in found.parameters)
]


def test_every_old_parameter_belonged_to_something_that_has_the_new_one() -> None:
    missing = set(renamed(Named.PARAMETER)) - {row for row, _ in OLD_PARAMETERS}
    assert [row.where for row in missing] == ["Payment"]


@pytest.mark.parametrize(("row", "name"), OLD_PARAMETERS, ids=lambda value: str(value)[:40])
def test_an_old_name_of_a_parameter_leads_to_the_new_one(row: Renaming, name: str) -> None:
    assert row.old not in [parameter.name for parameter in NODE[name].parameters]
    with pytest.raises(InvalidParamsError) as caught:
        NODE[name].check({row.old: "x"})
    assert caught.value.message.endswith(
        f"{name} has no parameter '{row.old}': it is called \"{row.new}\""
    )


def test_an_old_name_inside_a_parameter_leads_to_the_new_one() -> None:
    with pytest.raises(InvalidParamsError, match=r"'to'.*it is called \"payee\""):
        NODE["wallet.send"].check({"payments": [{"to": "x", "amount": "1"}]})
    with pytest.raises(InvalidParamsError, match="no member 'nobody'") as caught:
        NODE["wallet.send"].check({"payments": [{"payee": "x", "nobody": "1"}]})
    assert "called" not in caught.value.message
