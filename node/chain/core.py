"""The chain of one node, synchronously: what is known, which chain wins, what is connected.

Everything here runs in one thread at a time and may read and write the store. Time comes in as an
argument, proofs of work are verified elsewhere: what comes in unproven is checked by all that is
cheap, then handed back as `NeedsProof`, to be submitted again as a `ProvenCoin` or `ProvenAnchor`
(Protocol §3.3, §5.2: "all cheap checks before any Argon2").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import msgspec

from unchained.node.chain.admission import Admission, Vote
from unchained.node.chain.branch import Archive, Branch, KnownParents
from unchained.node.chain.coin_reads import encoded_length
from unchained.node.chain.journal import Journal
from unchained.node.chain.ledger import Ledger
from unchained.node.chain.main_chain import MainChain
from unchained.node.chain.mempool.job_transfers import ListedTransfer
from unchained.node.chain.mempool.mempool import Shown
from unchained.node.chain.mempool.waiting_transfers import WaitingTransfers
from unchained.node.chain.opened_chain import connect_loaded, open_chain
from unchained.node.chain.reorg_window import ReorgWindow
from unchained.node.chain.results import (
    BatchOutcome,
    Changes,
    NeedsProof,
    Outcome,
    Package,
    ProvenAnchor,
    ProvenCoin,
    ReorgRefused,
    UnknownAnchorError,
)
from unchained.node.chain.status import ChainStatus
from unchained.node.chain.transfer_memory import TransferMemory
from unchained.node.chain.tree import AnchorNode, AnchorStatus, AnchorTree, Validation
from unchained.node.chain.view import ChainView
from unchained.node.consensus.coins import check_coin_alone, check_parent
from unchained.node.consensus.errors import (
    ProtocolError,
    TimeTooNewError,
    UnknownParentError,
)
from unchained.node.consensus.mints import Mint
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import FeeTooLowError
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.consensus.transition import (
    NOT_CONDEMNING,
    check_anchor_grade,
    count_anchor,
)
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.transfer import SizedTransfer
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore
from unchained.storage.schema import AnchorRecord


class ChainCore:
    """The single writer's state and its operations.

    `running_ms()` is how long this process has had the store, in ms; `now_ms` what the node's
    clock shows, which `note_clock` brings up to date from then on.
    """

    def __init__(
        self, store: KeyValueStore, network: Network, running_ms: Callable[[], int], now_ms: int
    ) -> None:
        opened = open_chain(store, network)
        self.store = store
        self.network = network
        self.tree: AnchorTree = opened.tree
        self.ledger: Ledger = opened.ledger
        self.archive: Archive = opened.archive
        self.transfers = TransferMemory()
        self._parents = KnownParents(self.tree, self.archive)
        self._waiting = WaitingTransfers(store, network, self.ledger, self.tree, self.transfers)
        self.mempool = self._waiting.mempool
        self._ran_before_ms = opened.running_ms
        self._running_ms = running_ms
        self.journal = Journal(self.ledger, self.running_ms)
        self.admission = Admission(
            network, self.tree, self.ledger, self.archive, self.journal, now_ms
        )
        self.root = ReorgWindow(network, self.tree, self.ledger, self.archive, self.admission)
        self._main = MainChain(
            network,
            self.tree,
            self.ledger,
            self.archive,
            self._waiting,
            self.root,
            self.journal,
            self.admission,
        )
        self.view = ChainView(
            network,
            self.tree,
            self.archive,
            self.ledger.anchors,
            self.ledger.view,
            self._waiting,
            self.root,
        )
        """What reads of the chain look at."""
        self.admission.load(store, frozenset(opened.main))
        connect_loaded(self.tree, opened.main)
        self._main.leave_set_aside()

    # Reading

    @property
    def tip(self) -> AnchorNode:
        """The main chain's last anchor."""
        return self.tree.tip

    def status(self, now_ms: int) -> ChainStatus:
        """Return the present; `now_ms` is what the node's clock shows."""
        tip, is_behind = self.tip, self.admission.is_behind
        return ChainStatus(
            tip=tip.id,
            height=tip.height,
            votes=tip.votes,
            tip_time=tip.coin.header.time,
            n_total=tip.context.child_n_total,
            target=tip.context.child_target,
            history=self.ledger.history,
            supply=self.ledger.supply,
            pool=self.ledger.pool,
            next_event=self.ledger.next_event,
            coins=self.admission.coins,
            anchors=len(self.tree.nodes),
            mempool=self.mempool.statistics(now_ms),
            refused=self._main.refused,
            clock_behind_ms=tip.coin.header.time - self.admission.now_ms if is_behind else 0,
            next_due_ms=self.admission.next_due_ms,
        )

    def running_ms(self) -> int:
        """Return how long nodes have run on this store, ms."""
        return self._ran_before_ms + self._running_ms()

    def knows_coin(self, coin_id: CoinId) -> bool:
        """Return whether the coin is known and valid."""
        return self.archive.knows(coin_id)

    def is_awaited(self, anchor_id: CoinId) -> bool:
        """Return whether what is bound to an anchor has to wait: for its coin or for its body."""
        node = self.tree.get(anchor_id)
        return node is None or node.status is AnchorStatus.BODYLESS

    def transfer_bytes(self, wid: Wid) -> bytes | None:
        """Return the encoding of a transfer that a body or the mempool holds."""
        return schema.TRANSFER.get(self.ledger.view, wid)

    def hold_listed(self, body: Body) -> tuple[ListedTransfer, ...]:
        """Return what keeps the transfers of a job's body at hand for as long as it lives."""
        return self._waiting.jobs.hold(map(Wid, body.transfers))

    def branch_of(self, node: AnchorNode) -> Branch:
        """Return the chain that ends in a counting anchor, as the rules read it."""
        return Branch(self.tree, node, self.archive)

    # Coins

    def submit_coin(self, coin: Coin, now_ms: int) -> Outcome | NeedsProof:
        """Take in a candidate or an anchor's coin whose proof nobody has verified yet.

        Raises a `CoinError`; `UnknownParentError` and `TimeTooNewError` mean "not yet".
        """
        vote = self._vote_of(coin, now_ms)
        if vote is None:
            return Outcome.KNOWN
        # A coin may be known for a body that lists it, and have been no vote until its parent
        # counted; its mix has been verified then.
        if not self.admission.knows(coin):
            return NeedsProof((coin,))
        return self._accept(vote)

    def submit_proven_coin(self, proven: ProvenCoin, now_ms: int) -> Outcome:
        """Take in a candidate or an anchor's coin (Protocol §3.3).

        Raises what `submit_coin` raises.
        """
        vote = self._vote_of(proven.coin, now_ms)
        return Outcome.KNOWN if vote is None else self._accept(vote)

    def _vote_of(self, coin: Coin, now_ms: int) -> Vote | None:
        """Check a coin by all but its mix; return None if it is known and adds nothing.

        Raises a `CoinError`.
        """
        home = self.tree.get(coin.parent)
        is_known = self.admission.knows(coin)
        if is_known and (
            home is None or home.status is not AnchorStatus.COUNTS or coin.id in home.bound
        ):
            return None
        check_coin_alone(coin, self.network)
        context = check_parent(coin, self._parents, self.network)
        # What a lowered tree holds is not stale: it is being weighed.
        tip_height = min(self.tip.height, self.tree.root.height + self.network.max_reorg)
        try:
            return self.admission.check(self.tree.nodes[context.id], coin, now_ms, tip_height)
        except TimeTooNewError:
            if is_known:
                # A body lists it: it is stored, and counts when its time has come.
                return None
            raise

    def _accept(self, vote: Vote) -> Outcome:
        self.admission.take_in(vote)
        self._main.advance()
        self.journal.flush()
        return Outcome.ACCEPTED

    # Bodies

    def submit_package(self, package: Package, *, choose: bool = True) -> Outcome | NeedsProof:
        """Take in the body of an anchor whose coin is known; it may list coins that nobody has
        verified yet.

        Without `choose`, whether it makes another tip is left to the next `advance`. Raises
        `UnknownParentError` and `BodyMissingError` for "not yet", `BadBodyRootError` for the
        sender's fault; any other `ProtocolError` has made the anchor invalid for good.
        """
        counted = self._check_package(package)
        if counted is None:
            return Outcome.KNOWN
        if counted.news:
            return NeedsProof(tuple(counted.news))
        return self._count(counted, package, choose=choose)

    def submit_proven_anchor(self, proven: ProvenAnchor, *, choose: bool = True) -> Outcome:
        """Take in the body of an anchor whose coin is known (Protocol §5.2).

        As `submit_package`, which see.
        """
        counted = self._check_package(proven.package)
        if counted is None:
            return Outcome.KNOWN
        return self._count(counted, proven.package, choose=choose)

    def _check_package(self, package: Package) -> _Passed | None:
        """Check an anchor by §5.2 but for mixes; None if it has been validated before."""
        anchor, body = package.anchor, package.body
        node = self.tree.get(anchor.id)
        if node is None:
            check_anchor_grade(anchor, self.network)
            raise UnknownParentError(
                expected="an anchor whose coin is known", actual=anchor.id.hex()
            )
        if node.status is not AnchorStatus.BODYLESS:
            return None
        parent = self.tree.nodes[check_parent(anchor, self._parents, self.network).id]
        contents = _PackageContents(package, self)
        try:
            mints = count_anchor(anchor, body, contents, self.branch_of(parent), self.network)
        except NOT_CONDEMNING:
            raise
        except ProtocolError as error:
            self._main.rule_out(node, error)
            self.journal.flush()
            raise
        news = [mint.coin for mint in mints[1:] if not self.admission.knows(mint.coin)]
        return _Passed(node, mints, news)

    def _count(self, passed: _Passed, package: Package, *, choose: bool) -> Outcome:
        self._let_count(passed.node, package, passed.mints)
        if choose:
            self._main.advance()
        self.journal.flush()
        return Outcome.ACCEPTED

    def submit_chain(
        self, anchors: Sequence[ProvenAnchor], now_ms: int
    ) -> tuple[int, ProtocolError | None]:
        """Take in anchors in order; stop at the first that breaks a rule.

        Returns how many were taken in or known already, and the broken rule: also one that an
        anchor broke when it was connected.
        """
        for done, anchor in enumerate(anchors):
            dead = len(self.journal.changes.dead)
            try:
                self.submit_proven_coin(anchor.coin, now_ms)
                self.submit_proven_anchor(anchor)
            except ProtocolError as error:
                return done, error
            for anchor_id, broken in self.journal.changes.dead[dead:]:
                if anchor_id == anchor.package.anchor.id:
                    return done, broken
        return len(anchors), None

    def submit_batch(self, anchors: Sequence[ProvenAnchor], now_ms: int) -> BatchOutcome:
        """Take in anchors, lowest first; stop at the first that breaks a rule of its own."""
        # A choice goes up from the root, which is far below while a deep branch is weighed.
        with self.choosing_once() if self.root.held else nullcontext():
            for anchor in anchors:
                try:
                    self.submit_proven_coin(anchor.coin, now_ms)
                    self.submit_proven_anchor(anchor)
                except ProtocolError as error:
                    return BatchOutcome(error, False)
        return BatchOutcome(None, self.root.is_full)

    def condemn(self, anchor_id: CoinId, error: ProtocolError) -> None:
        """Rule out an anchor whose body lists a coin with a forged mix (`BAD_MIX`)."""
        node = self.tree.get(anchor_id)
        if node is not None and node.status is AnchorStatus.BODYLESS:
            self._main.rule_out(node, error)
            self.journal.flush()

    def _let_count(self, node: AnchorNode, package: Package, mints: list[Mint]) -> None:
        parent = node.parent
        assert parent is not None, "the root has a body"
        put = self.ledger.batch.put
        for mint in mints[1:]:
            # One that is known may have lost its anchor, which has come back since.
            if not self.admission.has(mint.coin):
                self.admission.take_in_listed(mint.coin)
        for wid in map(Wid, package.body.transfers):
            self.mempool.reveal(wid)
            # To write what is stored takes less than to look whether it is.
            raw = package.transfers.get(wid)
            if raw is None and not self._waiting.is_stored(wid):
                raw = self._waiting.jobs.get(wid)
                assert raw is not None, "its length was known when the body was counted"
            if raw is not None:
                put(schema.TRANSFER.key(wid), raw)
        body = package.body
        record = AnchorRecord(node.coin.raw, body.to_bytes(), AnchorStatus.COUNTS, 0, 0, node.marks)
        put(schema.ANCHOR.key(node.id), schema.ANCHOR.encode(record))
        self._main.remember_mints(node.id, mints)
        self.admission.let_count(
            node, Validation.of_child(node.coin, body, parent.context, self.network)
        )

    def advance(self) -> None:
        """Follow the winner, if it is not the tip already: after opening, and after what was
        submitted without a choice."""
        self._main.advance()
        self.journal.flush()

    # The clock, and the operator

    def note_clock(self, now_ms: int) -> None:
        """Take note of what the node's clock shows: it has gone on, or was set."""
        was_behind = self.admission.is_behind
        if self.admission.note_clock(now_ms) or (was_behind and not self.admission.is_behind):
            self._main.advance()
            self.journal.flush()

    def set_aside(self, anchor_id: CoinId) -> bool:
        """Let an anchor and its descendants stop counting, until `take_back`; return whether that
        is news. Raises `UnknownAnchorError`."""
        return self._put_aside(anchor_id, is_aside=True)

    def take_back(self, anchor_id: CoinId) -> bool:
        """Let an anchor that was set aside count again, with its descendants; return whether that
        is news. Raises `UnknownAnchorError`."""
        return self._put_aside(anchor_id, is_aside=False)

    def _put_aside(self, anchor_id: CoinId, *, is_aside: bool) -> bool:
        node = self.tree.get(anchor_id)
        if node is None:
            changed = self._main.mark_absent(anchor_id, is_aside=is_aside)
        else:
            changed = None if node is self.tree.root else node.is_set_aside != is_aside
        if changed is None:
            raise UnknownAnchorError(anchor_id, self.tree.root.height + 1)
        if changed and node is not None:
            (self._main.set_aside if is_aside else self._main.take_back)(node)
        self.journal.flush(force=True)
        return changed

    # Branches that leave the main chain below the tree

    def may_undo_from(self, fork_height: int) -> bool:
        """Return whether this node would by itself follow a better branch that leaves its main
        chain at a height (Protocol §6)."""
        return fork_height >= self.root.floor(self.running_ms())

    def refuse(self, fork_height: int, winner: CoinId, lead: int) -> None:
        """Leave a better branch to the operator. `lead`: by how much its headers show more work
        than the main chain's; it stands until the main chain has made up for that."""
        self._main.refuse(fork_height, winner, lead)

    @property
    def refused(self) -> ReorgRefused | None:
        """A deeper reorganisation that waits for the operator."""
        return self._main.refused

    def lower_root(self, height: int) -> bool:
        """Let the tree reach down to an anchor of the main chain and stay so; return whether that
        is done, or the next part of it is to be asked for."""
        self.root.held = True
        done = self.root.extend(height)
        self.journal.flush()
        return done

    def let_root_rise(self) -> bool:
        """Let the tree have its ordinary depth again; return whether it has."""
        self.root.held = False
        self.journal.changes.barren += self.root.shrink()
        self.journal.flush()
        return not self.root.is_deep

    @contextmanager
    def choosing_once(self) -> Iterator[None]:
        """Make the choice of the tip only once, after all that is submitted inside."""
        self._main.chooses_later = True
        try:
            yield
        finally:
            self._main.chooses_later = False
        self.advance()

    # Transfers

    def check_transfer(
        self, raw: bytes, now_ms: int, shown: Shown = frozenset()
    ) -> SizedTransfer | Outcome:
        """Decode a transfer and check it for the mempool by all but its witness; return it if it
        may enter. Raises a `PolicyError` or a `TransferError`."""
        return self._waiting.check_bytes(raw, now_ms, shown)

    def submit_transfer(
        self, proven: ProvenTransfer, now_ms: int, hidden: bool = False, shown: Shown = frozenset()
    ) -> Outcome:
        """Take in a transfer: `WaitingTransfers.submit`."""
        try:
            outcome = self._waiting.submit(proven, now_ms, hidden=hidden, shown=shown)
        except FeeTooLowError:
            # It went through the mempool, and came out at the bottom.
            self.journal.flush()
            raise
        # Also while anchors share batches: it is acknowledged.
        self.journal.flush(force=True)
        return outcome

    def expire_transfers(self, now_ms: int) -> None:
        """Drop transfers that have waited too long."""
        self.mempool.expire(now_ms)
        self.journal.flush()

    def load_mempool(self) -> None:
        """Validate the transfers that waited when the store was last written: after opening."""
        self._waiting.load()
        self.journal.flush()

    # Writing

    def begin_bulk(self) -> None:
        """Let anchors share batches from here on: sync and import."""
        self.journal.begin_bulk()

    def end_bulk(self) -> None:
        """Write what is left and go back to one synced batch for each anchor."""
        self.journal.end_bulk()

    def take_changes(self) -> Changes:
        """Return what happened since the last time, and begin anew."""
        return self.journal.take_changes()


class _Passed(msgspec.Struct, frozen=True):
    """An anchor that has passed §5.2 but for the mixes of `news`, the listed coins that are not
    known."""

    node: AnchorNode
    mints: list[Mint]
    news: list[Coin]


class _PackageContents:
    """What a package brings and what is known already: the `BodyContents` of its body."""

    def __init__(self, package: Package, core: ChainCore) -> None:
        self._package = package
        self._core = core

    def coin(self, coin_id: CoinId) -> Coin | None:
        """Return a coin of the package, or one that is known."""
        return self._package.coins.get(coin_id) or self._core.archive.coin(coin_id)

    def encoded_length(self, wid: Wid) -> int | None:
        """Return how many bytes a transfer's encoding has, None if it has not been seen."""
        raw = self._package.transfers.get(wid)
        return encoded_length(self._core.view, wid) if raw is None else len(raw)
