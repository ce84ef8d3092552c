"""coin.*: what became of a coin, whose it is, and proof of it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from unchained.node.base.user_text import user_text
from unchained.node.chain.answers import KnownCoin
from unchained.node.chain.coin_proofs import CoinNotProvableError, CoinProofs
from unchained.node.chain.queries import ChainQueries
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import Network
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.rpc.core.errors import InvalidParamsError, NotFoundError, RefusedError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.parameters import CoinRef, Limit, MintedCoinId, Payee, lock_of_payee
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.schema import CoinHistory

KindName = Literal["anchor", "fresh", "late", "stray", "output"]
_KINDS: dict[CoinKind, KindName] = {
    CoinKind.ANCHOR: "anchor",
    CoinKind.FRESH: "fresh",
    CoinKind.LATE: "late",
    CoinKind.STRAY: "stray",
    CoinKind.OUTPUT: "output",
}


@user_text(
    """A coin.

    `status`: in the coin set, spent on the main chain, mined but listed by no anchor of it yet, or
    an output of a transfer that waits in the mempool. `kind`, `amount`, `height` (of inclusion) and
    `anchor` are known once an anchor lists the coin, the amount of a waiting one too.
    `mature_height` is the first at which it can be spent. `confirmations` counts votes. An output
    has the `txid` and the `index` that made it, a minted coin its own `mined_height` and `time`.
    `spent_by` is a txid, of a waiting transfer where `spent_height` is missing.
    """
)
class CoinInfo(msgspec.Struct, frozen=True):
    id: Hash
    status: Literal["unspent", "spent", "candidate", "waiting"]
    kind: KindName | None
    amount: Amount | None
    lock: Hash | None
    height: int | None
    anchor: Hash | None
    mature_height: int | None
    confirmations: int
    txid: Hash | None
    index: int | None
    mined_height: int | None
    time: int | None
    spent_height: int | None
    spent_by: Hash | None


@user_text(
    """One step in the life of a coin: `mined` on a parent, `included` by an anchor, `spent` by a
    transfer in an anchor, or `spending` by one that waits. `time` is that of the coin, then those
    of the anchors."""
)
class CoinEvent(msgspec.Struct, frozen=True):
    event: Literal["mined", "included", "spent", "spending"]
    height: int | None
    time: int | None
    anchor: Hash | None
    txid: Hash | None


@user_text(
    """A coin's proof file (Protocol §12.1), which `unchained-node verify-proof` checks with no
    node, and what it says.

    It speaks of the state after anchor `state_height`, the parent of the tip, to which the tip's
    header commits. `status` is the coin's in that state; `position` is its own among all that ever
    entered the set. A spent coin's file shows it unspent after anchor `unspent_height`, too.
    `anchors`, `work` and `coins` are those of the chain up to `state_height`.
    """
)
class ProofOfCoin(msgspec.Struct, frozen=True):
    file: Hex
    network: str
    tip: Hash
    tip_height: int
    state_height: int
    id: Hash
    amount: Amount
    lock: Hash
    height: int
    anchor: Hash
    position: int
    status: Literal["unspent", "spent"]
    unspent_height: int | None
    anchors: int
    work: str
    coins: int


@user_text("A coin under a lock. `spent`: whether the main chain has spent it.")
class Owned(msgspec.Struct, frozen=True):
    id: Hash
    amount: Amount
    height: int
    spent: bool


@user_text("Coins under one lock by id. `next` is what to pass as `after` for those that follow.")
class OwnedPage(msgspec.Struct, frozen=True):
    lock: Hash
    coins: list[Owned]
    next: Hash | None


OWNED_READ_MAX: Final = 20_000
"""Coins of a lock that one call reads, those that it leaves out among them."""


class CoinRoom:
    """Methods about single coins."""

    def __init__(
        self, network: Network, queries: ChainQueries, reader: StoreReader, proofs: CoinProofs
    ) -> None:
        self._network = network
        self._queries = queries
        self._reader = reader
        self._proofs = proofs

    @method("coin.get", Access.READ, errors=(NotFoundError,))
    @user_text("Return what is known of a coin: minted, or an output of a transfer.")
    async def get(self, coin: CoinRef) -> CoinInfo:
        found = await self._queries.coin(CoinId(coin))
        if found is None:
            raise _unknown(coin)
        return _describe(coin, found, self._network.maturity)

    @method("coin.history", Access.READ, errors=(NotFoundError,))
    @user_text("Return the life of a coin on the main chain, oldest first.")
    async def history(self, coin: CoinRef) -> list[CoinEvent]:
        found = await self._queries.coin(CoinId(coin))
        if found is None:
            raise _unknown(coin)
        return _history(found)

    @method("coin.proof", Access.READ, errors=(NotFoundError, RefusedError))
    @user_text(
        """Return the proof of what became of a coin, unspent or spent, as one file.

        Refused with NOT_YET for a coin that the tip itself includes: ask again after the next
        anchor; with STATE_GONE for one that was spent so long ago that this node does not keep the
        state before it any more; and with NEVER_UNSPENT for one that its own anchor spent.
        """
    )
    async def proof(self, coin: CoinRef) -> ProofOfCoin:
        try:
            found = await self._reader.run(
                lambda store: self._proofs.prove(store, CoinId(bytes(coin)))
            )
        except CoinNotProvableError as error:
            raise RefusedError(str(error), error=error.word) from None
        if found is None:
            raise NotFoundError(f"the main chain includes no coin {coin.hex()}")
        return _describe_proof(found, self._network)

    @method("coin.owned_by", Access.READ, errors=(InvalidParamsError,))
    @user_text(
        """Return the coins under the lock of an address, or under a lock.

        What was received by paycode or mined to an account is under locks of its own each: only
        the wallet finds those. One call reads 20000 coins at most, spent ones among them: a page
        may have few coins, or none, and still a `next`.
        """
    )
    async def owned_by(
        self,
        address: Payee | None = None,
        lock: Hash | None = None,
        *,
        spent: Annotated[bool, msgspec.Meta(description="list spent coins too")] = False,
        after: Hash | None = None,
        limit: Limit = 100,
    ) -> OwnedPage:
        if (address is None) == (lock is None):
            raise InvalidParamsError("coin.owned_by needs either an address or a lock")
        wanted = Lock(lock) if lock else lock_of_payee(address or "", self._network)
        return await self._reader.run(lambda store: _owned(store, wanted, spent, after, limit))

    @method("coin.raw", Access.READ, errors=(NotFoundError,))
    @user_text("Return the 198 bytes of a minted coin: header, then mix.")
    async def raw(self, coin: MintedCoinId) -> Hex:
        raw = await self._reader.run(lambda store: schema.COIN.get(store, coin))
        if raw is None:
            raise NotFoundError(f"no minted coin {coin.hex()} is known")
        return Hex(raw)


def _unknown(coin_id: bytes) -> NotFoundError:
    return NotFoundError(f"no coin {coin_id.hex()} is known")


def _describe(coin_id: bytes, found: KnownCoin, maturity: int) -> CoinInfo:
    """Describe a coin. `maturity`: anchors until a minted one can be spent."""
    spent_by = None if found.spender is None else found.spender.txid
    if found.output is not None:
        return _info(
            coin_id,
            status="waiting",
            value=found.output.value,
            lock=found.output.lock,
            txid=found.output.txid,
            spent_by=spent_by,
        )
    history = found.history
    if history is None:
        lock = None if found.minted is None else found.minted.header.lock
        return _info(coin_id, status="candidate", lock=lock, minted=found.minted)
    is_output = history.kind is CoinKind.OUTPUT
    return _info(
        coin_id,
        status="unspent" if found.is_unspent else "spent",
        history=history,
        value=history.value,
        lock=found.lock,
        anchor=None if found.included_in is None else found.included_in.id,
        mature_at=history.height + (0 if is_output else maturity),
        confirmations=found.confirmations,
        txid=history.txid or None,
        minted=found.minted,
        spent_by=history.spent_by or spent_by,
    )


def _info(
    coin_id: bytes,
    *,
    status: Literal["unspent", "spent", "candidate", "waiting"],
    lock: Lock | None,
    history: CoinHistory | None = None,
    value: int | None = None,
    anchor: bytes | None = None,
    mature_at: int | None = None,
    confirmations: int = 0,
    txid: bytes | None = None,
    minted: Coin | None = None,
    spent_by: bytes | None = None,
) -> CoinInfo:
    return CoinInfo(
        Hash(coin_id),
        status,
        None if history is None else _KINDS[history.kind],
        None if value is None else Amount(value),
        _hash(lock),
        None if history is None else history.height,
        _hash(anchor),
        mature_at,
        confirmations,
        _hash(txid),
        None if history is None or not history.txid else history.index,
        None if minted is None else minted.height,
        None if minted is None else minted.header.time,
        history.spent_height if history is not None and history.spent_by else None,
        _hash(spent_by),
    )


def _hash(value: bytes | None) -> Hash | None:
    return None if value is None else Hash(value)


def _history(found: KnownCoin) -> list[CoinEvent]:
    events = []
    minted, history = found.minted, found.history
    if minted is not None:
        time = minted.header.time
        events.append(CoinEvent("mined", minted.height, time, Hash(minted.parent), None))
    if history is not None:
        events.append(_event("included", found.included_in, history.txid))
        if history.spent_by:
            events.append(_event("spent", found.spent_in, history.spent_by))
    if found.spender is not None:
        spender = found.spender
        events.append(CoinEvent("spending", None, spender.added_ms, None, Hash(spender.txid)))
    return events


def _event(event: Literal["included", "spent"], anchor: Coin | None, txid: bytes) -> CoinEvent:
    assert anchor is not None, "the main chain has every height up to its tip"
    return CoinEvent(event, anchor.height, anchor.header.time, Hash(anchor.id), _hash(txid or None))


def _describe_proof(proof: CoinProof, network: Network) -> ProofOfCoin:
    tip, anchor = Coin.from_bytes(proof.tip.coin), Coin.from_bytes(proof.included.header.coin)
    chain = proof.start.history()
    heights = [earlier.path.height - 1 for earlier in proof.earlier]
    return ProofOfCoin(
        Hex(proof.to_file()),
        network.name,
        Hash(tip.id),
        tip.height,
        tip.height - 1,
        Hash(proof.coin_id),
        Amount(proof.value),
        Hash(proof.lock),
        proof.height,
        Hash(anchor.id),
        proof.state.position,
        "spent" if heights else "unspent",
        heights[0] if heights else None,
        chain.count,
        str(chain.work),
        chain.coins,
    )


def _owned(
    store: Reader, lock: Lock, with_spent: bool, after: bytes | None, limit: int
) -> OwnedPage:
    found: list[Owned] = []
    read = 0
    last = after
    for coin_id, owned in schema.OWNER.scan(store, lock, after or b""):
        if read == OWNED_READ_MAX:
            return OwnedPage(Hash(lock), found, _hash(last))
        read += 1
        last = coin_id
        spent = schema.UNSPENT.get(store, coin_id) is None
        if spent and not with_spent:
            continue
        if len(found) == limit:
            return OwnedPage(Hash(lock), found, found[-1].id)
        found.append(Owned(Hash(coin_id), Amount(owned.value), owned.height, spent))
    return OwnedPage(Hash(lock), found, None)
