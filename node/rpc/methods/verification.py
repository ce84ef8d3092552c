"""coin.verify and transfer.verify_receipt: proofs checked by the node itself, step by step.

Each proof of work that is recomputed costs as much as a hash of mining, so all callers together
have one budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal

import msgspec
import trio

from unchained.node.base.number_words import number_of
from unchained.node.base.runner import Runner
from unchained.node.base.token_bucket import TokenBucket
from unchained.node.base.user_text import user_text
from unchained.node.chain.coin_proofs import CoinNotProvableError, CoinProofs
from unchained.node.consensus.coin_proof import CoinProof, FalseCoinProofError, verify_coin_proof
from unchained.node.consensus.coins import check_mix
from unchained.node.consensus.context import leaf_of as anchor_leaf_of
from unchained.node.consensus.errors import BadMixError
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import Network
from unchained.node.consensus.transition import body_root
from unchained.node.crypto import history_range, merkle, state_range
from unchained.node.crypto.anchor_header import ANCHOR_HEADER_SIZE_MAX
from unchained.node.crypto.pow import ProofOfWork
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.hashing import LEAF, NODE
from unchained.node.primitives.types import CoinId
from unchained.node.rpc.core.errors import BusyError, NotFoundError, RefusedError
from unchained.node.rpc.core.registry import Access, method
from unchained.node.rpc.core.values import Amount, Hash, Hex
from unchained.node.rpc.methods.store_reader import StoreReader
from unchained.node.wallet.errors import ReceiptError
from unchained.node.wallet.receipts import verify_receipt
from unchained.storage import schema
from unchained.storage.kv import Snapshot
from unchained.storage.presence import there

PROOFS_AT_ONCE: Final = 128
"""Proofs of work that may be recomputed for callers at once."""

PROOFS_PER_S: Final = 4.0
"""Proofs of work that may be recomputed for callers per second."""

PROOFS_OF_COIN: Final = 4
"""Of one coin: its own, and those of at most three anchors that its proof opens."""

RECEIPT_BYTES_READ_MAX: Final = 96 * 1024
"""Bytes of a receipt that is looked at here: some 128 anchors and a transfer."""


@user_text(
    """One step up a tree of hashes: the `sibling` stands `left` or `right` of what came before, and
    both together hash to `node`."""
)
class PathStep(msgspec.Struct, frozen=True):
    side: Literal["left", "right"]
    sibling: Hex
    node: Hex


@user_text(
    """A check that the node made. `holds` is None for one that could not be made, which `text` then
    explains. `path` climbs from `leaf` to a peak, which `root` commits to."""
)
class VerificationStep(msgspec.Struct, frozen=True):
    name: Literal["id", "target", "work", "inclusion", "history", "state", "whole"]
    holds: bool | None
    text: str
    leaf: Hex | None = None
    path: list[PathStep] = []
    root: Hash | None = None


@user_text("What became of checking a coin: `holds` if every check that could be made did.")
class VerifiedCoin(msgspec.Struct, frozen=True):
    coin: Hash
    holds: bool
    steps: list[VerificationStep]


@user_text(
    """What a receipt proves by itself: that a transfer is in an anchor, on which `work` was done.
    `on_main_chain`: whether that anchor is on this node's main chain."""
)
class VerifiedTransfer(msgspec.Struct, frozen=True):
    txid: Hash
    fee: Amount
    anchor: Hash
    height: int
    time: int
    tip: Hash
    tip_height: int
    work: str
    on_main_chain: bool


class VerificationBudget:
    """How many proofs of work all callers together may have recomputed."""

    def __init__(self) -> None:
        self._bucket: TokenBucket | None = None

    def take(self, proofs: int) -> None:
        """Take so many proofs of work. Raises BusyError with the seconds until there are as
        many."""
        now = trio.current_time()
        if self._bucket is None:
            self._bucket = TokenBucket(PROOFS_AT_ONCE, PROOFS_PER_S, now)
        if not self._bucket.take(now, proofs):
            wait_s = int(self._bucket.delay(now, proofs)) + 1
            raise BusyError(
                f"this node verifies {PROOFS_PER_S:g} proofs of work a second for callers",
                retry_after=wait_s,
            )


