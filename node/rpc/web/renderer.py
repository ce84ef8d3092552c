"""Facts into HTML, by the templates beside this module. All values are escaped."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from unchained.node.base.number_words import number_of
from unchained.node.rpc.web import drawings, texts

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = "templates"


class Renderer:
    """Renders templates; the library is loaded with the first page, in that page's thread."""

    @functools.cached_property
    def _environment(self) -> Environment:
        from jinja2 import Environment, FunctionLoader, StrictUndefined

        environment = Environment(
            loader=FunctionLoader(_source),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters |= {
            "short": texts.short_hash,
            "unc": texts.unc,
            "clock": texts.clock,
            "iso": texts.iso,
            "span": texts.span,
            "large": texts.large,
            "size": texts.size_of,
            "number_of": number_of,
        }
        environment.globals |= {
            "ring": drawings.ring,
            "plot": drawings.plot,
            "steps": drawings.steps,
            "bars": drawings.bars,
            "intervals": drawings.intervals,
            "points": drawings.points,
            "over_time": drawings.over_time,
        }
        return environment

    def render(self, template: str, values: dict[str, Any]) -> bytes:
        """Return the page; blocks for some milliseconds, and longer the first time."""
        text: str = self._environment.get_template(template).render(values)
        return text.encode()


def _source(name: str) -> str:
    return files(__package__).joinpath(TEMPLATES, name).read_text(encoding="utf-8")
