"""Typed methods: plain async functions with annotated parameters, known by their public name.

A *room* is an object whose methods are marked with `method`. Its class alone, never
instantiated, is enough to describe the methods (docs/rpc.md); an instance, holding what its
methods need, is what a server calls.
"""

from __future__ import annotations

import enum
import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from unchained.node.base import vocabulary
from unchained.node.base.near_names import did_you_mean
from unchained.node.base.user_text import user_text
from unchained.node.base.vocabulary import Named
from unchained.node.rpc.core.errors import InvalidParamsError, MethodNotFoundError, RpcError, short
from unchained.node.rpc.core.values import Secret, decode
from unchained.node.rpc.core.wrong_values import in_words

_MARK: Final = "__rpc_mark__"
_UNKNOWN_MEMBER: Final = re.compile(r"unknown field `([^`]{1,64})`")

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class Access(enum.IntEnum):
    """What a method asks of its caller, and what credentials give. Each includes those below."""

    PUBLIC = 0
    """Anyone who reaches the port."""
    READ = 1
    """The read-only token."""
    MINE = 2
    """The token of miners elsewhere: work and coins, nothing of a wallet."""
    FULL = 3
    """The cookie, or user and password. Whatever touches a wallet or steers the node."""


@user_text("What a token may do with one wallet. None includes another.")
class Scope(enum.StrEnum):  # noqa: D101 - described where docstrings are stripped too
    READ = "read"
    """See what it has, and has had."""
    INVOICE = "invoice"
    """Make and see what others pay to."""
    SPEND = "spend"
    """Pay from it, up to a limit, and unlock it for that."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What `method` writes on a function."""

    name: str
    access: Access
    scope: Scope | None
    reads: bool | tuple[str, ...]
    timeout: float | None
    long_poll: bool
    errors: tuple[type[RpcError], ...]


def method(
    name: str,
    access: Access,
    *,
    scope: Scope | None = None,
    reads: bool | tuple[str, ...] = False,
    timeout: float | None = None,
    long_poll: bool = False,
    errors: Iterable[type[RpcError]] = (),
) -> Callable[[F], F]:
    """Mark an async function as the method `name`.

    scope: what a token of a wallet has to have to call it; None: such tokens do not. A method with
    a scope touches no wallet but the one that its parameter `wallet` names. reads: its answer shows
    what the wallet has, always or where one of these parameters is given: a token needs the scope
    read besides. timeout: seconds, where
    the server's own limit is not right. long_poll: the method waits for something to happen; it is
    counted apart and cancelled when its caller goes away. errors: families that it raises of its
    own accord, for the documentation. What it does is said by `user_text`, the decorator below.
    """
    mark = Mark(name, access, scope, reads, timeout, long_poll, tuple(errors))

    def apply(function: F) -> F:
        setattr(function, _MARK, mark)
        return function

    return apply


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method. `required` ones have no default."""

    name: str
    kind: Any
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Method:
    """A callable method with everything that its documentation says."""

    name: str
    access: Access
    scope: Scope | None
    reads: bool | tuple[str, ...]
    timeout: float | None
    long_poll: bool
    errors: tuple[type[RpcError], ...]
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    result: Any
    secret: bool
    """A parameter is a secret: the texts of its failures are kept out of the log."""
    _function: Callable[..., Awaitable[Any]]
    _struct: type[msgspec.Struct]

    def shows_holdings(self, params: Mapping[str, Any]) -> bool:
        """Return whether a call with these parameters, by name, shows what the wallet has."""
        if isinstance(self.reads, bool):
            return self.reads
        return any(params.get(name) not in (None, False) for name in self.reads)

    async def call(self, params: Mapping[str, Any] | list[Any]) -> Any:
        """Check `params` (by name or by position) and run the method.

        Raises InvalidParamsError, and whatever the method raises.
        """
        return await self._function(**self.check(params))

    def check(self, params: Mapping[str, Any] | list[Any]) -> dict[str, Any]:
        """Return the keyword arguments that `params` stand for. Raises InvalidParamsError."""
        params = self.by_name(params)
        known = self._struct.__struct_fields__
        for name in params:
            if name not in known:
                raise InvalidParamsError(
                    f"{self.name} has no parameter {short(repr(name))}{self._instead(name)}"
                )
        for parameter in self.parameters:
            if parameter.required and parameter.name not in params:
                raise InvalidParamsError(f"{self.name} needs the parameter {parameter.name!r}")
        try:
            checked = msgspec.convert(params, self._struct, dec_hook=decode)
        except msgspec.ValidationError as error:
            # a secret may stand where another parameter belongs
            text = in_words(str(error), self._struct, params, quote=not self.secret)
            text += self._renamed_inside(str(error))
            raise InvalidParamsError(short(f"{self.name}: {text}")) from None
        return {name: getattr(checked, name) for name in known}

    def by_name(self, params: Mapping[str, Any] | list[Any]) -> Mapping[str, Any]:
        """Return parameters, given by name or by position, by name.

        Raises InvalidParamsError where there are too many.
        """
        if not isinstance(params, list):
            return params
        names = self._struct.__struct_fields__
        if len(params) > len(names):
            raise InvalidParamsError(
                f"{self.name} has {len(names)} parameters, not {len(params)}{self._instead('')}"
            )
        return dict(zip(names, params, strict=False))

    def _renamed_inside(self, failure: str) -> str:
        """Return what an unknown member of an object among the parameters is called, if it once
        had this name. `failure` is msgspec's own text."""
        unknown = _UNKNOWN_MEMBER.search(failure)
        if unknown is None:
            return ""
        for parameter in self.parameters:
            for kind in _structs(parameter.kind):
                renamed = vocabulary.find(Named.PARAMETER, kind.__name__, unknown[1])
                if renamed is not None:
                    return f': it is called "{renamed.new}"'
        return ""

    def _instead(self, name: str) -> str:
        names = self._struct.__struct_fields__
        renamed = vocabulary.find(Named.PARAMETER, self.name, name)
        if renamed is not None:
            return f': it is called "{renamed.new}"'
        if not names:
            return ": it takes none"
        return nearest(name, names) or f": it has {', '.join(names)}"