class VerificationRoom:
    """Methods that check proofs."""

    def __init__(
        self,
        network: Network,
        reader: StoreReader,
        proofs: CoinProofs,
        backend: ProofOfWork,
        runner: Runner,
    ) -> None:
        self._network = network
        self._reader = reader
        self._proofs = proofs
        self._backend = backend
        self._runner = runner
        self._budget = VerificationBudget()

    @method("coin.verify", Access.READ, errors=(NotFoundError, BusyError))
    @user_text(
        """Check a coin anew: its id, its proof of work, and the way of hashes from it to the tip.

        All callers together may have four proofs of work a second recomputed.
        """
    )
    async def verify(self, coin: Hash) -> VerifiedCoin:
        known = await self._reader.run(lambda store: _is_known(store, coin))
        if not known:
            raise NotFoundError(
                f"no coin {coin.hex()} is known on the main chain or as a candidate"
            )
        self._budget.take(PROOFS_OF_COIN)
        steps = await self._reader.run(lambda store: self._verify(store, CoinId(bytes(coin))))
        return VerifiedCoin(coin, all(step.holds is not False for step in steps), steps)

    def _verify(self, store: Snapshot, coin_id: CoinId) -> list[VerificationStep]:
        steps: list[VerificationStep] = []
        raw = schema.COIN.get(store, coin_id)
        if raw is not None:
            steps += self._own_steps(Coin.from_bytes(raw), coin_id)
        history = schema.HISTORY.get(store, coin_id)
        if history is None:
            text = "no anchor of the main chain includes it yet"
            return [*steps, VerificationStep("inclusion", None, text)]
        anchor_id = there(schema.HEIGHT.get(store, history.height), "the including anchor")
        record = there(schema.ANCHOR.get(store, anchor_id), "the including anchor's record")
        anchor, body = Coin.from_bytes(record.coin), Body.from_bytes(record.body)
        if history.kind is CoinKind.OUTPUT:
            wid = there(schema.TXID.get(store, history.txid), "the transfer").wid
            steps.append(_inclusion(wid, body.transfers, anchor, body, "transfers"))
        elif coin_id in body.fresh:
            steps.append(_inclusion(coin_id, body.fresh, anchor, body, "fresh coins"))
        elif coin_id in body.uncles:
            steps.append(_inclusion(coin_id, body.uncles, anchor, body, "late and stray coins"))
        else:
            text = f"it is the anchor of height {anchor.height} itself"
            steps.append(VerificationStep("inclusion", coin_id == anchor.id, text))
        try:
            proof = self._proofs.prove(store, coin_id)
        except CoinNotProvableError as error:
            return [*steps, VerificationStep("state", None, str(error))]
        assert proof is not None, "it has a history"
        return [*steps, *self._proof_steps(proof)]

    def _own_steps(self, coin: Coin, coin_id: CoinId) -> list[VerificationStep]:
        number, target = int.from_bytes(coin.id, "big"), coin.header.target
        try:
            check_mix(coin, self._network, self._backend)
            works = VerificationStep(
                "work",
                True,
                f"Argon2id over {self._network.mem_kib} KiB of its header gives its mix again",
            )
        except BadMixError:
            works = VerificationStep("work", False, "Argon2id of its header gives another mix")
        return [
            VerificationStep("id", coin.id == coin_id, "its header and its mix hash to its id"),
            VerificationStep(
                "target",
                number <= target,
                f"its id is at most its target, by a factor of {(target + 1) / (number + 1):.2f}",
            ),
            works,
        ]

    def _proof_steps(self, proof: CoinProof) -> list[VerificationStep]:
        included = proof.included
        anchor = Coin.from_bytes(included.header.coin)
        listed = included.header.fresh.n + included.header.uncles.n
        own_node = anchor_leaf_of(anchor, listed, self._network)
        in_history = VerificationStep(
            "history",
            history_range.verify(included.path, own_node, proof.tip.history_root),
            f"the anchor of height {anchor.height} is in the history that the tip commits to",
            Hex(own_node),
            _climb(own_node, included.path.height, included.path.siblings, history_range.join),
            Hash(proof.tip.history_root),
        )
        unspent = state_range.leaf_of(
            proof.coin_id, proof.value, proof.lock, proof.height, proof.minted == 1
        )
        leaf = state_range.SPENT if proof.earlier else unspent
        in_state = VerificationStep(
            "state",
            state_range.verify(proof.state, leaf, proof.tip.state_root),
            f"position {proof.state.position} of the state after the tip's parent shows it "
            + ("spent" if proof.earlier else "unspent"),
            Hex(leaf),
            _climb(leaf, proof.state.position, proof.state.siblings, state_range.join),
            Hash(proof.tip.state_root),
        )
        try:
            found = verify_coin_proof(proof, self._network, self._backend)
            text = (
                f"headers, targets and proofs of work fit, from genesis to the tip at height "
                f"{found.tip_height}: {number_of(found.anchors, 'anchor')}, "
                f"{number_of(found.coins, 'coin')}"
            )
            whole = VerificationStep("whole", True, text)
        except FalseCoinProofError as error:
            whole = VerificationStep("whole", False, str(error))
        return [in_history, in_state, whole]

    @method("transfer.verify_receipt", Access.READ, errors=(RefusedError, BusyError))
    @user_text(
        """Check a receipt: that a transfer is in an anchor, and the work done on it.

        Refused with BAD_RECEIPT for one that does not hold. All callers together may have four
        proofs of work a second recomputed; a receipt has one for each of its anchors.
        """
    )
    async def verify_receipt(
        self,
        file: Annotated[
            Hex, msgspec.Meta(description="a receipt's bytes, as wallet.receipt gives them")
        ],
    ) -> VerifiedTransfer:
        raw = bytes(file)
        if len(raw) > RECEIPT_BYTES_READ_MAX:
            raise RefusedError(
                f"a receipt of at most {RECEIPT_BYTES_READ_MAX} bytes is looked at here, not "
                f"{len(raw)}: use unchained-node verify-receipt",
                error="BAD_RECEIPT",
            )
        self._budget.take(1 + len(raw) // ANCHOR_HEADER_SIZE_MAX)
        try:
            found = await self._runner.run(verify_receipt, raw, self._network, self._backend)
        except ReceiptError as error:
            raise RefusedError(str(error), error="BAD_RECEIPT") from None
        ours = await self._reader.run(lambda store: schema.HEIGHT.get(store, found.height))
        return VerifiedTransfer(
            Hash(found.txid),
            Amount(found.fee),
            Hash(found.anchor_id),
            found.height,
            found.time_ms,
            Hash(found.tip_id),
            found.tip_height,
            str(found.work),
            ours == found.anchor_id,
        )


def _is_known(store: Snapshot, coin_id: bytes) -> bool:
    return (
        schema.COIN.get(store, coin_id) is not None
        or schema.HISTORY.get(store, coin_id) is not None
    )


def _inclusion(
    listed: bytes, ids: Sequence[bytes], anchor: Coin, body: Body, name: str
) -> VerificationStep:
    """Climb from an id in a list of a body to the list's root, and on to the anchor's header."""
    index = ids.index(listed)
    proof = merkle.prove(ids, index)
    root = merkle.merkle_root(ids)
    path: list[PathStep] = []
    node, width, position, used = LEAF(listed), len(ids), index, 0
    while width > 1:
        if position ^ 1 < width:
            sibling = proof.siblings[used]
            used += 1
            node = NODE(sibling + node if position & 1 else node + sibling)
            side: Literal["left", "right"] = "left" if position & 1 else "right"
            path.append(PathStep(side, Hex(sibling), Hex(node)))
        position >>= 1
        width = (width + 1) >> 1
    holds = merkle.verify(proof, listed, root) and body_root(body) == anchor.header.body_root
    text = (
        f"number {index + 1} of {len(ids)} {name} in the body of anchor {anchor.height}, to which "
        "its header commits"
    )
    return VerificationStep("inclusion", holds, text, Hex(LEAF(listed)), path, Hash(root))


def _climb(
    leaf: bytes, index: int, siblings: Sequence[bytes], join: Callable[[bytes], bytes]
) -> list[PathStep]:
    path = []
    node = leaf
    for level, sibling in enumerate(siblings):
        is_left = bool(index >> level & 1)
        node = join(sibling + node if is_left else node + sibling)
        path.append(PathStep("left" if is_left else "right", Hex(sibling), Hex(node)))
    return path
