"""What must hold in every simulation: some of it always, the rest when all has been quiet.

Each raises `InvariantBrokenError` with one line that names the node and what does not hold.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from tests.framework.chains import assert_equal_to_model
from tests.framework.model import Known, Model
from tests.framework.simulation.bounds import (
    MADE_SMALL,
    disk_max,
    disk_of,
    holdings,
    memory_max,
    stale_candidates,
)
from tests.framework.slow_transfers import slow_fault
from unchained.node.chain.core import ChainCore
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.wallet.errors import NoSuchTransferError
from unchained.node.wallet.records import HistoryEntry, HistoryStatus, OutgoingState
from unchained.node.wallet.wallet import Wallet
from unchained.storage import schema
from unchained.storage.check import check
from unchained.storage.kv import KeyValueStore, Reader
from unchained.storage.schema import (
    AnchorConnected,
    AnchorDisconnected,
    TransferEntered,
    TransferLeft,
)

if TYPE_CHECKING:
    from tests.framework.simulation.simulated_node import SimulatedNode
    from tests.framework.simulation.simulation import Simulation

SIGHASH_CONTEXT: Final = b"unchained transfer v1"
"""What signatures of transfers are made for (Protocol §8.2)."""


class InvariantBrokenError(Exception):
    """Something does not hold that always must."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantBrokenError(what)


# Always


def check_bounds(node: SimulatedNode) -> None:
    """What a node holds for others is bounded, of each kind and altogether."""
    memory, simulation = 0.0, node.simulation
    small = simulation.small_queues
    # What it has from before may be more.
    least = small.least if node.started_at >= small.since else math.inf
    for holding in holdings(node):
        most = min(holding.most, least) if holding.what in MADE_SMALL else holding.most
        require(
            holding.held <= most,
            f"{node.name}: {holding.held} {holding.what}, expected {most} at most",
        )
        memory += holding.held * holding.bytes_each
    bound = memory_max(len(simulation.coins), len(simulation.transfers))
    require(memory <= bound, f"{node.name}: {memory:.0f} bytes of memory, expected {bound} at most")


def check_disk(node: SimulatedNode) -> None:
    """What a node has written is bounded, and nothing stays of which nothing can come."""
    simulation = node.simulation
    size = disk_of(node.disk_under.disk.values)
    bound = disk_max(len(simulation.coins), node.height, len(simulation.transfers))
    require(size <= bound, f"{node.name}: {size} bytes on disk, expected {bound} at most")
    stale = stale_candidates(node.chain._writer._core)
    require(not stale, f"{node.name}: {len(stale)} candidates are kept below the tree")


def check_nobody_honest_is_banned(simulation: Simulation) -> None:
    """No honest node has banned another."""
    honest = {node.ip: node.name for node in simulation.nodes}
    for node in simulation.nodes:
        if node.is_up:
            for ban in node.network.peers.reputation.active_bans():
                require(
                    ban.group not in honest,
                    f"{node.name} has banned {honest.get(ban.group)}: {ban.reason}",
                )


def check_services(node: SimulatedNode) -> None:
    """Every service runs."""
    assert node.supervisor is not None
    for service in node.supervisor.statistics().services:
        require(service.state == "running", f"{node.name}: {service.name} is {service.state}")


async def check_under_way(node: SimulatedNode) -> None:
    """A node is what the plain model makes of what it knows, unless a coin waits for its time or
    a choice of the tip for its turn."""

    def compare(core: ChainCore) -> None:
        waits = core.admission.next_due_ms is not None or node.chain._writer._choices
        if not waits and not len(core.ledger.batch):
            check_against_model(node.name, core)

    await node.core(compare)


# When all has been quiet


def check_one_tip(simulation: Simulation) -> None:
    """All nodes follow one chain."""
    tips = {node.tip: node.name for node in simulation.nodes}
    require(len(tips) == 1, f"tips differ: {simulation.show()}")


async def check_at_rest(node: SimulatedNode, model: bool) -> None:
    """What a node has on disk is sound and is what the chain says; with `model` it is compared
    with what the protocol's text alone makes of the objects that the node knows."""

    def compare(core: ChainCore) -> None:
        check_store(node.name, core)
        check_reopened(node.name, core)
        if model:
            check_against_model(node.name, core)

    await node.core(compare)


def check_store(name: str, core: ChainCore) -> None:
    """The store has no damage, and its event log tells the main chain that there is."""
    report = check(core.store, core.network)
    require(report.sound, f"{name}: {report.problem_count} problems, first {report.problems[:1]}")
    main, waiting = replay_events(name, core.store, genesis_of(core.network).id)
    heights = [anchor_id for _, anchor_id in schema.HEIGHT.scan(core.store)]
    require(main == heights, f"{name}: the event log tells another main chain")
    pool = {entry for entry, _ in schema.MEMPOOL.scan(core.store)}
    require(waiting == pool, f"{name}: the event log tells of other waiting transfers")


def replay_events(name: str, store: Reader, genesis: bytes) -> tuple[list[bytes], set[bytes]]:
    """Return main chain and waiting transfers as the event log alone tells them.

    A coin may be told of again: it stops being a vote where the clock is set back.
    """
    main, waiting, following = [genesis], set[bytes](), 0
    for number, event in schema.EVENT.scan(store):
        require(number == following, f"{name}: event {following} is missing, {number} follows")
        following += 1
        fits = True
        match event:
            case AnchorConnected(height, anchor_id):
                fits = height == len(main)
                main.append(anchor_id)
            case AnchorDisconnected(height, anchor_id):
                fits = (height, anchor_id) == (len(main) - 1, main.pop())
            case TransferEntered(wid):
                fits = wid not in waiting
                waiting.add(wid)
            case TransferLeft(wid, _):
                fits = wid in waiting
                waiting.discard(wid)
        require(fits, f"{name}: event {number} does not fit those before it: {event}")
    said = schema.meta_number(store, schema.META_NEXT_EVENT) or 0
    require(said == following, f"{name}: the next event is said to be {said}, not {following}")
    return main, waiting


