"""Makes proof files (Protocol §12.1) of a store's main chain.

All is read of one snapshot, off the writer's thread. States that the chain has left behind are made
anew by undoing the stored one, kept while the tip stays what it is, and never written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from unchained.node.chain.ledger import undo_state
from unchained.node.consensus.coin_proof import AnchorInHistory, CoinProof, EarlierState
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.opened_anchors import HistoryStart
from unchained.node.consensus.params import Network
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.crypto.history_range import HistoryRange
from unchained.node.crypto.state_range import StateProof, StateRange
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Lock
from unchained.storage import schema
from unchained.storage.kv import Getter
from unchained.storage.pages import StoredPages
from unchained.storage.presence import there
from unchained.storage.rebuild import lock_of
from unchained.storage.schema import CoinHistory, StateRecord, UndoRecord

PROOF_PAGES_MAX: Final = 2_048
"""Pages that each range here keeps in memory although the store has them: some 2 MB, or 5."""

PROOF_UNDONE_SPENDS_MAX: Final = 32_768
"""Spends that are undone for earlier states at one tip, all together: some 60 MB of pages."""

PROOF_STATES_MAX: Final = 16
"""States that are kept at one tip, that after its parent among them."""


class CoinNotProvableError(Exception):
    """The main chain includes a coin, and its proof cannot be made. The text is for people, `word`
    for programs."""

    def __init__(self, text: str, word: str) -> None:
        super().__init__(text)
        self.word = word


class _State(msgspec.Struct, frozen=True):
    """The state after an anchor, to be proven in; how many spends were undone for it."""

    leaves: StateRange
    record: StateRecord
    undone: int

    def prove(self, position: int) -> StateProof:
        return self.leaves.prove(position, self.record.supply, self.record.pool)


class CoinProofs:
    """Proofs of coins, for any number of threads, which take turns.

    The pages follow from the tip alone, so that what was made of one snapshot goes on with those of
    a later one at the same tip.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._lock = threading.Lock()
        self._store = _CurrentStore()
        self._tip: _Tip | None = None

    def prove(self, store: Getter, coin_id: CoinId) -> CoinProof | None:
        """Return the proof of a coin in the state after the tip's parent, None for a coin that the
        main chain does not include. `store` is a snapshot.

        Raises `CoinNotProvableError`, or a `StoreError`.
        """
        with self._lock:
            self._store.now = store
            try:
                return self._prove(store, coin_id)
            except CoinNotProvableError:
                raise
            except BaseException:
                # ranges are of no use once a page of theirs was not as it must be
                self._tip = None
                raise
            finally:
                self._store.now = None

    def _prove(self, store: Getter, coin_id: CoinId) -> CoinProof | None:
        tip_id = there(schema.meta_id(store, schema.META_TIP), "tip")
        history = schema.HISTORY.get(store, coin_id)
        if history is None:
            return None
        if self._tip is None or self._tip.id != tip_id:
            # the pages of the tip before are let go of first
            self._tip = None
            self._tip = _Tip(self._store, tip_id)
        return _prove(self._tip, self._network, coin_id, history)


class _CurrentStore:
    """A store that stands for the snapshot which is read at the moment."""

    def __init__(self) -> None:
        self.now: Getter | None = None

    def get(self, key: bytes) -> bytes | None:
        assert self.now is not None, "read only while a proof is made"
        return self.now.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        assert self.now is not None, "read only while a proof is made"
        return self.now.get_many(keys)


