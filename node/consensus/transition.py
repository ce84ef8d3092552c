"""What an anchor must pass and what it changes, from top to bottom as Protocol §5.

Two moments. An anchor is *counted* when it has passed §5.2, which needs no state: `count_anchor`.
It is *connected*, if the fork choice leads through it, on the coin set after its parent:
`connect_anchor` returns all that it changes there. Nothing is written here; who keeps the coin set
applies what is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

import msgspec

from unchained.node.consensus.coins import (
    check_coin_alone,
    check_coin_in_context,
    is_anchor_grade,
)
from unchained.node.consensus.context import AnchorContext, BranchView, child_context, leaf_of
from unchained.node.consensus.errors import (
    BadBodyRootError,
    BadHistoryRootError,
    BadOrderError,
    BadStateRootError,
    BodyMissingError,
    BodyTooLargeError,
    FreshWrongParentError,
    NotAnchorError,
    TooManyCoinsError,
    TooManyTransfersError,
)
from unchained.node.consensus.mints import (
    CoinKind,
    Mint,
    anchor_mint,
    fresh_mint,
    late_mint,
    pool_share,
    stray_mint,
)
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import (
    UnspentCoin,
    ValidatedTransfer,
    check_transfer_in_context,
)
from unchained.node.consensus.uncles import (
    bound_anchor,
    check_listed_time,
    check_not_included,
    check_uncle,
)
from unchained.node.crypto.merkle import merkle_root
from unchained.node.primitives.body import Body, body_root_of
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import MAX_TRANSFER_ENCODED, SizedTransfer, output_id
from unchained.node.primitives.types import CoinId, Lock, Txid, Wid

NOT_CONDEMNING: Final = (BodyMissingError, BadBodyRootError)
"""What `count_anchor` raises without making the anchor invalid: whether it is stays open."""


class CoinView(Protocol):
    """The coins that a node knows."""

    def coin(self, coin_id: CoinId) -> Coin | None:
        """Return a known coin."""


class EncodedLengths(Protocol):
    """The transfers whose bytes are at hand."""

    def encoded_length(self, wid: Wid) -> int | None:
        """Return how many bytes a transfer's encoding has, None if it has not been seen."""


class BodyContents(CoinView, EncodedLengths, Protocol):
    """What is at hand of what a body lists."""


class TransferView(Protocol):
    """The transfers that counted anchors list."""

    def validated(self, wid: Wid) -> ValidatedTransfer:
        """Return what a listed transfer is found to be."""


class StateView(Protocol):
    """The state after the anchor's parent (Protocol §4). `pool` in grains."""

    @property
    def pool(self) -> int:
        """Fees that no anchor's coin has received yet."""

    def state_root(self) -> bytes:
        """Return the state root, 32 bytes."""

    def unspent_many(self, ids: Sequence[CoinId]) -> list[UnspentCoin | None]:
        """Return each coin if it is in the coin set, in the order of `ids`."""

    def was_spent(self, coin_id: CoinId) -> bool:
        """Return whether the coin is known to have been in the coin set and spent."""


class CreatedCoin(msgspec.Struct, frozen=True, gc=False):
    """A coin that an anchor adds to the coin set. An output has a `txid`, a minted coin none;
    `index` is that in the transfer's outputs or in the body's list."""

    coin_id: CoinId
    kind: CoinKind
    value: int
    lock: Lock
    txid: bytes
    index: int

    @property
    def minted(self) -> bool:
        """Whether a proof of work made the coin."""
        return self.kind is not CoinKind.OUTPUT


class Transition(msgspec.Struct, frozen=True):
    """All that an anchor changes.

    `spent` are the members that leave the coin set, in order; `spent_by` names the transfer that
    spends a coin, also where the same body creates it. `created` are the outputs in order of
    application and index, then what is minted: in the order of their positions. `minted`: grains
    that are new, fees apart. `pool` and `supply_change` in grains: what the pool is after it, and
    by how much the sum of all unspent coins changes. `leaf` is the anchor's own node of the
    history, 80 bytes.
    """

    anchor: Coin
    transfers: Sequence[SizedTransfer]
    spent: Mapping[CoinId, UnspentCoin]
    spent_by: Mapping[CoinId, Txid]
    created: Sequence[CreatedCoin]
    minted: int
    pool: int
    supply_change: int
    leaf: bytes


# Counted: Protocol §5.2


