"""chain.*: the main chain and its branches."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal

import msgspec

from unchained.node.base.clock import Clock
from unchained.node.base.user_text import user_text
from unchained.node.chain.answers import AnchorStanding
from unchained.node.chain.results import UnknownAnchorError
from unchained.node.chain.service import ChainService
from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.params import Network
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import Transfer
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.core.errors import InvalidParamsError, NotFoundError, RefusedError
from unchained.node.rpc.core.registry import Access, Scope, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.exporter import Exporter, ExportInfo
from unchained.node.rpc.methods.header import Header, shown_target
from unchained.node.rpc.methods.parameters import MAX_NUMBER, AnchorId, Height, MintedCoinId
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.presence import there
from unchained.storage.tables import IdTable

MAX_POINTS = 2_000
MAX_FOUND = 16
MAX_WAITING_LOOKED_AT = 1_000
MAX_FORKS = 100

IdPrefix = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{4,64}$",
        description="how an id begins, in hex digits",
        extra={"expected": "4 to 64 lower-case hex digits"},
    ),
]
IdKind = Literal["anchor", "coin", "transfer"]


@user_text(
    """The main chain's last anchor. `target`, `work` and `n_total` are those of the coins that
    are mined on it; `votes` counts those that are known. `supply` is all that is in the coin set,
    `pool` the fees that no anchor's coin has received yet."""
)
class Tip(msgspec.Struct, frozen=True):
    id: Hash
    height: int
    time: int
    age_ms: int
    n_total: int
    target: Hash
    work: str
    supply: Amount
    pool: Amount
    votes: int


@user_text(
    """An anchor that is set aside, or is no more; `changed` tells whether that is news. `tip` and
    `height` are those of the main chain after it.
    """
)
class Aside(msgspec.Struct, frozen=True):
    id: Hash
    set_aside: bool
    changed: bool
    tip: Hash
    height: int


@user_text(
    """An anchor with its body; the lists are empty while the body is unknown.

    `status`: on the main chain, on a side branch that counts, with an unknown body, invalid
    (Protocol §5.2), dead (§5.3: it counts, but nothing leads through it), or set aside.
    `votes` counts known coins bound to it, `confirmations` those bound to it or to its
    descendants on the main chain, less one for each coin that it or an anchor below it left
    out, and no more than the votes by which known rivals trail; for anchors that are too old to
    be undone both count at least what the chain lists. For the main chain alone: `minted`, what
    is new; `fees`, what its transfers paid into the pool; `pool_share`, what its own coin
    received from there.
    """
)
class Anchor(msgspec.Struct, frozen=True):
    header: Header
    status: AnchorStanding
    next: Hash | None
    votes: int
    confirmations: int
    fresh: list[Hash]
    uncles: list[Hash]
    transfers: list[Hash]
    state_root: Hash | None
    history_root: Hash | None
    minted: Amount | None
    fees: Amount | None
    pool_share: Amount | None


@user_text("The bytes of a coin (198: header, then mix), and of an anchor's body if it is known.")
class Raw(msgspec.Struct, frozen=True):
    raw: Hex
    body: Hex | None


@user_text(
    """The end of a branch. `length` counts its anchors above `fork_height`, where it leaves the
    main chain. `score` is that of Protocol §6; none for anchors that do not count."""
)
class Fork(msgspec.Struct, frozen=True):
    id: Hash
    height: int
    status: AnchorStanding
    fork_height: int
    length: int
    votes: int
    score: str | None


@user_text("The constants of the network (Protocol §10). Times in ms, `tau` too, sizes in bytes.")
class Params(msgspec.Struct, frozen=True):
    network: str
    genesis: Hash
    chain_id: int
    birth_time: int
    epoch_ms: int
    coins_per_epoch: int
    mem_kib: int
    tau: int
    target0: Hash
    max_target: Hash
    future_limit_ms: int
    window: int
    maturity: int
    max_reorg: int
    max_body_size: int
    subsidy: Amount
    address_prefix: str


@user_text(
    """All that is in the coin set after the anchor at a height, and in the pool: the fees that no
    anchor's coin has received yet (Protocol §5.4). Together they are what was minted so far."""
)
class Supply(msgspec.Struct, frozen=True):
    height: int
    supply: Amount
    pool: Amount