class Registry(Mapping[str, Method]):
    """All methods of a server, by name, in alphabetical order."""

    def __init__(self, *rooms: object) -> None:
        found: dict[str, Method] = {}
        for room in rooms:
            for made in _methods(room):
                if made.name in found:
                    raise TypeError(f"two methods are called {made.name}")
                found[made.name] = made
        self._methods = dict(sorted(found.items()))

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def find(self, name: str) -> Method:
        """Return the method called `name`.

        Raises MethodNotFoundError with its new name, or the nearest known one.
        """
        found = self._methods.get(name)
        if found is None:
            renamed = vocabulary.find(Named.METHOD, "", name)
            if renamed is not None:
                hint = f': it is called "{renamed.new}"'
            else:
                hint = nearest(name, self._methods) or ": rpc.discover lists the methods"
            raise MethodNotFoundError(f"there is no method {short(repr(name))}{hint}")
        return found


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield the types of the objects that a parameter's value may hold."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in typing.get_args(kind):
        yield from _structs(inner)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `: did you mean "x"?` for the known name nearest to `name`, or nothing."""
    hint = did_you_mean(name, known)
    return f": {hint}" if hint else ""


def _methods(room: object) -> Iterator[Method]:
    owner = room if isinstance(room, type) else type(room)
    for attribute, function in inspect.getmembers(owner, inspect.iscoroutinefunction):
        mark = getattr(function, _MARK, None)
        if mark is not None:
            yield _describe(mark, function, getattr(room, attribute))


def _describe(
    mark: Mark, function: Callable[..., Any], bound: Callable[..., Awaitable[Any]]
) -> Method:
    summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
    if not summary:
        raise TypeError(f"{mark.name} has no user_text")
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{mark.name}: {parameter.name} cannot be given by name")
        if parameter.name not in hints:
            raise TypeError(f"{mark.name}: {parameter.name} has no annotation")
        required = parameter.default is parameter.empty
        parameters.append(
            Parameter(
                parameter.name,
                hints[parameter.name],
                required,
                None if required else parameter.default,
            )
        )
    if "return" not in hints:
        raise TypeError(f"{mark.name} does not say what it returns")
    fields: list[Any] = [
        (p.name, p.kind) if p.required else (p.name, p.kind, p.default) for p in parameters
    ]
    title = "".join(part.title() for part in mark.name.replace("_", ".").split("."))
    return Method(
        name=mark.name,
        access=mark.access,
        scope=mark.scope,
        reads=mark.reads,
        timeout=mark.timeout,
        long_poll=mark.long_poll,
        errors=mark.errors,
        summary=" ".join(summary.split()),
        description=rest.strip(),
        parameters=tuple(parameters),
        result=hints["return"],
        secret=any(_holds_secret(p.kind) for p in parameters),
        _function=bound,
        _struct=msgspec.defstruct(f"{title}Params", fields, frozen=True, kw_only=True),
    )


def _holds_secret(kind: Any) -> bool:
    if kind is Secret:
        return True
    return any(_holds_secret(inner) for inner in typing.get_args(kind))
