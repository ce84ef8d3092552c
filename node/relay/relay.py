"""Gossip in and out: coins, anchor announcements, transfers (Protocol §11).

What comes in goes through the chain, and is forwarded by gossip only if that accepts it. What the
chain takes in by any other way (mined or handed in here, fetched, released) is published as soon
as the chain says so: nobody else announces anything. An anchor is published only when its whole
body is there and has passed Protocol §5.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.fanout import Lost
from unchained.node.chain.mempool.mempool import PolicyError
from unchained.node.chain.results import Changes, Held, Outcome, Package
from unchained.node.chain.service import ChainService
from unchained.node.consensus.anchors import check_anchor_grade
from unchained.node.consensus.coins import check_coin_alone, parse_coin
from unchained.node.consensus.errors import BadBodyRootError, TooManyCoinsError
from unchained.node.peers.eviction import News
from unchained.node.peers.exchanges import Penalize
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId
from unchained.node.relay.fetcher import Fetcher, FetchError, NotNowError
from unchained.node.relay.penalty_table import judge
from unchained.node.transport.contract import (
    NotRunningError,
    PeerId,
    TopicLimits,
    Transport,
    Verdict,
)
from unchained.node.wire.limits import (
    ANCHOR_GOSSIP,
    COIN_GOSSIP,
    TRANSFER_GOSSIP,
    GossipLimits,
    name_of,
)
from unchained.node.wire.messages import AnchorHeader
from unchained.storage.schema import TransferEntered

CHEAP_MS: Final = 0.1
"""Price of a message that is judged without a proof or a signature."""
HELD_MS: Final = 1.0
"""Price of a coin whose parent is unknown, the first of that parent: it takes a place, and a
request to its sender."""
SIGNATURE_MS: Final = 0.5
DECODING_MS_PER_KIB: Final = 0.03
"""Price of a message's length: a transfer of 256 KiB takes some 7 ms to decode and check."""
MIX_MS_AT_16_MIB: Final = 8.5
"""Price of a proof of work of 16 MiB (Protocol §11)."""
PROVING: Final = 2
"""Coins of one peer, announced anchors among them, in verification at a time (Protocol §11)."""
OTHERS_ASKED: Final = 3
"""Peers besides the announcer that are asked for a body."""
HEDGE_S: Final = 2.0
"""Seconds after which the next of them is asked as well: an announcer that stalls delays little."""
STALL_MS: Final = 50.0
"""Price of having announced an anchor whose body did not come in time."""


class RelayStatistics(msgspec.Struct, frozen=True):
    """Counts since the start: messages by what became of them, and those published."""

    accepted: int
    ignored: int
    rejected: int
    held: int
    published: int
    bodies_fetched: int
    rules: dict[str, int]
    """Messages that broke a rule, by its name."""


class _InHand:
    """What gossip is having validated, by how many tasks."""

    def __init__(self) -> None:
        self.validations = 0
        self.became_known = False

    def settle(self, verdict: Verdict) -> Verdict:
        """Have what another way made known meanwhile forwarded: nobody else publishes it."""
        if verdict is Verdict.IGNORE and self.became_known:
            return Verdict.ACCEPT
        return verdict