@user_text(
    """The difficulty that an anchor was mined at. `fees` is what its transfers paid, null below the
    heights whose state is kept."""
)
class DifficultyPoint(msgspec.Struct, frozen=True):
    height: int
    time: int
    n_total: int
    target: Hash
    work: str
    fees: Amount | None


@user_text("""An id that begins so, and what it is the id of.""")
class FoundId(msgspec.Struct, frozen=True):
    id: Hash
    kind: IdKind


class ChainRoom:
    """Methods about anchors and what follows from them."""

    def __init__(
        self, chain: ChainService, reader: StoreReader, exporter: Exporter, clock: Clock
    ) -> None:
        self._chain = chain
        self._reader = reader
        self._exporter = exporter
        self._clock = clock

    @method("chain.tip", Access.READ, scope=Scope.READ)
    @user_text("Return the main chain's last anchor.")
    async def tip(self) -> Tip:
        status = self._chain.status.value
        return Tip(
            Hash(status.tip),
            status.height,
            status.tip_time,
            max(0, self._clock.now_ms() - status.tip_time),
            status.n_total,
            shown_target(status.target),
            str(work(status.target)),
            Amount(status.supply),
            Amount(status.pool),
            status.votes,
        )

    @method("chain.anchor", Access.READ, errors=(NotFoundError,))
    @user_text("Return the anchor of an id, on whatever branch.")
    async def anchor(self, anchor: AnchorId) -> Anchor:
        return await self._anchor(anchor)

    @method("chain.anchor_at", Access.READ, errors=(NotFoundError,))
    @user_text("Return the main chain's anchor at a height.")
    async def anchor_at(self, height: Height) -> Anchor:
        anchor_id = await self._reader.run(lambda store: schema.HEIGHT.get(store, height))
        if anchor_id is None:
            raise NotFoundError(f"the main chain has no anchor at height {height}: see chain.tip")
        return await self._anchor(anchor_id)

    async def _anchor(self, anchor_id: bytes) -> Anchor:
        subsidy = self._chain.network.subsidy
        found = await self._reader.run(lambda store: _read_anchor(store, anchor_id, subsidy))
        if found is None:
            raise NotFoundError(f"no anchor {anchor_id.hex()} is known")
        coin, body, minted, fees, share, votes = found
        place = await self._chain.queries.anchor_place(coin, votes)
        on_main = place.standing == "main" and coin.height > 0
        return Anchor(
            Header.of(coin),
            place.standing,
            None if place.next is None else Hash(place.next),
            place.votes,
            place.confirmations,
            [Hash(coin_id) for coin_id in body.fresh] if body else [],
            [Hash(coin_id) for coin_id in body.uncles] if body else [],
            [Hash(wid) for wid in body.transfers] if body else [],
            Hash(body.state_root) if body else None,
            Hash(body.history_root) if body else None,
            Amount(minted) if on_main else None,
            Amount(fees) if on_main else None,
            Amount(share) if on_main else None,
        )

    @method("chain.header", Access.READ, errors=(NotFoundError,))
    @user_text("Return the header of a minted coin, anchors included.")
    async def header(self, coin: MintedCoinId) -> Header:
        return Header.of(await self._coin(coin))

    @method("chain.raw", Access.READ, errors=(NotFoundError,))
    @user_text("Return the bytes of an anchor and its body.")
    async def raw(self, anchor: AnchorId) -> Raw:
        coin = await self._coin(anchor)
        record = await self._reader.run(lambda store: schema.ANCHOR.get(store, anchor))
        return Raw(Hex(coin.raw), Hex(record.body) if record and record.body else None)

    async def _coin(self, coin_id: bytes) -> Coin:
        raw = await self._reader.run(lambda store: schema.COIN.get(store, coin_id))
        if raw is None:
            raise NotFoundError(f"no minted coin {coin_id.hex()} is known")
        return Coin.from_bytes(raw)

    @method("chain.forks", Access.READ)
    @user_text("Return the ends of all known branches, the main chain's first, at most 100.")
    async def forks(self) -> list[Fork]:
        return [
            Fork(
                Hash(end.id),
                end.height,
                end.standing,
                end.fork_height,
                end.height - end.fork_height,
                end.votes,
                None if end.score is None else str(end.score),
            )
            for end in await self._chain.queries.branch_ends(MAX_FORKS)
        ]

    @method("chain.params", Access.READ, scope=Scope.READ)
    @user_text("Return the constants of the network.")
    async def params(self) -> Params:
        genesis_id = await self._reader.run(
            lambda store: there(schema.HEIGHT.get(store, 0), "genesis")
        )
        return _params(self._chain.network, genesis_id)

    @method("chain.supply", Access.READ, errors=(NotFoundError,))
    @user_text(
        """Return how much there is, at the tip or after the anchor at a height.

        Old heights are forgotten once they cannot be undone any more.
        """
    )
    async def supply(self, height: Height | None = None) -> Supply:
        if height is None:
            status = self._chain.status.value
            return Supply(status.height, Amount(status.supply), Amount(status.pool))
        state = await self._reader.run(lambda store: schema.STATE.get(store, height))
        if state is None:
            raise NotFoundError(f"the supply at height {height} is not kept")
        return Supply(height, Amount(state.supply), Amount(state.pool))

    @method("chain.difficulty_history", Access.READ, errors=(InvalidParamsError,))
    @user_text(
        """Return target, time and fees of the main chain's anchors, every `step`th of a range.

        `last` left out means the tip. At most 2,000 points: raise `step` for a longer range.
        """
    )
    async def difficulty_history(
        self,
        first: Height = 1,
        last: Height | None = None,
        step: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)] = 1,
    ) -> list[DifficultyPoint]:
        end = self._chain.status.value.height
        heights = range(first, (end if last is None else min(last, end)) + 1, step)
        if len(heights) > MAX_POINTS:
            raise InvalidParamsError(
                f"the range has {len(heights)} points, at most {MAX_POINTS} are returned: "
                f"raise step to {len(heights) * step // MAX_POINTS + 1}"
            )
        subsidy = self._chain.network.subsidy
        return await self._reader.run(lambda store: _difficulty(store, heights, subsidy))

    @method("chain.find", Access.READ)
    @user_text(
        """Return the ids of coins and transfers that begin with some hex digits, at most 16.

        Of transfers that wait, only the latest thousand are looked at.
        """
    )
    async def find(self, prefix: IdPrefix) -> list[FoundId]:
        kept = await self._reader.run(lambda store: _ids(store, prefix))
        waiting = await self._chain.queries.waiting_transfers("time", MAX_WAITING_LOOKED_AT, 0)
        for entry in waiting:
            for id_ in (entry.txid, entry.wid):
                if id_.hex().startswith(prefix):
                    kept.setdefault(Hash(id_), "transfer")
        return [FoundId(id_, kept[id_]) for id_ in sorted(kept)[:MAX_FOUND]]

    @method("chain.set_aside", Access.FULL, errors=(NotFoundError,))
    @user_text(
        """Let an anchor and all that descends from it stop counting, until `chain.take_back`.

        If it is on the main chain, that goes back to the anchor before it and on from there. It
        stays set aside across restarts. For an anchor whose time is wrong, and for a chain that
        the operator does not want. Only what a reorganisation can undo can be set aside.
        """
    )
    async def set_aside(self, anchor: AnchorId) -> Aside:
        return await self._put_aside(anchor, True)

    @method("chain.take_back", Access.FULL, errors=(NotFoundError,))
    @user_text("Let an anchor that was set aside count again, with all that descends from it.")
    async def take_back(self, anchor: AnchorId) -> Aside:
        return await self._put_aside(anchor, False)

    async def _put_aside(self, anchor_id: Hash, is_aside: bool) -> Aside:
        chosen = CoinId(anchor_id)
        try:
            if is_aside:
                changed = await self._chain.set_aside(chosen)
            else:
                changed = await self._chain.take_back(chosen)
        except UnknownAnchorError as error:
            raise NotFoundError(str(error)) from None
        status = self._chain.status.value
        return Aside(anchor_id, is_aside, changed, Hash(status.tip), status.height)

    @method("chain.export", Access.FULL, timeout=3600, errors=(RefusedError, InvalidParamsError))
    @user_text(
        """Write the main chain into one file that can be verified without a node (Protocol §12).

        The file is made in the folder `exports` of the node's data directory and nowhere else,
        whole or not at all, and never over another one. Given up when the call is.
        """
    )
    async def export(
        self,
        name: Annotated[
            str,
            msgspec.Meta(
                pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$",
                description="a plain file name",
                extra={"expected": "1 to 64 letters, digits, . - or _, and no . at the beginning"},
            ),
        ],
    ) -> ExportInfo:
        return await self._exporter.export(name)