class _Tip:
    """What the proofs at one tip share."""

    def __init__(self, store: Getter, tip_id: CoinId) -> None:
        self.store = store
        self.id = tip_id
        self.header = _header(store, tip_id)
        self.height = Coin.from_bytes(self.header.coin).height
        # Protocol §5.1: "the two commitments *after the anchor's parent* was applied"
        self._anchors = HistoryRange(
            StoredPages(store, schema.HISTORY_PAGE),
            self.height + 1,
            clean_pages_max=PROOF_PAGES_MAX,
        )
        self._anchors.truncate(self.height)
        self._start: HistoryStart | None = None
        self._states: OrderedDict[int, _State] = OrderedDict()
        """By height; the parent's, then those asked for, least recently used first."""

    def start(self) -> HistoryStart:
        """Return how the history of two anchors or more begins."""
        if self._start is None:
            self._start = HistoryStart.of(self._anchors)
        return self._start

    def anchor(self, height: int) -> AnchorInHistory:
        """Return an anchor below the tip with its path."""
        anchor_id = there(schema.HEIGHT.get(self.store, height), f"anchor at height {height}")
        return AnchorInHistory(_header(self.store, anchor_id), self._anchors.prove(height))

    def state(self, height: int) -> _State:
        """Return the state after an anchor below the tip. Raises `CoinNotProvableError`."""
        found = self._states.get(height)
        if found is None:
            found = self._undo_to(height)
            self._states[height] = found
        self._states.move_to_end(height)
        return found

    def _undo_to(self, height: int) -> _State:
        records: list[tuple[StateRecord, UndoRecord]] = []
        undone = 0
        for above in range(self.height, height, -1):
            before = schema.STATE.get(self.store, above - 1)
            undo = schema.UNDO.get(self.store, above)
            if before is None or undo is None:
                raise CoinNotProvableError(
                    f"the coin was spent by the anchor at height {height + 1}: this node does not "
                    "keep the state before it any more",
                    "STATE_GONE",
                )
            records.append((before, undo))
            undone += len(undo.spent)
            # the tip alone may have spent more
            if undone > PROOF_UNDONE_SPENDS_MAX and above < self.height:
                raise CoinNotProvableError(
                    f"the coin was spent by the anchor at height {height + 1}: too many others "
                    "were spent since to make the state before it anew",
                    "STATE_GONE",
                )
        self._make_room(undone)
        after = there(schema.STATE.get(self.store, self.height), "the tip's state")
        leaves = StateRange(
            StoredPages(self.store, schema.STATE_PAGE),
            after.positions,
            clean_pages_max=PROOF_PAGES_MAX,
        )
        for before, undo in records:
            undo_state(leaves, before, undo)
        return _State(leaves, records[-1][0], undone)

    def _make_room(self, undone: int) -> None:
        """Let go of earlier states until so many spends may be undone; never of the parent's."""
        total = undone + sum(state.undone for state in self._states.values())
        for height in [height for height in self._states if height != self.height - 1]:
            if total <= PROOF_UNDONE_SPENDS_MAX and len(self._states) < PROOF_STATES_MAX:
                break
            total -= self._states.pop(height).undone


def _header(store: Getter, anchor_id: CoinId) -> AnchorHeader:
    record = there(schema.ANCHOR.get(store, anchor_id), f"anchor {anchor_id.hex()}")
    return AnchorHeader.of(Coin.from_bytes(record.coin), Body.from_bytes(record.body))


def _prove(tip: _Tip, network: Network, coin_id: CoinId, history: CoinHistory) -> CoinProof:
    if history.height >= tip.height:
        raise CoinNotProvableError(
            f"not yet: the tip, anchor {tip.height}, includes the coin itself, and what it commits "
            "to is the state before it; ask again after the next anchor",
            "NOT_YET",
        )
    # what the tip itself spends is unspent in the state that it commits to
    is_spent = bool(history.spent_by) and history.spent_height < tip.height
    if is_spent and history.spent_height == history.height:
        raise CoinNotProvableError(
            f"the anchor at height {history.height} created the coin and spent it: no state ever "
            "showed it unspent",
            "NEVER_UNSPENT",
        )
    earlier: tuple[EarlierState, ...] = ()
    if is_spent:
        spender = tip.anchor(history.spent_height)
        before = tip.state(history.spent_height - 1).prove(history.position)
        earlier = (EarlierState(spender.header, spender.path, before),)
    return CoinProof(
        network.chain_id,
        coin_id,
        history.value,
        _lock_of(tip.store, coin_id, history),
        history.height,
        int(history.kind is not CoinKind.OUTPUT),
        tip.header,
        tip.state(tip.height - 1).prove(history.position),
        tip.start(),
        tip.anchor(history.height),
        earlier,
    )


def _lock_of(store: Getter, coin_id: CoinId, history: CoinHistory) -> Lock:
    unspent = schema.UNSPENT.get(store, coin_id)
    if unspent is not None:
        return unspent.lock
    return there(lock_of(store, coin_id, history), f"the lock of coin {coin_id.hex()}")
