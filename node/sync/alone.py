"""What a node without peers says of itself."""

from __future__ import annotations

from math import ceil
from typing import Final

from structlog.typing import FilteringBoundLogger

from unchained.node.base.ports import LONE_NETWORKS
from unchained.node.consensus.params import Network

ALONE_S: Final = 60.0
"""Seconds after which a node that reaches nobody mines by itself, where it may be alone."""

YOURS_ALONE: Final = "this chain is yours alone: no other node is known (--bootstrap names one)"

MINE_ALONE: Final = "--alone mines it all the same"

NOBODY_ANSWERS: Final = (
    f"no peer has answered yet, and nothing is mined on this network before; {MINE_ALONE}"
)

NO_NETWORK: Final = f"this node runs without a network; {MINE_ALONE}"

NOT_LAUNCHED: Final = (
    "the network has not been launched: nobody else is there, and its genesis changes when it is"
)


def waiting_words(left_s: float | None) -> str:
    """Say what a node waits for that no peer has answered: it goes on by itself after so many
    seconds, never for None."""
    if left_s is None:
        return NOBODY_ANSWERS
    return (
        f"no peer has answered yet; if none does, this node goes on by itself in {ceil(left_s)} s"
    )


def say_alone(
    network: Network, *, knows_others: bool, may_be_alone: bool, log: FilteringBoundLogger
) -> None:
    """Say what a node's chain is worth while it knows of no other, and before a network is
    launched."""
    if network.name not in LONE_NETWORKS:
        log.warning("net.not_launched", network=network.name, why=NOT_LAUNCHED)
    if knows_others:
        return
    if may_be_alone:
        log.info("chain.alone", why=YOURS_ALONE)
    else:
        log.warning("mining.refused", why=f"{YOURS_ALONE}; {MINE_ALONE}")
