"""The node's clock against its chain: looked at now and then, since it can be set."""

from __future__ import annotations

import math
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Watch
from unchained.node.base.logs import iso_time
from unchained.node.chain.core import ChainCore
from unchained.node.chain.status import ChainStatus
from unchained.node.chain.writer import ChainWriter

CLOCK_CHECK_S: Final = 0.5
"""Seconds between looks at the clock while something waits for it."""

IDLE_CLOCK_CHECK_S: Final = 5.0
"""Seconds between looks at it otherwise: it may be set back."""

LEAST_WAIT_S: Final = 0.001


class ClockWatch:
    """Has the chain's writer look at the clock when that matters, and says where it is behind."""

    def __init__(
        self,
        writer: ChainWriter,
        status: Watch[ChainStatus],
        *,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._writer = writer
        self._status = status
        self._clock = clock
        self._log = log
        self._was_behind = False

    def note(self, status: ChainStatus) -> None:
        """Say where the clock has come to be behind the chain, and where it is no more."""
        is_behind = status.clock_behind_ms > 0
        if is_behind and not self._was_behind:
            self._log.error(
                "chain.clock_behind",
                clock=iso_time(status.tip_time - status.clock_behind_ms),
                tip=status.tip.hex(),
                tip_time=iso_time(status.tip_time),
                ways_out="nothing is chosen or mined: set this machine's clock; or, if it is "
                "right, set aside the first anchor whose time is wrong: "
                "unchained-node chain set-aside ID",
            )
        elif self._was_behind and not is_behind:
            self._log.info("chain.clock_level", tip=status.tip.hex())
        self._was_behind = is_behind

    async def run(self) -> None:
        """Look at the clock until cancelled, and when it lets a stored coin count."""
        self.note(self._status.value)
        seen_ms = self._clock.now_ms()
        while True:
            status = self._status.value
            due_ms = math.inf if status.next_due_ms is None else status.next_due_ms
            wait_s = (due_ms - self._clock.now_ms()) / 1000
            if _waits_for_clock(status):
                await trio.sleep(min(CLOCK_CHECK_S, max(LEAST_WAIT_S, wait_s)))
            else:
                with trio.move_on_after(IDLE_CLOCK_CHECK_S):
                    await self._status.wait_for(_waits_for_clock)
            now_ms = self._clock.now_ms()
            if now_ms < seen_ms or now_ms >= due_ms or status.clock_behind_ms:
                # The writer looks at the clock before whatever it does.
                await self._writer.call(ChainCore.advance)
            seen_ms = now_ms


def _waits_for_clock(status: ChainStatus) -> bool:
    return status.next_due_ms is not None or bool(status.clock_behind_ms)