def _read_anchor(
    store: Reader, anchor_id: bytes, subsidy: int
) -> tuple[Coin, Body | None, int, int, int, int] | None:
    """Return coin, body, grains minted, fees, what its own coin received of the pool, votes."""
    record = schema.ANCHOR.get(store, anchor_id)
    if record is None:
        return None
    coin = Coin.from_bytes(record.coin)
    body = Body.from_bytes(record.body) if record.body else None
    minted = fees = share = 0
    own = schema.HISTORY.get(store, anchor_id)
    if own is not None and body is not None:
        listed = schema.HISTORY.get_many(store, [*body.fresh, *body.uncles])
        share = own.value - subsidy
        minted = subsidy + sum(history.value for history in listed if history is not None)
        fees = sum(_fee(store, wid) for wid in body.transfers)
    return coin, body, minted, fees, share, record.votes


def _fee(store: Reader, wid: bytes) -> int:
    raw = there(schema.TRANSFER.get(store, wid), f"transfer {wid.hex()}")
    return Transfer.from_bytes(raw).fee


def _params(network: Network, genesis_id: bytes) -> Params:
    return Params(
        network.name,
        Hash(genesis_id),
        network.chain_id,
        network.birth_ms,
        network.epoch_ms,
        network.coins_per_epoch,
        network.mem_kib,
        network.tau_ms,
        shown_target(network.target0),
        shown_target(network.max_target),
        network.future_limit_ms,
        network.window,
        network.maturity,
        network.max_reorg,
        network.max_body_size,
        Amount(network.subsidy),
        network.address_prefix,
    )