def count_anchor(
    anchor: Coin, body: Body, contents: BodyContents, branch: BranchView, network: Network
) -> list[Mint]:
    """Check an anchor that has passed §3.3 and its body, all but the mixes of the listed coins.

    Returns what it mints, its own coin first, then the body's in body order. Raises
    `BodyMissingError` for "not yet" and `BadBodyRootError` for the sender's fault, which are
    `NOT_CONDEMNING`; else the `AnchorError` or `CoinError` that makes the anchor invalid for good.
    """
    check_anchor_grade(anchor, network)
    check_body_root(anchor, body_root(body))
    check_list_lengths(len(body.fresh), len(body.uncles), len(body.transfers), network)
    unseen = check_encoded_bytes(body.transfers, contents, network)
    # Protocol §5.2: BODY_MISSING: "after `BODY_TOO_LARGE` also a listed coin"
    fresh = list(_resolve(body.fresh, contents))
    uncles = list(_resolve(body.uncles, contents))
    if unseen:
        raise BodyMissingError(expected=f"transfer {unseen[0].hex()}", actual="not seen yet")
    for listed in (body.fresh, body.uncles):
        # Protocol §5.2: BAD_ORDER: "strictly ascending"
        if any(left >= right for left, right in pairwise(listed)):
            raise BadOrderError(expected="coin ids strictly ascending")
    parent = branch.anchor_at(anchor.height - 1)
    assert parent is not None and parent.id == anchor.parent, "the view's duty"  # noqa: PT018
    check_history_root(body.history_root, parent)
    # Protocol §5.2: "Then each listed coin u, fresh first, in body order"
    mints = [anchor_mint(anchor, network)]
    for coin in fresh:
        check_not_included(coin, branch)
        check_listed_time(coin, anchor.header.time, network)
        check_fresh_parent(coin, anchor)
        # Protocol §5.2: "Both pass §3.3 in full but for `STALE_PARENT` and `TIME_TOO_NEW`."
        check_coin_alone(coin, network)
        check_coin_in_context(coin, parent, network, tip_height=None, now_ms=None)
        mints.append(fresh_mint(coin, network))
    listed_uncles = {coin.id: coin for coin in uncles}
    mints.extend(
        check_uncle(
            coin,
            anchor.height,
            anchor.header.time,
            anchor.header.target,
            listed_uncles,
            branch,
            network,
        )
        for coin in uncles
    )
    return mints


def check_fresh_parent(coin: Coin, anchor: Coin) -> None:
    """Check what a fresh coin is bound to. Raises `FreshWrongParentError`."""
    # Protocol §5.2: FRESH_WRONG_PARENT: "its parent is the anchor's parent"
    if coin.parent != anchor.parent:
        raise FreshWrongParentError(expected=anchor.parent.hex(), actual=coin.parent.hex())


def check_header(
    anchor: Coin,
    fresh: int,
    uncles: int,
    transfers: int,
    history_root: bytes,
    parent: AnchorContext,
    network: Network,
    now_ms: int | None,
) -> AnchorContext:
    """Check an anchor by all that needs no body but the lengths of its lists (Protocol §11).

    What its body_root commits to has been compared; without `now_ms` no clock is asked. Returns it
    as its children see it. Raises the `CoinError` or `AnchorError` that it breaks.
    """
    check_coin_alone(anchor, network)
    check_coin_in_context(anchor, parent, network, tip_height=None, now_ms=now_ms)
    check_anchor_grade(anchor, network)
    check_list_lengths(fresh, uncles, transfers, network)
    if parent.history is not None:
        check_history_root(history_root, parent)
    return child_context(anchor, fresh + uncles, parent, network)


def check_anchor_grade(anchor: Coin, network: Network) -> None:
    """Check that the coin is of anchor grade. Raises `NotAnchorError`."""
    # Protocol §5.2: NOT_ANCHOR: "not of anchor grade"
    if not is_anchor_grade(anchor, network):
        raise NotAnchorError(
            expected=f"an id of at most {network.grade_target(anchor.header.target):064x}",
            actual=anchor.id.hex(),
        )


def body_root(body: Body) -> bytes:
    """Return what the header of an anchor with this body commits to (Protocol §5.1)."""
    return body_root_of(
        merkle_root(body.fresh),
        merkle_root(body.uncles),
        merkle_root(body.transfers),
        body.state_root,
        body.history_root,
    )


