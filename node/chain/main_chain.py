"""The main chain: which anchors are connected, one after the other (Protocol §5.3, §6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from unchained.node.chain.admission import Admission
from unchained.node.chain.branch import Archive, Branch
from unchained.node.chain.journal import Journal
from unchained.node.chain.ledger import Ledger
from unchained.node.chain.mempool.waiting_transfers import UndoneTransfers, WaitingTransfers
from unchained.node.chain.reorg_window import ReorgWindow
from unchained.node.chain.results import ConnectedAnchor, ReorgRefused
from unchained.node.chain.tree import AnchorMark, AnchorNode, AnchorTree
from unchained.node.consensus.errors import ProtocolError
from unchained.node.consensus.fork_choice import anchor_work
from unchained.node.consensus.mints import CoinKind, Mint
from unchained.node.consensus.params import Network
from unchained.node.consensus.transition import connect_anchor, mints_of
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.types import CoinId, Wid
from unchained.storage import schema
from unchained.storage.schema import AnchorRecord, MempoolRecord, TransferEntered

REMEMBERED_MINTS: Final = 128
"""Anchors whose mints are kept from counting to connecting; others are derived again."""


class MainChain:
    """Makes the winner of the tree the tip, and undoes what it has to for that."""

    def __init__(
        self,
        network: Network,
        tree: AnchorTree,
        ledger: Ledger,
        archive: Archive,
        waiting: WaitingTransfers,
        root: ReorgWindow,
        journal: Journal,
        admission: Admission,
    ) -> None:
        self._network = network
        self._tree = tree
        self._ledger = ledger
        self._archive = archive
        self._waiting = waiting
        self._root = root
        self._journal = journal
        self._admission = admission
        self._mints: dict[CoinId, list[Mint]] = {}
        self.chooses_later = False
        """Whether the choice is put off until more has been submitted."""
        self.refused: ReorgRefused | None = None
        """A deeper reorganisation that waits for the operator."""
        self._refused_lead = 0

    def remember_mints(self, anchor_id: CoinId, mints: list[Mint]) -> None:
        """Keep what counting an anchor has found out for when it is connected."""
        self._mints[anchor_id] = mints
        if len(self._mints) > REMEMBERED_MINTS:
            del self._mints[next(iter(self._mints))]

    def advance(self) -> None:
        """Make the winner of Protocol §6 the tip; what fails on the way is dead.

        Where the clock is behind the tip, nothing is chosen.
        """
        if self.chooses_later or self._admission.is_behind:
            return
        if self._tree.choose() is not self._tree.tip:
            self._follow(UndoneTransfers(self._waiting, self._tree.tip.height), 0)

    def _follow(self, undone: UndoneTransfers, depth: int) -> None:
        """Follow the winner, after so many anchors have been undone already."""
        while (best := self._tree.choose()) is not self._tree.tip:
            fork = self._tree.fork_point(best)
            if self._must_refuse(fork):
                lead = self._work_of(self._tree.path(fork, best))
                lead -= self._work_of(self._tree.path(fork, self._tree.tip))
                self.refuse(fork.height, best.id, lead)
                # The branch goes with the anchors that it leaves; the rest is chosen from anew.
                self._root.held = False
                while self._root.is_deep:
                    self._journal.changes.barren += self._root.shrink()
                continue
            depth = max(depth, self._tree.tip.height - fork.height)
            while self._tree.tip is not fork:
                self._disconnect(undone)
            self._connect_up_to(best, fork)
        self._settle(undone, depth)

    def _settle(self, undone: UndoneTransfers, depth: int) -> None:
        """Let what was undone wait again."""
        if depth:
            self._waiting.rebuild(undone)
        if depth > self._network.max_reorg:
            # What it was held for has become the main chain.
            self._root.held = False

    def _connect_up_to(self, best: AnchorNode, fork: AnchorNode) -> None:
        for node in self._tree.path(fork, best):
            try:
                change = connect_anchor(
                    node.coin,
                    node.validated.body,
                    self._mints_of(node),
                    self._waiting,
                    self._ledger,
                    self._network,
                )
            except ProtocolError as error:
                # Protocol §6: "An anchor that fails there is *dead*"
                self._tree.mark_dead(node)
                self._mints.pop(node.id, None)
                self._put_record(node)
                self._journal.changes.dead.append((node.id, error))
                return
            assert node.context.history is not None, "the tree keeps it"
            self._ledger.apply(change, node.context.history)
            self._tree.set_tip(node)
            self._note_connected(node)
            self._waiting.mempool.chain_grew(change.transfers)
            self._journal.write(tip_moved=True)

    def _note_connected(self, node: AnchorNode) -> None:
        self._put_record(node, self._journal.running_ms())
        kinds = [mint.kind for mint in self._mints_of(node)]
        self._journal.changes.connected.append(
            ConnectedAnchor(
                node.coin,
                kinds.count(CoinKind.FRESH),
                kinds.count(CoinKind.LATE),
                kinds.count(CoinKind.STRAY),
                len(node.validated.body.transfers),
            )
        )
        if not self._root.held:
            self._journal.changes.barren += self._root.shrink()
        if self.refused is not None:
            self._refused_lead -= self._work_of([node])
            if self._refused_lead < 0:
                self.refused = None
        self._root.prune_undo(self._journal.running_ms())

    def _put_record(self, node: AnchorNode, connected_running_ms: int = 0) -> None:
        body = b"" if node.validation is None else node.validated.body.to_bytes()
        votes = node.votes if node.forgotten else 0
        node.connected_running_ms = connected_running_ms
        record = AnchorRecord(
            node.coin.raw, body, node.status, votes, connected_running_ms, node.marks
        )
        self._ledger.batch.put(schema.ANCHOR.key(node.id), schema.ANCHOR.encode(record))

    def _disconnect(self, undone: UndoneTransfers) -> None:
        """Take the tip off the chain."""
        node = self._tree.tip
        parent = node.parent
        assert parent is not None, "a fork point lies at or above the root"
        transfers = [self._waiting.decoded(Wid(wid)) for wid in node.validated.body.transfers]
        history = parent.context.history
        assert history is not None, "the tree keeps it"
        self._ledger.disconnect(node.coin, history, self._mints_of(node), transfers)
        for sized in transfers:
            # They wait again from here on: a crash before the mempool is rebuilt loses none.
            if schema.MEMPOOL.get(self._ledger.view, sized.wid) is not None:
                continue
            self._ledger.log(TransferEntered(sized.wid))
            record = MempoolRecord(0, node.coin.header.time, sized.transfer.fee, sized.size)
            self._ledger.batch.put(schema.MEMPOOL.key(sized.wid), schema.MEMPOOL.encode(record))
        self._tree.set_tip(parent)
        self._admission.note_left(node.coin)
        self._journal.changes.disconnected.append((node.height, node.id))
        self._refused_lead += self._work_of([node])
        self._journal.write(tip_moved=True)
        undone.add(transfers, (mint.coin.id for mint in self._mints_of(node)))

    def _must_refuse(self, fork: AnchorNode) -> bool:
        """Return whether to leave a reorganisation to the operator (Protocol §6)."""
        if self._tree.tip.height - fork.height <= self._network.max_reorg:
            return False
        return self._root.is_settled(fork.height + 1, self._journal.running_ms())

    def _work_of(self, nodes: Sequence[AnchorNode]) -> int:
        """Return what headers show of the work of anchors."""
        return sum(anchor_work(node.coin.header.target, self._network) for node in nodes)

    def _mints_of(self, node: AnchorNode) -> list[Mint]:
        found = self._mints.get(node.id)
        if found is None:
            assert node.parent is not None
            found = mints_of(
                node.coin,
                node.validated.body,
                self._archive,
                Branch(self._tree, node.parent, self._archive),
                self._network,
            )
        return found

    def rule_out(self, node: AnchorNode, error: ProtocolError) -> None:
        """Make an anchor invalid for the rule of Protocol §5.2 that its body breaks."""
        self._tree.invalidate(node)
        self._put_record(node)
        self._journal.changes.barren.append(node.id)
        self._journal.changes.ruled_out.append((node.id, error))

    def set_aside(self, node: AnchorNode) -> None:
        """Let an anchor and its descendants stop counting: the operator wants it."""
        self._tree.set_aside(node)
        # On disk with the first step back: what is cut off in between is finished on opening.
        self._put_record(node)
        self._journal.changes.aside.append((node.id, True))
        self._leave(node)

    def mark_absent(self, anchor_id: CoinId, *, is_aside: bool) -> bool | None:
        """Set an anchor aside that counted once and waits for the clock to count again, or take it
        back; return whether that is news, None if there is no such anchor."""
        record = schema.ANCHOR.get(self._ledger.view, anchor_id)
        if record is None or not self._admission.awaits(Coin.from_bytes(record.coin)):
            return None
        marks = AnchorMark(record.marks) & ~AnchorMark.SET_ASIDE
        if is_aside:
            marks |= AnchorMark.SET_ASIDE
        changed = marks != record.marks
        if changed:
            record = msgspec.structs.replace(record, marks=int(marks))
            self._ledger.batch.put(schema.ANCHOR.key(anchor_id), schema.ANCHOR.encode(record))
            self._journal.changes.aside.append((anchor_id, is_aside))
        return changed

    def leave_set_aside(self) -> None:
        """Finish, after opening, what a set-aside had begun."""
        for node in self._tree.path(self._tree.root, self._tree.tip):
            if node.is_set_aside:
                self._leave(node)
                break

    def _leave(self, node: AnchorNode) -> None:
        undone = UndoneTransfers(self._waiting, self._tree.tip.height)
        depth = 0
        while node.on_main:
            self._disconnect(undone)
            depth += 1
        # What the clock does not allow counted only for having been the main chain.
        self._admission.note_clock(self._admission.now_ms)
        if self._admission.is_behind:
            self._settle(undone, depth)
        else:
            self._follow(undone, depth)

    def take_back(self, node: AnchorNode) -> None:
        """Let an anchor that was set aside count again, with its descendants."""
        self._tree.take_back(node)
        self._put_record(node)
        self._journal.changes.aside.append((node.id, False))
        self.advance()

    def refuse(self, fork_height: int, winner: CoinId, lead: int) -> None:
        """Leave a better branch to the operator. `lead`: by how much its headers show more work
        than the main chain's; it stands until the main chain has made up for that."""
        known = self.refused
        self.refused = ReorgRefused(fork_height, self._tree.tip.height - fork_height, winner)
        self._refused_lead = lead
        if known is None or known.fork_height != fork_height:
            self._journal.changes.refused = self.refused