def _difficulty(store: Reader, heights: range, subsidy: int) -> list[DifficultyPoint]:
    points = []
    for height in heights:
        anchor_id = schema.HEIGHT.get(store, height)
        raw = None if anchor_id is None else schema.COIN.get(store, anchor_id)
        if anchor_id is None or raw is None:
            # The chain has become shorter since the call came in.
            break
        header = Coin.from_bytes(raw).header
        points.append(
            DifficultyPoint(
                height,
                header.time,
                header.n_total,
                shown_target(header.target),
                str(work(header.target)),
                _fees_at(store, height, anchor_id, subsidy),
            )
        )
    return points


def _fees_at(store: Reader, height: int, anchor_id: bytes, subsidy: int) -> Amount | None:
    """Return the fees of all transfers of an anchor, from the pool before and after it."""
    if height == 0:
        return Amount(0)
    after, before = schema.STATE.get(store, height), schema.STATE.get(store, height - 1)
    own = schema.HISTORY.get(store, anchor_id)
    if after is None or before is None or own is None:
        return None
    # Protocol §5.4: the fees go into the pool, and a share of it to the anchor's own coin.
    return Amount(after.pool + own.value - subsidy - before.pool)


def _ids(store: Reader, prefix: str) -> dict[Hash, IdKind]:
    """Return at most `MAX_FOUND` ids of each kind that begin so."""
    kinds: tuple[tuple[IdTable[Any], IdKind], ...] = (
        (schema.ANCHOR, "anchor"),
        (schema.COIN, "coin"),
        (schema.HISTORY, "coin"),
        (schema.TXID, "transfer"),
        (schema.TRANSFER, "transfer"),
    )
    found: dict[Hash, IdKind] = {}
    for table, kind in kinds:
        for id_ in islice(table.ids(store, prefix), MAX_FOUND):
            found.setdefault(Hash(id_), kind)
    return found
