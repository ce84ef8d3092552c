"""How long a coin takes until the last of five nodes has validated it, in ms, over HTTP.

Five processes on reg, each with four peers. The clock starts before the call that hands the coin to
the first one, and stops when its event has come from all of them; the first one's is the reference.
"""

from __future__ import annotations

from tests.bench._network import five_nodes, mine, relay_ms, relay_result, watched
from tests.framework.network import address_of

COINS = 60
WARM_UP = 5
KEY = 1
GOAL_MS = 60.0


def run(coins: int = COINS) -> list[dict[str, object]]:
    """Relay coins one after the other."""
    first, last = [], []
    with five_nodes() as (_, nodes), watched(nodes) as watchers:
        origin = nodes[0]
        # What coins are mined on is no older than the first anchor.
        origin.generate(1)
        for number in range(-WARM_UP, coins):
            template = origin.call("mine.template", address=address_of(KEY))
            at_first, at_last = relay_ms(
                origin, watchers, "coin.accepted", mine(template, anchor=False)
            )
            if number >= 0:
                first.append(at_first)
                last.append(at_last)
    return [relay_result("coin_relay", last, first, GOAL_MS)]
