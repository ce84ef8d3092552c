"""Honest peers that dial a node, over a line of some round trip and from networks of their own.

Run as ``python -m tests.framework.p2p_dialler ADDRESS``, in a network of its own
(`tests.framework.own_network`): for each line of its input, a number of seconds, it dials all the
while, and prints how long each dial took, in seconds, as a JSON list; `GIVEN_UP_S` for one that
did not come about.
"""

from __future__ import annotations

import json
import sys
from itertools import count

import trio

from tests.framework.p2p_attacker import RefusedError, attacker
from unchained.node.transport.libp2p.streams import StreamBrokenError

ROUND_TRIP_S = 0.3
GIVEN_UP_S = 20.0
DIALS_EVERY_S = 0.5
_FIRST_SEED = 50_000


async def dials(address: str, seconds: float, numbers: count[int]) -> list[float]:
    """Dial a node every so often, and return how long each dial took."""
    took: list[float] = []

    async def dial(number: int) -> None:
        began = trio.current_time()
        source = f"23.{number % 200}.0.1"
        seed = _FIRST_SEED + number % 10_000
        seconds = GIVEN_UP_S
        with trio.move_on_after(GIVEN_UP_S):
            try:
                async with attacker(address, seed, source, round_trip_s=ROUND_TRIP_S):
                    seconds = trio.current_time() - began
            except* (RefusedError, OSError, StreamBrokenError):
                await trio.lowlevel.checkpoint()
        took.append(seconds)

    async with trio.open_nursery() as nursery:
        for _ in range(int(seconds / DIALS_EVERY_S)):
            nursery.start_soon(dial, next(numbers))
            await trio.sleep(DIALS_EVERY_S)
    return took


async def _main(address: str) -> None:
    numbers = count()
    while seconds := await trio.to_thread.run_sync(sys.stdin.readline):
        print(json.dumps(await dials(address, float(seconds), numbers)), flush=True)


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])
