"""What a node says of its methods and their parameters, said of commands and their flags."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Final

ID_PARAMETERS: Final = frozenset({"id", "coin", "coins", "anchor", "txid", "lock", "after"})
"""Parameters of methods that are ids of 64 hex digits, or lists of them: their first digits do."""

LISTED_IDS: Final[Mapping[str, tuple[str, str, bool]]] = {
    "token.revoke": ("token", "token.list", False),
    "wallet.cancel_invoice": ("invoice", "wallet.invoices", True),
    "wallet.get_invoice": ("invoice", "wallet.invoices", True),
}
"""Methods with a parameter that is the id of something that another method lists, by pages or all
at once: its first digits do as well."""

_SHORT: Final = "hex digits, or the first four or more of them"

_COMMANDS: Final = {"see net.peers": "peers"}
"""Commands that are not called after the method that a hint names."""

_LISTED: Final = re.compile(r"the parameters ((?:'[a-z_0-9]+'(?:, | and | or )?)+)")
_QUOTED: Final = re.compile(r"'([a-z_0-9]+)'")

_PAYMENT_MEMBER: Final = {"payee": "PAYEE", "amount": "UNC", "memo": "--memo"}
"""What the members of the parameter `payments` are called on the command line."""


class CommandWords:
    """What the parameters of one command are called on the command line."""

    def __init__(self, command: str, own: Sequence[inspect.Parameter]) -> None:
        self._command = command
        self._own = own

    def translate(self, method: str, text: str) -> str:
        """Return what the node said of a method, said of the command."""
        if self._command == "rpc":
            return text  # who names a method knows its words
        called = self._called()
        text = _with_commands(text.removeprefix(f"{method}: "))
        # ``expected … - at `fee_rate` `` names a parameter for certain; so does a name of two
        # words, and one in quotes. A single word may be the word alone.
        at = re.fullmatch(r"(.*) - at `([a-z_0-9]+)(?:\[([0-9]+)\])?(?:\.([a-z_0-9]+))?`", text)
        if at is not None:
            what, parameter, index, member = at.groups()
            if parameter in ID_PARAMETERS or parameter == LISTED_IDS.get(method, ("",))[0]:
                what = re.sub("(expected [0-9]+) lower-case hex digits", rf"\1 {_SHORT}", what)
            which = f" of payment {int(index) + 1}" if index not in (None, "0") else ""
            if parameter == "payments" and member in _PAYMENT_MEMBER:
                return f"{_PAYMENT_MEMBER[member]}{which}: {what}"
            # what is given more than once is called after one of them
            flag = called.get(parameter) or called.get(parameter.removesuffix("s"), parameter)
            return f"{flag}: {what}"

        def named(found: re.Match[str]) -> str:
            return called.get(found[1] or found[2], found[0])

        text = _LISTED.sub(
            lambda listed: _QUOTED.sub(lambda it: called.get(it[1], it[0]), listed[1]), text
        )
        return re.sub(
            r"\b(?:the parameter '|')?([a-z0-9]+(?:_[a-z0-9]+)+)'?|the parameter '([a-z0-9]+)'",
            named,
            text,
        ).replace(method, self._command)

    def _called(self) -> dict[str, str]:
        called = {}
        for parameter in self._own:
            mark = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
            # In an annotation the first of an option's names stands where its default would.
            names = (getattr(mark, "default", None), *(getattr(mark, "param_decls", None) or ()))
            flags = [name for name in names if isinstance(name, str) and name.startswith("--")]
            if flags:
                flag = flags[0].partition("/")[0]
                called[parameter.name] = called[flag[2:].replace("-", "_")] = flag
            else:
                called[parameter.name] = getattr(mark, "metavar", None) or parameter.name.upper()
        return called


def _with_commands(text: str) -> str:
    """Return a text in which a method that is a hint is said as the command that asks it."""

    def command(found: re.Match[str]) -> str:
        return f"see `{_COMMANDS.get(found[0], f'{found[1]} {found[2]}').replace('_', '-')}`"

    return re.sub(r"\bsee ([a-z]+)\.([a-z_]+)", command, text)
