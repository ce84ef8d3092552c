"""Drives a `ChainCore` with what a forge made, and compares all that it keeps with the model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from tests.framework.forge import BACKEND, Forged
from tests.framework.model import Known, Model, State
from tests.framework.trees import RandomTree
from unchained.node.chain.confirmations import confirmations, confirmations_at
from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import NeedsProof, Outcome, ProvenAnchor, ProvenCoin
from unchained.node.chain.service import ChainService
from unchained.node.chain.tree import AnchorStatus
from unchained.node.consensus.coins import check_mix
from unchained.node.consensus.errors import (
    BadMixError,
    BodyMissingError,
    ProtocolError,
    UnknownParentError,
)
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore
from unchained.storage.leaves import anchor_nodes, coin_leaves
from unchained.storage.pages import history_pages, state_pages
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    CoinAccepted,
    TransferEntered,
    TransferLeft,
)

Item = Coin | Forged
"""A coin to submit, or an anchor whose body to submit."""

NOT_YET: Final = (UnknownParentError, BodyMissingError)


def zero_ms() -> int:
    """A node that has only begun to run."""
    return 0


T = TypeVar("T")


async def in_writer(chain: ChainService, work: Callable[[ChainCore], T]) -> T:
    """Return ``work(core)``, between the operations of a running chain."""
    return await chain._call(work)


def submit_coin(core: ChainCore, coin: Coin, now_ms: int) -> Outcome:
    """Submit a coin and verify its mix when asked to. Raises a `ProtocolError`."""
    result = core.submit_coin(coin, now_ms)
    if isinstance(result, NeedsProof):
        check_mix(coin, core.network, BACKEND)
        result = core.submit_proven_coin(ProvenCoin(coin), now_ms)
    assert isinstance(result, Outcome)
    return result


def submit_body(core: ChainCore, anchor: Forged) -> Outcome:
    """Submit an anchor's package and verify mixes when asked to. Raises a `ProtocolError`."""
    package = anchor.package()
    result = core.submit_package(package)
    if isinstance(result, NeedsProof):
        try:
            for coin in result.coins:
                check_mix(coin, core.network, BACKEND)
        except BadMixError as error:
            core.condemn(anchor.id, error)
            raise
        result = core.submit_proven_anchor(ProvenAnchor(package))
    assert isinstance(result, Outcome)
    return result


def accept(core: ChainCore, anchor: Forged, now_ms: int) -> None:
    """Submit an anchor's coin and body; both have to be taken in."""
    submit_coin(core, anchor.coin, now_ms)
    submit_body(core, anchor)


LATE_MS = 2**62
"""A time at which nothing is too new, ms."""


class Feeder:
    """Submits items in any order, again and again until nothing new comes of it.

    Keeps account of what the core knows, for the model.
    """

    def __init__(self, core: ChainCore, now_ms: int) -> None:
        self.core = core
        self.now_ms = now_ms
        self.coins: dict[CoinId, Coin] = {}
        self.bodies: dict[CoinId, Forged] = {}
        self.errors: dict[CoinId, str] = {}

    def submit(self, item: Item) -> bool:
        """Submit one item; return whether it has been validated."""
        try:
            if isinstance(item, Coin):
                submit_coin(self.core, item, self.now_ms)
                self.coins[item.id] = item
            else:
                # What a body lists is known from here on, even if the anchor fails later.
                if submit_body(self.core, item) is Outcome.ACCEPTED:
                    self.coins.update(item.coins)
                self.bodies[item.id] = item
        except NOT_YET:
            return False
        except ProtocolError as error:
            self.errors[item.id] = error.name
            if isinstance(item, Forged):
                self.bodies[item.id] = item
        return True

    def submit_all(
        self, items: Iterable[Item], between: Callable[[], None] = lambda: None
    ) -> list[Item]:
        """Submit items until nothing new comes of it; return those that still have to wait."""
        waiting = list(items)
        while True:
            left = []
            for item in waiting:
                if not self.submit(item):
                    left.append(item)
                between()
            if len(left) == len(waiting):
                return left
            waiting = left

    def known(self, universe: Known) -> Known:
        """Return what of the universe the core knows."""
        genesis = universe.genesis
        bodies: dict[bytes, Body] = {genesis.id: universe.bodies[genesis.id]}
        bodies.update({anchor_id: anchor.body for anchor_id, anchor in self.bodies.items()})
        return universe._replace(coins=list(self.coins.values()), bodies=bodies)


def assert_equal_to_model(core: ChainCore, model: Model) -> None:
    """Compare fork choice, tip and everything in the store that follows from the main chain."""
    tree = core.tree
    counting = {node.id for node in tree.nodes.values() if node.status is AnchorStatus.COUNTS}
    root = model.anchors[tree.root.id]
    assert counting == {
        anchor.id for anchor in model.anchors.values() if root in (*anchor.chain, anchor)
    }
    for node in tree.nodes.values():
        if node.status is AnchorStatus.COUNTS and node is not tree.root:
            assert set(node.bound) == set(model.anchors[node.id].votes), node
            assert node.context.child_n_total == model.anchors[node.id].n_total
            assert node.context.child_target == model.anchors[node.id].target
    assert tree.scores() == {
        anchor_id: model.score(model.anchors[anchor_id]) for anchor_id in counting - {tree.root.id}
    }
    assert core.tip.id == model.tip.id
    if set(tree.root.bound) == set(root.votes):
        # Of what was bound to the root of a tree that has grown, some is forgotten.
        # Which side branches are known to be dead hangs on what was tried.
        passed_over = {node.id for node in tree.nodes.values() if node.marks}
        slow = model.confirmations(tree.root.height, passed_over)
        assert {height: confirmations_at(core.view, height) for height in slow} == slow
        assert confirmations(core.view, core.tip.id, slow) == slow
    assert_state(core, model.state)


