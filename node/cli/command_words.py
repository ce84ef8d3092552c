"""What a node says of its methods and their parameters, said of commands and their flags."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence


class CommandWords:
    """What the parameters of one command are called on the command line."""

    def __init__(self, command: str, own: Sequence[inspect.Parameter]) -> None:
        self._command = command
        self._own = own

    def translate(self, method: str, text: str) -> str:
        """Return what the node said of a method, said of the command."""
        called = self._called()
        text = text.removeprefix(f"{method}: ")
        # ``Expected `int` - at `fee_rate` `` names a parameter for certain; so does a name of two
        # words, and one in quotes. A single word may be the word alone.
        at = re.fullmatch(r"(.*) - at `([a-z_0-9]+)((?:[.\[].*)?)`", text)
        if at is not None and at[2] in called:
            return f"{called[at[2]]}{at[3]}: {at[1][:1].lower()}{at[1][1:]}"

        def named(found: re.Match[str]) -> str:
            return called.get(found[1] or found[2], found[0])

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