def check_reopened(name: str, core: ChainCore) -> None:
    """A chain opened anew on the same store is the same chain."""
    other = ChainCore(
        cast(KeyValueStore, _ReadOnly(core.store)), core.network, lambda: 0, core.admission.now_ms
    )
    for what, here, there in (
        ("tip", core.tip.id, other.tip.id),
        ("scores", core.tree.scores(), other.tree.scores()),
        ("state", core.ledger.state_root(), other.ledger.state_root()),
        ("supply", core.ledger.supply, other.ledger.supply),
        ("pool", core.ledger.pool, other.ledger.pool),
    ):
        require(here == there, f"{name}: another {what} once it is opened anew")


def check_against_model(name: str, core: ChainCore) -> None:
    """Tip, scores and state are those of the plain model for the same objects."""
    try:
        assert_equal_to_model(core, Model(core.network, known_to(core.store, core.network)))
    except AssertionError as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        raise InvariantBrokenError(f"{name}: not as the model: {at.line} ({at.name})") from error


def known_to(store: Reader, network: Network) -> Known:
    """Return all that a store has, in whatever state."""
    genesis = genesis_of(network)
    bodies: dict[bytes, Body] = {genesis.id: genesis.body}
    coins: dict[bytes, Coin] = {genesis.id: genesis.coin}
    for coin_id, raw in schema.COIN.scan(store):
        coins[coin_id] = Coin.from_bytes(raw)
    for anchor_id, record in schema.ANCHOR.scan(store):
        coins[anchor_id] = Coin.from_bytes(record.coin)
        if record.body:
            bodies[anchor_id] = Body.from_bytes(record.body)
    transfers = {bytes(wid): bytes(raw) for wid, raw in schema.TRANSFER.scan(store)}
    return Known(
        genesis.coin, list(coins.values()), bodies, transfers, (), faulty(transfers, network)
    )


def faulty(transfers: Mapping[bytes, bytes], network: Network) -> dict[bytes, str]:
    """Return the transfers that fail by themselves, with the rule, as a second decoder and second
    rules have it (`tests.framework.slow_transfers`)."""
    found = {wid: _fault_of(raw, network.chain_id) for wid, raw in transfers.items()}
    return {wid: name for wid, name in found.items() if name}


@lru_cache(maxsize=4096)
def _fault_of(raw: bytes, chain_id: int) -> str:
    fault = slow_fault(raw, chain_id, _verifies)
    return "" if fault is None else f"late {fault.name}" if fault.late else fault.name


def _verifies(public_key: bytes, sighash: bytes, signature: bytes) -> bool:
    """Tell whether a signature is a key's over a sighash, by the library that nodes use too."""
    try:
        MLDSA65PublicKey.from_public_bytes(public_key).verify(signature, sighash, SIGHASH_CONTEXT)
    except (ValueError, InvalidSignature):
        return False
    return True


def check_wallets(simulation: Simulation) -> None:
    """What wallets say that they have, and what is nobody's, is the supply."""
    balances = 0
    for node in simulation.nodes:
        if node.wallets is not None:
            wallet = node.wallets.wallet("default")
            balances += wallet.balance().on_chain
            _check_history(node.name, wallet)
    core: ChainCore = simulation.nodes[0].chain._writer._core
    others = sum(
        coin.value
        for _, coin in schema.UNSPENT.scan(core.store)
        if coin.lock in simulation.other_locks
    )
    require(
        balances + others == core.ledger.supply,
        f"wallets have {balances} grains, others {others}, the supply is {core.ledger.supply}",
    )


def _check_history(name: str, wallet: Wallet) -> None:
    """A wallet's history adds up to what it has, and its log has no gaps."""
    whole: list[HistoryEntry] = []
    while page := wallet.history(500, after=whole[-1].key if whole else None):
        whole += page
    total = sum(entry.net for entry in whole if entry.status is HistoryStatus.INCLUDED)
    on_chain = wallet.balance().on_chain
    require(total == on_chain, f"{name}: the history adds up to {total}, the wallet has {on_chain}")
    first, last = wallet.events.oldest, wallet.events.last
    log = wallet.events.since(first - 1, last - first + 2)
    told = [event.sequence for event in log]
    require(told == list(range(first, last + 1)), f"{name}: the wallet's log has gaps")


def check_payments(node: SimulatedNode) -> None:
    """What a wallet has sent is on the chain, or waits, or the wallet says why it does not."""
    assert node.wallets is not None
    core: ChainCore = node.chain._writer._core
    store = node.wallets.wallet("default").store
    for txid in node.sent:
        name = f"{node.name}: payment {txid.hex()[:16]}"
        try:
            sent = store.outgoing(txid)
        except NoSuchTransferError:
            raise InvariantBrokenError(f"{name} is forgotten") from None
        place = schema.TXID.get(core.store, txid)
        height = None if place is None else place.height
        require(
            sent.height == height, f"{name} is of height {height}, the wallet says {sent.height}"
        )
        if height is not None:
            node.simulation.sightings.note("payment on the chain in the end")
        elif sent.state is OutgoingState.CONFLICT:
            node.simulation.sightings.note("payment in conflict")


class _ReadOnly:
    """A store that nobody may write to."""

    def __init__(self, store: Reader) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        if name == "write":
            raise InvariantBrokenError("a chain that is opened anew has to be mended")
        return getattr(self._store, name)