def assert_state(core: ChainCore, state: State) -> None:
    """Compare the coin set, its commitment, histories, owners, places, supply."""
    store = core.store
    assert not len(core.ledger.batch)
    unspent = {
        coin_id: (coin.value, coin.lock, coin.height, coin.minted, coin.position)
        for coin_id, coin in schema.UNSPENT.scan(store)
    }
    assert unspent == {
        coin_id: (
            member.value,
            member.lock,
            member.height,
            member.minted,
            state.stories[coin_id].position,
        )
        for coin_id, member in state.coin_set.items()
    }
    assert core.ledger.state_root() == state.state_root()
    assert core.ledger.pool == state.pool
    record = schema.STATE.get(store, core.tip.height)
    assert record is not None
    assert (record.positions, record.supply, record.pool) == (
        len(state.leaves),
        state.supply,
        state.pool,
    )
    assert_pages(store, core.network)
    assert core.ledger.supply == state.supply == sum(value for value, *_ in unspent.values())
    stories = {coin_id: tuple_of(found) for coin_id, found in schema.HISTORY.scan(store)}
    assert stories == {coin_id: tuple(story) for coin_id, story in state.stories.items()}
    owners = {
        (key[1:33], key[33:]): schema.OWNER.decode(key, raw)
        for key, raw in store.items(schema.OWNER.start, schema.OWNER.stop)
    }
    assert {k: (o.value, o.height) for k, o in owners.items()} == state.owners
    places = {txid: (p.wid, p.height, p.index) for txid, p in schema.TXID.scan(store)}
    assert places == state.places
    main = [anchor_id for _, anchor_id in schema.HEIGHT.scan(store)]
    assert main == state.main
    for wid, _, _ in places.values():
        assert schema.TRANSFER.get(store, wid) is not None


def assert_pages(store: KeyValueStore, network: Network) -> None:
    """Compare the pages of the ranges with what their leaves make anew."""
    made: dict[bytes, bytes] = {}
    states, histories = state_pages(), history_pages()
    for coin in coin_leaves(store):
        assert coin.position == states.count
        states.add(coin.leaf)
    for leaf in anchor_nodes(store, network):
        histories.add(leaf)
    for table, pages in ((schema.STATE_PAGE, states), (schema.HISTORY_PAGE, histories)):
        made.update({table.key(level, index): page for level, index, page in pages.rest()})
    tables = (schema.STATE_PAGE, schema.HISTORY_PAGE)
    assert made == {k: v for table in tables for k, v in store.items(table.start, table.stop)}


def tuple_of(found: schema.CoinHistory) -> tuple[int, int, int, bytes, int, int, bytes, int]:
    """Return a coin's history as the model has it."""
    return (
        int(found.kind),
        found.height,
        found.value,
        found.txid,
        found.index,
        found.spent_height,
        found.spent_by,
        found.position,
    )


def replay_events(
    store: KeyValueStore, genesis: bytes
) -> tuple[list[bytes], set[bytes], set[bytes]]:
    """Return main chain, coins and waiting transfers as the event log alone gives them.

    Fails where a number is missing or an event does not fit what came before.
    """
    main, coins, waiting = [genesis], set[bytes](), set[bytes]()
    for at, (number, event) in enumerate(schema.EVENT.scan(store)):
        assert number == at
        match event:
            case AnchorConnected(height, anchor_id):
                assert height == len(main)
                main.append(anchor_id)
            case AnchorDisconnected(height, anchor_id):
                assert height == len(main) - 1
                assert main.pop() == anchor_id
            case CoinAccepted(coin_id):
                assert coin_id not in coins
                coins.add(coin_id)
            case TransferEntered(wid):
                assert wid not in waiting
                waiting.add(wid)
            case TransferLeft(wid, _):
                assert wid in waiting
                waiting.remove(wid)
    assert schema.meta_number(store, schema.META_NEXT_EVENT) == len(list(schema.EVENT.scan(store)))
    return main, coins, waiting


def tree_of(core: ChainCore) -> dict[CoinId, tuple[AnchorStatus, frozenset[CoinId], bool]]:
    """Return each anchor's status, the coins bound to it, and whether it is on the main chain."""
    return {
        node.id: (node.status, frozenset(node.bound), node.on_main)
        for node in core.tree.nodes.values()
    }


def shuffled(rng: random.Random, items: Sequence[Item], duplicates: float = 0.2) -> list[Item]:
    """Return the items in random order, some of them twice."""
    again = [item for item in items if rng.random() < duplicates]
    order = [*items, *again]
    rng.shuffle(order)
    return order


def as_made(tree: RandomTree, _rng: random.Random) -> list[Item]:
    """Return all of a tree in the order in which it was made."""
    bodies = {anchor.id: anchor for anchor in tree.anchors}
    order: list[Item] = []
    for coin in tree.coins.values():
        order += [coin, bodies[coin.id]] if coin.id in bodies else [coin]
    return order


def nearly_as_made(tree: RandomTree, rng: random.Random) -> list[Item]:
    """Return what was made at about the same time in any order, some of it much later."""
    order = list(enumerate(as_made(tree, rng)))
    order.sort(key=lambda pair: pair[0] + rng.choice((0, 5, 15, 15, 60)) * rng.random())
    return [item for _, item in order]


def open_core(
    store: KeyValueStore,
    network: Network,
    running_ms: Callable[[], int] = zero_ms,
    now_ms: int = LATE_MS,
) -> ChainCore:
    """Open a chain as the service does, by default at a time at which nothing is too new."""
    core = ChainCore(store, network, running_ms, now_ms)
    core.advance()
    core.load_mempool()
    core.take_changes()
    return core