def check_body_root(anchor: Coin, root: bytes) -> None:
    """Check that a body's root is the one in the header. Raises `BadBodyRootError`."""
    # Protocol §5.2: BAD_BODY_ROOT: "the sender's fault: the anchor stays unjudged"
    if root != anchor.header.body_root:
        raise BadBodyRootError(expected=anchor.header.body_root.hex(), actual=root.hex())


def check_list_lengths(fresh: int, uncles: int, transfers: int, network: Network) -> None:
    """Check how much a body lists. Raises `TooManyCoinsError`, `TooManyTransfersError`."""
    # Protocol §5.2: TOO_MANY_COINS: "fresh > 16K, uncles > 16K"
    for count in (fresh, uncles):
        if count > network.max_listed:
            raise TooManyCoinsError(expected=f"at most {network.max_listed}", actual=count)
    # Protocol §5.2: TOO_MANY_TRANSFERS: "more wids than the body limit divided by 1,024"
    if transfers > network.max_transfers:
        raise TooManyTransfersError(expected=f"at most {network.max_transfers}", actual=transfers)


def check_encoded_bytes(
    wids: Sequence[bytes], seen: EncodedLengths, network: Network
) -> list[bytes]:
    """Check the bytes of those listed transfers that are there: before more of them are asked for,
    and as they come. Returns the others. Raises `BodyTooLargeError`."""
    size = 0
    missing = []
    most = network.max_body_size
    for wid in wids:
        length = seen.encoded_length(Wid(wid))
        # Protocol §5.3: "above 256 KiB they are not read (`BODY_MISSING`)"
        if length is None or length > MAX_TRANSFER_ENCODED:
            missing.append(wid)
        else:
            size += length
        # Protocol §5.2: BODY_TOO_LARGE: "each as often as it is listed, come to more than the body"
        if size > most:
            raise BodyTooLargeError(expected=f"at most {most} bytes", actual=f"{size} or more")
    return missing


def check_history_root(root: bytes, parent: AnchorContext) -> None:
    """Check the history root of a body on top of `parent`. Raises `BadHistoryRootError`."""
    assert parent.history is not None, "it is kept as deep as bodies are checked"
    expected = parent.history.root()
    # Protocol §5.2: BAD_HISTORY_ROOT: "`BAD_HISTORY_ROOT`."
    # Protocol §5.1: "the two commitments *after the anchor's parent* was applied"
    if root != expected:
        raise BadHistoryRootError(expected=expected.hex(), actual=root.hex())


def _resolve(ids: Sequence[bytes], coins: CoinView) -> Iterator[Coin]:
    for coin_id in ids:
        coin = coins.coin(CoinId(coin_id))
        # Protocol §5.2: BODY_MISSING: "asked for; not invalid, and it does not count"
        if coin is None:
            raise BodyMissingError(expected=f"coin {coin_id.hex()}", actual="not seen yet")
        yield coin


def mints_of(
    anchor: Coin, body: Body, coins: CoinView, branch: BranchView, network: Network
) -> list[Mint]:
    """Return what `count_anchor` returned for a body that has passed it."""
    mints = [anchor_mint(anchor, network)]
    mints += [fresh_mint(coin, network) for coin in _resolve(body.fresh, coins)]
    for coin in _resolve(body.uncles, coins):
        late = bound_anchor(coin, branch) is not None
        mints.append(
            late_mint(coin, anchor.height - coin.height, network)
            if late
            else stray_mint(coin, network)
        )
    return mints


# Connected: Protocol §5.3, §5.4


