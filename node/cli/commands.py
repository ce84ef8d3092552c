"""Commands as the parser sees them, each made only when it is run or its own help is asked for.

Of the others their names and lines are all that help and completion need: a `LazyGroup` holds
those. What a user typed is taken as it is where the parser would import a library for it that
takes longer than most commands.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Final, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_command_name, get_group
from typer.models import CommandInfo

from unchained.node.base.number_words import between
from unchained.node.cli.wallet_help import WALLET_SECTIONS

SECTIONS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {"wallet": WALLET_SECTIONS}
"""Groups of so many commands that their help lists them by what they are for."""

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

LARGEST: Final = 2**63 - 1
"""Of a number without a bound of its own: more is no count of anything, and more than C takes."""

NUMBER_CHARS: Final = 24
"""Characters of a number: more than any bound has."""

_WHOLE: Final = re.compile(r"-?[0-9]+", re.ASCII)
_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", re.ASCII)

Make = Callable[[], Any]
"""Makes a command that the parser can run."""


def new_app(**settings: Any) -> typer.Typer:
    """Return a parser whose help is plain text: colours would take longer than most commands."""
    return typer.Typer(
        pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=CONTEXT, **settings
    )


class _AsTyped:
    """Takes texts, flags, numbers and what was not given; leaves the rest to the parser."""

    def __init__(self, parameter: Any) -> None:
        self._kind = parameter.type_descriptor.annotation
        self._many = parameter.multiple or parameter.nargs == -1

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of a parameter. Raises what the parser raises."""
        if value is None:
            return () if self._many else None
        if self._kind is type(value) and self._kind in (str, bool, int, float):
            return value
        if self._kind is float and type(value) is int:
            return float(value)  # a default
        if self._kind in (int, float) and isinstance(value, str):
            return self._number(value, param, ctx)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)

    def _number(self, text: str, param: Any, ctx: Any) -> float:
        """Return the number that a text spells. Raises `typer.BadParameter`."""
        whole, large = self._kind is int, ""
        if (_WHOLE if whole else _NUMBER).fullmatch(text) is not None and len(text) < NUMBER_CHARS:
            found: float = self._kind(text)
            if param.max is None and found > LARGEST:
                large = "smaller "
            elif (param.min is None or found >= param.min) and (
                param.max is None or found <= param.max
            ):
                return found
        bounds = between(param.min, param.max)
        expected = f"a {large}{'whole ' * whole}number{bounds and f', {bounds}'}"
        given = repr(text) if len(text) < NUMBER_CHARS else f"a text of {len(text)} characters"
        raise typer.BadParameter(f"expected {expected}, got {given}", ctx=ctx, param=param)


def _eased(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if parameter._runtime_param is None:
            parameter._runtime_param = _AsTyped(parameter)
            _name_plainly(parameter)
    return parameters


def _name_plainly(parameter: Any) -> None:
    """Let help and errors name a parameter by a word for what it is, not by its type in Python."""
    argument = parameter.param_type_name == "argument"
    if parameter.metavar is None and not argument:
        parameter.metavar = "N" if parameter.type_descriptor.annotation in (int, float) else "TEXT"
    name = parameter.metavar or parameter.name.upper()
    shown = name if parameter.required or name.startswith("[") else f"[{name}]"
    if argument:
        parameter.metavar = name
        parameter.display_type_rich = partial(_say, "")
        parameter._rich_display_name = partial(_say, name)
        many = parameter.nargs != 1 and not shown.endswith("...")
        parameter._usage_display_name = partial(_say, f"{shown}..." if many else shown)
    bounds = between(parameter.min, parameter.max)
    parameter._get_number_range_help_str = partial(_say, bounds)


def _say(words: str, **_asked: object) -> str:
    return words


class PlainCommand(TyperCommand):
    """A command that imports pydantic only for values that are neither texts, flags nor numbers."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the help's among them."""
        return _eased(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; whoever parses with a mapping as `obj` finds in it what its options were
        given, by their first names."""
        if ctx.obj is not None:
            given = {it.opts[0]: ctx.params.get(it.name) for it in self.params}
            ctx.obj.update({name: str(value) for name, value in given.items() if value is not None})
        return super().invoke(ctx)


class _Line(TyperCommand):
    """What is known of a command before it is made: its name, and its line in the help."""

    def __init__(self, name: str, line: str, make: Make) -> None:
        super().__init__(name=name, short_help=line, rich_markup_mode=None)
        self.make = make


class LazyGroup(TyperGroup):
    """A group whose commands are made when they are needed. With `sections` the help lists them
    under these titles, each with the names of its commands."""

    sections: Mapping[str, Sequence[str]] = {}

    def add_line(self, name: str, line: str, make: Make) -> None:
        """Add a command by its name, its line in the help, and what makes it."""
        self.add_command(_Line(name, line, make))

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the help's among them."""
        return _eased(super().get_params(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of the help."""
        if not self.sections:
            return super().format_commands(ctx, formatter)
        grouped = [name for names in self.sections.values() for name in names]
        others = [name for name in self.commands if name not in grouped]
        limit = formatter.width - 6 - max(map(len, self.commands))
        for title, names in (*self.sections.items(), ("Others", others)):
            rows = [
                (name, self.commands[name].get_short_help_str(limit))
                for name in names
                if name in self.commands
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=max(map(len, self.commands)) + 2)
        return None

    def made(self, name: str) -> Any:
        """Return one command of the group as the parser runs it."""
        command = self.commands[name]
        return command.make() if isinstance(command, _Line) else command

    def resolve_command(
        self, ctx: Any, args: list[str]
    ) -> tuple[str | None, Any | None, list[str]]:
        """Return the command that the words begin with, made."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.made(name), rest

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the names and options that begin so, bare: their lines take rich to be shown."""
        found = super().shell_complete(ctx, incomplete)
        for item in found:
            item.help = None
        return found


def from_modules(name: str, modules: Iterable[str]) -> Any:
    """Return the command of the first level that modules of `unchained.node.cli` make together."""
    app = new_app(add_completion=False)
    for module in modules:
        import_module(f"unchained.node.cli.{module}").add_to(app)
    for info in app.registered_commands:
        if _name(info) == name:
            return _plain(info)
    (below,) = (info for info in app.registered_groups if info.name == name)
    return _lazy(cast(typer.Typer, below.typer_instance), name)


def _lazy(app: typer.Typer, name: str) -> LazyGroup:
    """Return an app as a group of that name whose commands are made when they are needed."""
    bare = new_app(
        cls=LazyGroup,
        name=name,
        help=app.info.help,
        no_args_is_help=app.info.no_args_is_help,
        invoke_without_command=app.registered_callback is not None,
    )
    bare.registered_callback = app.registered_callback
    group = cast(LazyGroup, get_group(bare))
    group.sections = SECTIONS.get(name, {})
    for info in app.registered_commands:
        line = " ".join((inspect.getdoc(info.callback) or "").partition("\n\n")[0].split())
        group.add_line(_name(info), line, partial(_plain, info))
    for below in app.registered_groups:
        inner = cast(typer.Typer, below.typer_instance)
        assert below.name is not None
        group.add_line(below.name, inner.info.help or "", partial(_lazy, inner, below.name))
    return group


def _name(info: CommandInfo) -> str:
    assert info.callback is not None
    return info.name or get_command_name(info.callback.__name__)


def _plain(info: CommandInfo) -> Any:
    info.cls = PlainCommand
    return get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode=None)
