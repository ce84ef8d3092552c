"""How long an anchor with 600 transfers takes to be connected by the last of five nodes, in ms.

Five processes on reg, each with four peers and the transfers in its mempool. The clock starts
before the call that hands the anchor to the first one, and stops when its event has come from all
of them; the first one's is the reference.
"""

from __future__ import annotations

from functools import partial

from tests.bench._network import five_nodes, mine, relay_ms, relay_result, watched
from tests.framework.forge import Forge
from tests.framework.network import NetNode, address_of, until
from unchained.node.consensus.params import REG
from unchained.node.primitives.transfer import output_id
from unchained.node.primitives.types import CoinId

TRANSFERS = 600
ANCHORS = 12
PER_EPOCH = 60
KEY = 1
FEE = 100_000
GOAL_MS = 300.0

Owned = list[tuple[CoinId, int]]


def run(transfers: int = TRANSFERS, anchors: int = ANCHORS) -> list[dict[str, object]]:
    """Relay anchors one after the other; the first is to warm up."""
    first, last = [], []
    with five_nodes() as (net, nodes), watched(nodes) as watchers:
        origin = nodes[0]
        origin.generate(-(-transfers // PER_EPOCH), PER_EPOCH, key=KEY)
        net.agree(within_s=120)
        owned = coins_of(origin)[:transfers]
        # What the last anchor minted is spendable one later.
        origin.generate(1)
        for number in range(-1, anchors):
            net.agree(within_s=120)
            owned = spend(origin, owned)
            for node in nodes:
                until(partial(have_come, node, transfers), "transfers to wait", within_s=120)
            template = origin.call("mine.template", address=address_of(KEY))
            assert template["transfers"] == transfers, template
            at_first, at_last = relay_ms(
                origin, watchers, "anchor.connected", mine(template, anchor=True)
            )
            if number >= 0:
                first.append(at_first)
                last.append(at_last)
    return [relay_result("anchor_relay", last, first, GOAL_MS)]


def coins_of(node: NetNode) -> Owned:
    """Return the unspent coins of the key, and their values in grains."""
    page = node.call("coin.owned_by", address=address_of(KEY), limit=1000)
    return [(CoinId(bytes.fromhex(coin["id"])), REG.subsidy) for coin in page["coins"]]


def have_come(node: NetNode, transfers: int) -> bool:
    """Return whether so many transfers wait at a node."""
    return bool(node.call("node.status")["mempool_transfers"] == transfers)


def spend(node: NetNode, owned: Owned) -> Owned:
    """Hand in a transfer of every coin to the same key; return the coins that they make."""
    made: Owned = []
    for coin_id, value in owned:
        transfer = Forge().transfer([(coin_id, KEY)], [(value - FEE, KEY)], fee=FEE)
        node.call("transfer.submit", raw=transfer.raw.hex())
        made.append((output_id(transfer.txid, 0), value - FEE))
    return made