def connect_anchor(
    anchor: Coin,
    body: Body,
    mints: Sequence[Mint],
    transfers: TransferView,
    state: StateView,
    network: Network,
) -> Transition:
    """Check a counted anchor on the state after its parent; return what it changes.

    `mints` are what `count_anchor` returned. Raises the `ProtocolError` for which the anchor cannot
    be on any chain.
    """
    # Protocol §5.3: BAD_STATE_ROOT: "`BAD_STATE_ROOT`"
    # Protocol §5.1: "the two commitments *after the anchor's parent* was applied"
    state_root = state.state_root()
    if body.state_root != state_root:
        raise BadStateRootError(expected=state_root.hex(), actual=body.state_root.hex())
    found = [transfers.validated(Wid(wid)) for wid in body.transfers]
    # Protocol §5.3: BODY_TOO_LARGE: "sum of the transfers' sizes, §8.2"
    # What does not decode has no outputs to count.
    size = sum(one.length if one.sized is None else one.sized.size for one in found)
    if size > network.max_body_size:
        raise BodyTooLargeError(expected=f"at most {network.max_body_size}", actual=size)
    # Protocol §5.3: "the transfers in order (§8)"
    coins = _CoinSet(state, anchor.height, (one.sized for one in found if one.sized is not None))
    connected: list[SizedTransfer] = []
    for one in found:
        # Protocol §5.3: "Bytes that match their wid and fail §8.3, decoding included"
        one.verdict.raise_alone()
        sized = one.sized
        assert sized is not None, "a transfer that is fit by itself decodes"
        spent = check_transfer_in_context(sized.transfer, coins, anchor.height, network)
        one.verdict.raise_witness()
        coins.apply(sized, spent)
        connected.append(sized)
    # Protocol §5.4: "All fees of an anchor's transfers go into the *pool*, which is 0 at genesis"
    fees = sum(sized.transfer.fee for sized in connected)
    pool = state.pool + fees
    share = pool_share(pool)
    # Protocol §5.3: "minting last"
    created = [*coins.created.values(), *_minted(mints, share)]
    minted = sum(mint.value for mint in mints)
    return Transition(
        anchor,
        connected,
        coins.spent,
        coins.spent_by,
        created,
        minted,
        # Protocol §5.4: "what is left goes on to the next anchor of this chain"
        pool - share,
        minted + share - fees,
        leaf_of(anchor, len(body.fresh) + len(body.uncles), network),
    )


class _CoinSet:
    """The coin set as the transfers so far leave it: what the next one is checked against."""

    def __init__(self, state: StateView, height: int, transfers: Iterable[SizedTransfer]) -> None:
        self._state = state
        self._height = height
        self.created: dict[CoinId, CreatedCoin] = {}
        self.spent: dict[CoinId, UnspentCoin] = {}
        self.spent_by: dict[CoinId, Txid] = {}
        # All that is spent is read at once.
        ids = list(
            {CoinId(entry.coin_id): None for sized in transfers for entry in sized.transfer.inputs}
        )
        self._before = dict(zip(ids, state.unspent_many(ids), strict=True))

    def unspent(self, coin_id: CoinId) -> UnspentCoin | None:
        """Return the coin if it is in the coin set after the transfers so far."""
        if coin_id in self.spent_by:
            return None
        # Protocol §8.3: "An input may spend an output of an earlier transfer of the same body."
        made = self.created.get(coin_id)
        if made is not None:
            return UnspentCoin(made.value, made.lock, self._height, False)
        return self._before[coin_id]

    def was_spent(self, coin_id: CoinId) -> bool:
        """Return whether the coin was in the coin set and has been spent."""
        return coin_id in self.spent_by or self._state.was_spent(coin_id)

    def apply(self, sized: SizedTransfer, spent: Sequence[UnspentCoin]) -> None:
        """Spend and create what a valid transfer does."""
        for entry, coin in zip(sized.transfer.inputs, spent, strict=True):
            coin_id = CoinId(entry.coin_id)
            self.spent_by[coin_id] = sized.txid
            if coin_id not in self.created:
                self.spent[coin_id] = coin
        for made in _outputs(sized):
            self.created[made.coin_id] = made


def created_locks(
    mints: Sequence[Mint], transfers: Sequence[SizedTransfer]
) -> Iterator[tuple[CoinId, Lock]]:
    """Yield id and lock of each coin that a connected anchor has created, in the order of
    `Transition.created`."""
    for sized in transfers:
        for made in _outputs(sized):
            yield made.coin_id, made.lock
    for mint in mints:
        yield mint.coin.id, mint.lock


def _outputs(sized: SizedTransfer) -> Iterator[CreatedCoin]:
    txid = sized.txid
    for index, output in enumerate(sized.transfer.outputs):
        yield CreatedCoin(
            output_id(txid, index), CoinKind.OUTPUT, output.value, Lock(output.lock), txid, index
        )


def _minted(mints: Sequence[Mint], share: int) -> list[CreatedCoin]:
    created = []
    fresh = uncles = 0
    for mint in mints:
        index, value = 0, mint.value
        if mint.kind is CoinKind.ANCHOR:
            value += share
        elif mint.kind is CoinKind.FRESH:
            index, fresh = fresh, fresh + 1
        else:
            index, uncles = uncles, uncles + 1
        created.append(
            CreatedCoin(mint.coin.id, mint.kind, value, mint.coin.header.lock, b"", index)
        )
    return created