class Relay:
    """Takes part in the three topics. Construct before the transport runs; `run` publishes.

    `want` is told of an unknown anchor and who knows it, and tells whether it is news; `news_from`
    gives the least height that is news to anybody, for while a chain is being synchronized;
    `others` gives peers to ask for bodies; `note_news` is told who was the first to bring what.
    """

    def __init__(
        self,
        chain: ChainService,
        transport: Transport,
        fetcher: Fetcher,
        *,
        genesis_id: CoinId,
        penalize: Penalize,
        want: Callable[[PeerId, CoinId], bool],
        news_from: Callable[[], int],
        others: Callable[[], Sequence[PeerId]],
        note_news: Callable[[PeerId, News], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._transport = transport
        self._fetcher = fetcher
        self._penalize = penalize
        self._want = want
        self._news_from = news_from
        self._others = others
        self._note_news = note_news
        self._log = log
        self._mix_ms = MIX_MS_AT_16_MIB * chain.network.mem_kib / 16_384
        self._in_hand: dict[bytes, _InHand] = {}
        self._proving: dict[PeerId, trio.Semaphore] = {}
        self._verdicts: Counter[Verdict] = Counter()
        self._rules: Counter[str] = Counter()
        self._held = self._published = self._bodies = 0
        self._topics = {
            limits.name: name_of(genesis_id, limits.name)
            for limits in (COIN_GOSSIP, ANCHOR_GOSSIP, TRANSFER_GOSSIP)
        }
        self._subscribe(COIN_GOSSIP, News.COIN, self._judge_coin)
        self._subscribe(ANCHOR_GOSSIP, News.ANCHOR, self._judge_anchor)
        self._subscribe(TRANSFER_GOSSIP, News.TRANSFER, self._judge_transfer)

    def _subscribe(
        self,
        limits: GossipLimits,
        news: News,
        judge_it: Callable[[PeerId, bytes], Awaitable[Verdict]],
    ) -> None:
        async def validate(peer: PeerId, data: bytes) -> Verdict:
            try:
                verdict = await judge_it(peer, data)
            except (ProtocolError, PolicyError) as error:
                found = judge(error)
                self._rules[error.name] += 1
                price = self._price(error) + DECODING_MS_PER_KIB * len(data) / 1024
                self._penalize(peer, found.alone, f"{limits.name}: {error}", ms=price)
                verdict = found.verdict
            self._verdicts[verdict] += 1
            if verdict is Verdict.ACCEPT:
                self._note_news(peer, news)
            return verdict

        self._transport.subscribe(
            self._topics[limits.name],
            validate,
            TopicLimits(
                max_size=limits.max_size,
                max_validating=limits.max_validating,
                max_per_peer=limits.max_per_peer,
            ),
        )

    def _blame(self, peer: PeerId, error: ProtocolError) -> None:
        """Let a coin's sender answer for what it broke when it could be judged at last."""
        self._rules[error.name] += 1
        self._penalize(peer, judge(error).alone, f"held coin: {error}", ms=CHEAP_MS)

    def _price(self, error: ProtocolError | PolicyError) -> float:
        return SIGNATURE_MS if isinstance(error, PolicyError) else CHEAP_MS

    @contextmanager
    def _take_in_hand(self, key: bytes) -> Iterator[_InHand]:
        """Leave the forwarding of what is being validated to gossip."""
        in_hand = self._in_hand.setdefault(key, _InHand())
        in_hand.validations += 1
        try:
            yield in_hand
        finally:
            in_hand.validations -= 1
            if not in_hand.validations:
                del self._in_hand[key]

    def _is_left_to_gossip(self, key: bytes) -> bool:
        """Tell whether gossip forwards what has come to be known, since it is in hand there."""
        in_hand = self._in_hand.get(key)
        if in_hand is None:
            return False
        in_hand.became_known = True
        return True

    # In

    async def _submit_coin(self, peer: PeerId, coin: Coin) -> Outcome | Held:
        """Submit a coin when few enough of its sender's are being verified."""
        places = self._proving.setdefault(peer, trio.Semaphore(PROVING))
        try:
            async with places:
                return await self._chain.submit_coin(coin, blame=partial(self._blame, peer))
        finally:
            if places.value == PROVING and not places.statistics().tasks_waiting:
                self._proving.pop(peer, None)

    async def _judge_coin(self, peer: PeerId, data: bytes) -> Verdict:
        coin = parse_coin(data)
        with self._take_in_hand(coin.id) as in_hand:
            outcome = await self._submit_coin(peer, coin)
        if isinstance(outcome, Held):
            if outcome.parent is not None:
                # Protocol §3.3: UNKNOWN_PARENT is asked of the sender only
                self._hold(peer, outcome.parent)
            return Verdict.IGNORE
        return in_hand.settle(_verdict_of(outcome))

    def _hold(self, peer: PeerId, wanted: CoinId) -> None:
        """Ask the sender for what it knows and we do not; it pays for the place that this takes."""
        self._held += 1
        price = HELD_MS if self._want(peer, wanted) else CHEAP_MS
        self._penalize(peer, Penalty.COST, "unknown parent", ms=price)

    async def _judge_anchor(self, peer: PeerId, data: bytes) -> Verdict:
        """Validate an announcement by itself, then its coin, then its body."""
        header = AnchorHeader.from_bytes(data)
        coin = Coin.from_bytes(header.coin)
        check_coin_alone(coin, self._chain.network)
        check_anchor_grade(coin, self._chain.network)
        # Protocol §5.2: BAD_BODY_ROOT
        if header.body_root() != coin.header.body_root:
            raise BadBodyRootError(
                expected=coin.header.body_root.hex(), actual=header.body_root().hex()
            )
        with self._take_in_hand(_anchor_key(coin.id)) as in_hand:
            return in_hand.settle(await self._take_anchor(peer, coin, header))

    async def _take_anchor(self, peer: PeerId, coin: Coin, header: AnchorHeader) -> Verdict:
        outcome = await self._submit_coin(peer, coin)
        if isinstance(outcome, Held):
            if outcome.parent is not None:
                self._hold(peer, coin.id)
            return Verdict.IGNORE
        # Protocol §5.2: TOO_MANY_COINS
        most = self._chain.network.max_listed
        for digest in (header.fresh, header.uncles):
            if digest.n > most:
                raise TooManyCoinsError(expected=f"at most {most}", actual=digest.n)
        if not await self._chain.queries.deserves_body(coin.id):
            return Verdict.IGNORE
        return await self._take_body(peer, coin, header)

    async def _take_body(self, peer: PeerId, coin: Coin, header: AnchorHeader) -> Verdict:
        """Fetch an anchor's body from its announcer, or from others, and judge it."""
        found = await self._fetch_body(peer, coin, header)
        if found is None:
            return Verdict.IGNORE
        source, package = found
        self._bodies += 1
        try:
            # Protocol §5.1: what has passed §5.2 is relayed, connected or not
            outcome = await self._chain.submit_package(package, connected=False)
        except ProtocolError as error:
            # Protocol §5.1: nobody relays an anchor whose body has not passed §5.2
            self._rules[error.name] += 1
            self._penalize(source, judge(error).served, f"body: {error}", ms=self._mix_ms)
            return judge(error).verdict
        return _verdict_of(outcome)

    async def _fetch_body(
        self, peer: PeerId, coin: Coin, header: AnchorHeader
    ) -> tuple[PeerId, Package] | None:
        """Ask the announcer, and every `HEDGE_S` one more; return the first that delivers."""
        others = [other for other in self._others() if other != peer][:OTHERS_ASKED]
        found: tuple[PeerId, Package] | None = None
        has_none = False

        async def ask(source: PeerId, done: trio.Event) -> None:
            nonlocal found, has_none
            try:
                (package,) = await self._fetcher.packages(source, [(coin, header)], others)
            except FetchError as error:
                self._log.debug("anchor.body_missing", id=coin.id.hex(), why=str(error))
                if source == peer and not isinstance(error, NotNowError):
                    has_none = True
                    self._penalize(peer, Penalty.FAULT, "announced an anchor without its body")
            else:
                found = found or (source, package)
                nursery.cancel_scope.cancel()
            finally:
                done.set()

        async with trio.open_nursery() as nursery:
            for source in (peer, *others):
                done = trio.Event()
                nursery.start_soon(ask, source, done)
                with trio.move_on_after(HEDGE_S):
                    await done.wait()
        if (found is None or found[0] != peer) and not has_none:
            self._penalize(peer, Penalty.COST, "its announced body did not come", ms=STALL_MS)
        return found

    async def _judge_transfer(self, _peer: PeerId, data: bytes) -> Verdict:
        with self._take_in_hand(wid_of(data)) as in_hand:
            outcome = await self._chain.submit_transfer(data)
        return in_hand.settle(_verdict_of(outcome))

    # Out

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish what the chain takes in by other ways than gossip, until cancelled."""
        with self._chain.changes.subscribe() as changes:
            task_status.started()
            async for step in changes:
                if isinstance(step, Lost):
                    # Peers that lack something ask for it when they compare tips.
                    self._log.info("relay.lagging", lost=step.count)
                else:
                    await self._publish_step(step, self._news_from())

    async def _publish_step(self, step: Changes, news_from: int) -> None:
        for coin in step.coins:
            if coin.height >= news_from and not self._is_left_to_gossip(coin.id):
                await self._publish(COIN_GOSSIP, coin.raw)
        for anchor in step.counted:
            if anchor.height >= news_from and not self._is_left_to_gossip(_anchor_key(anchor.id)):
                header = await self._header_of(anchor.id)
                if header is not None:
                    await self._publish(ANCHOR_GOSSIP, header.to_bytes())
        for event in step.events:
            if isinstance(event, TransferEntered) and not self._is_left_to_gossip(event.wid):
                raw = await self._chain.queries.transfer_bytes(event.wid)
                if raw is not None:
                    await self._publish(TRANSFER_GOSSIP, raw)

    async def _header_of(self, anchor_id: CoinId) -> AnchorHeader | None:
        anchor = self._chain.recent_body(anchor_id)
        if anchor is None:
            anchor = await self._chain.queries.counting_anchor(anchor_id)
        return None if anchor is None else AnchorHeader.of(*anchor)

    async def _publish(self, limits: GossipLimits, data: bytes) -> None:
        try:
            await self._transport.publish(self._topics[limits.name], data)
        except NotRunningError:
            return
        self._published += 1

    def statistics(self) -> RelayStatistics:
        """Return counts since the start."""
        return RelayStatistics(
            accepted=self._verdicts[Verdict.ACCEPT],
            ignored=self._verdicts[Verdict.IGNORE],
            rejected=self._verdicts[Verdict.REJECT],
            held=self._held,
            published=self._published,
            bodies_fetched=self._bodies,
            rules=dict(self._rules),
        )


def _verdict_of(outcome: Outcome) -> Verdict:
    return Verdict.ACCEPT if outcome is Outcome.ACCEPTED else Verdict.IGNORE


def _anchor_key(anchor_id: CoinId) -> bytes:
    return b"anchor" + anchor_id
