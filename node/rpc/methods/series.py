"""node.series: what the node remembers of its last day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from unchained.node.base.user_text import user_text
from unchained.node.rpc.core.errors import InvalidParamsError
from unchained.node.rpc.core.registry import Access, method, nearest

NAMES_MAX = 100
"""Series that one call may ask for."""


@user_text(
    """One series. A `level` is what held at the time, a `rate` what came per second since the value
    before, a `mean` how long something took on average in that time."""
)
class SeriesShown(msgspec.Struct, frozen=True):
    kind: str
    unit: str
    help: str


@user_text(
    """Values of series by name, one for each of `times` (ms since the Unix epoch), oldest first;
    null where the node had none."""
)
class SeriesFound(msgspec.Struct, frozen=True):
    period_ms: int
    times: list[int]
    values: Mapping[str, list[float | None]]


class SeriesSource(Protocol):
    """Who remembers the series."""

    def known(self) -> Mapping[str, SeriesShown]:
        """Return what series there are, by name."""

    def found(self, names: Sequence[str], since_ms: int) -> SeriesFound:
        """Return series by name, from a time on. Every name has to be known."""


class SeriesRoom:
    """The method that gives the series of the last day."""

    def __init__(self, source: SeriesSource) -> None:
        self._source = source

    @method("node.series", Access.READ)
    @user_text(
        """Return series of the last day, one value a minute, from a time on.

        The node remembers them since its start. `node.series_names` lists them.
        """
    )
    async def series(
        self,
        names: Annotated[
            list[Annotated[str, Meta(max_length=64)]],
            Meta(min_length=1, max_length=NAMES_MAX, description="which, as node.series_names has"),
        ],
        since: Annotated[
            int, Meta(ge=0, le=2**53, description="time of the oldest value, ms; 0: all")
        ] = 0,
    ) -> SeriesFound:
        known = self._source.known()
        for name in names:
            if name not in known:
                hint = nearest(name, known) or ": node.series_names lists them"
                raise InvalidParamsError(f"there is no series {name!r}{hint}")
        return self._source.found(names, since)

    @method("node.series_names", Access.READ)
    @user_text("Return the series that the node remembers for a day, by name.")
    async def series_names(self) -> dict[str, SeriesShown]:
        return dict(self._source.known())
