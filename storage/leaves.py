"""The leaves of the ranges (Protocol §4) as the rest of a store has them, in order."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from unchained.node.consensus.context import leaf_of
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import Network
from unchained.node.crypto import state_range
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import HEADER_SIZE, Coin, CoinHeader
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.transfer import SizedTransfer, output_id
from unchained.node.primitives.types import CoinId, Lock
from unchained.storage import schema
from unchained.storage.kv import Reader
from unchained.storage.presence import there


class CoinLeaf(msgspec.Struct, frozen=True, gc=False):
    """A coin's leaf of the state's range, and the position that the coin's history names."""

    coin_id: CoinId
    position: int
    leaf: bytes


def coin_leaves(reader: Reader) -> Iterator[CoinLeaf]:
    """Yield the leaf of each coin that ever entered the main chain's set, in that order. Raises
    `StoreCorruptError` where something is missing or damaged."""
    for height, anchor_id in schema.HEIGHT.scan(reader, 1):
        body = _body(reader, height, anchor_id)
        # Protocol §4: the outputs of an anchor's transfers in order of application and index, then
        # what it mints in the order of §5.4
        for wid in body.transfers:
            key = schema.TRANSFER.key(wid)
            raw = there(schema.TRANSFER.get(reader, wid), f"transfer {wid.hex()}")
            try:
                sized = SizedTransfer.from_bytes(raw)
            except NonCanonicalError as error:
                raise schema.TRANSFER.corrupt(key, str(error)) from None
            for index, output in enumerate(sized.transfer.outputs):
                yield _leaf(reader, output_id(sized.txid, index), Lock(output.lock))
        for listed in (anchor_id, *body.fresh, *body.uncles):
            raw = there(schema.COIN.get(reader, listed), f"coin {listed.hex()}")
            yield _leaf(reader, CoinId(listed), CoinHeader.from_bytes(raw[:HEADER_SIZE]).lock)


def anchor_nodes(reader: Reader, network: Network) -> Iterator[bytes]:
    """Yield each main-chain anchor's own node of the history, genesis first. Raises
    `StoreCorruptError` where something is missing or damaged."""
    yield from genesis_of(network).history.peaks
    for height, anchor_id in schema.HEIGHT.scan(reader, 1):
        body = _body(reader, height, anchor_id)
        raw = there(schema.COIN.get(reader, anchor_id), f"coin {anchor_id.hex()}")
        yield leaf_of(Coin.from_bytes(raw), len(body.fresh) + len(body.uncles), network)


def _body(reader: Reader, height: int, anchor_id: bytes) -> Body:
    record = there(schema.ANCHOR.get(reader, anchor_id), f"anchor {height}")
    try:
        return Body.from_bytes(record.body)
    except NonCanonicalError as error:
        raise schema.ANCHOR.corrupt(schema.ANCHOR.key(anchor_id), str(error)) from None


def _leaf(reader: Reader, coin_id: CoinId, lock: Lock) -> CoinLeaf:
    history = there(schema.HISTORY.get(reader, coin_id), f"the history of coin {coin_id.hex()}")
    if history.spent_by:
        return CoinLeaf(coin_id, history.position, state_range.SPENT)
    minted = history.kind is not CoinKind.OUTPUT
    leaf = state_range.leaf_of(coin_id, history.value, lock, history.height, minted)
    return CoinLeaf(coin_id, history.position, leaf)
