"""How far a simulation is, for whoever waits for it."""

from __future__ import annotations

from typing import Final, Protocol


class Progress(Protocol):
    """Is told how far a simulation is."""

    def show(self, at_s: float, of_s: float, height: int) -> None:
        """Show virtual seconds so far, about how many there will be, and a node's height."""


class Silence:
    """Shows nothing."""

    def show(self, at_s: float, of_s: float, height: int) -> None:
        pass


SILENCE: Final = Silence()
