"""Gossip in and out: coins, anchor announcements, transfers (Protocol §11).

What comes in goes through the chain, and is forwarded by gossip only if that accepts it. What the
chain takes in by any other way (mined here, fetched, released) is published as soon as the chain
says so, but for transfers under way in a stem (`stem.py`): nobody else announces anything. An
anchor is published only when its whole body is there and has passed Protocol §5.2.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.fanout import Lost, Subscription
from unchained.node.base.spans import span
from unchained.node.chain.results import Changes, Held, Outcome, Package
from unchained.node.chain.service import ChainService
from unchained.node.consensus.coins import check_coin_alone, parse_coin
from unchained.node.consensus.policy import PolicyError
from unchained.node.consensus.transition import (
    check_anchor_grade,
    check_body_root,
    check_list_lengths,
)
from unchained.node.crypto.anchor_header import AnchorHeader
from unchained.node.peers.eviction import News
from unchained.node.peers.manager import PeerManager
from unchained.node.peers.penalty import Penalty
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.errors import ProtocolError
from unchained.node.primitives.transfer import wid_of
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.relay.body_places import BodyPlaces
from unchained.node.relay.fetcher import Fetcher, FetchError, NotNowError
from unchained.node.relay.message_price import CHEAP_PRICE_MS, message_price_ms
from unchained.node.relay.penalty_table import decision_on
from unchained.node.relay.stem import TransferStem
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
from unchained.storage.schema import TransferEntered, TransferLeft

HELD_PRICE_MS: Final = 1.0
"""Price of a coin whose parent is unknown, the first of that parent: it takes a place, and a
request to its sender."""
MIX_PRICE_MS_AT_16_MIB: Final = 8.5
"""Price of a proof of work of 16 MiB (Protocol §11)."""
ANNOUNCED_BODY_SOURCES_MAX: Final = 3
"""Peers besides the announcer that are asked for a body."""
ANNOUNCED_BODY_HEDGE_S: Final = 2.0
"""Seconds after which the next of them is asked as well: an announcer that stalls delays little."""
ANNOUNCED_BODIES_MAX: Final = ANCHOR_GOSSIP.max_validating // 2
"""Announced bodies that are fetched at a time: whoever withholds some leaves room for others'
announcements to be looked at."""
MISSING_BODY_PRICE_MS: Final = 50.0
"""Price of having announced an anchor whose body did not come in time."""


class RelayStatistics(msgspec.Struct, frozen=True):
    """Counts since the start: messages by what became of them, and those published."""

    accepted: int
    ignored: int
    rejected: int
    held: int
    published: int
    bodies_fetched: int
    rules: Mapping[str, int]
    """Messages that broke a rule, by its name."""


class AnchorFollower(Protocol):
    """Fetches anchors that peers know and this node does not: sync."""

    def want(self, peer: PeerId, anchor_id: CoinId) -> bool:
        """Ask a peer for an anchor and what lies below it; return whether that is news."""

    def news_from(self) -> int:
        """Return the least height that is news to anybody, for while much is being fetched."""


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


class _GossipSender:
    """A peer that answers for a coin that it gossiped."""

    def __init__(self, peer: PeerId, relay: Relay) -> None:
        self._relay = relay
        self.peer = peer

    def blame(self, error: ProtocolError) -> None:
        self._relay.penalize_held(self.peer, error)


class Relay:
    """Takes part in the three topics. Construct before the transport runs; `run` publishes."""

    def __init__(
        self,
        chain: ChainService,
        transport: Transport,
        fetcher: Fetcher,
        peers: PeerManager,
        follower: AnchorFollower,
        stem: TransferStem,
        *,
        genesis_id: CoinId,
        rng: random.Random,
        log: FilteringBoundLogger,
    ) -> None:
        self._chain = chain
        self._transport = transport
        self._fetcher = fetcher
        self._peers = peers
        self._follower = follower
        self._stem = stem
        self._rng = rng
        self._log = log
        self._mix_ms = MIX_PRICE_MS_AT_16_MIB * chain.network.mem_kib / 16_384
        self._in_hand: dict[bytes, _InHand] = {}
        self._verdicts: Counter[Verdict] = Counter()
        self._rules: Counter[str] = Counter()
        self._body_places = BodyPlaces(ANNOUNCED_BODIES_MAX)
        self._held = self._published = self._bodies = 0
        self._topics = {
            limits.name: name_of(genesis_id, limits.name)
            for limits in (COIN_GOSSIP, ANCHOR_GOSSIP, TRANSFER_GOSSIP)
        }
        self._subscribe(COIN_GOSSIP, News.COIN, self._validate_coin)
        self._subscribe(ANCHOR_GOSSIP, News.ANCHOR, self._validate_anchor)
        self._subscribe(TRANSFER_GOSSIP, News.TRANSFER, self._validate_transfer)

    def _subscribe(
        self,
        limits: GossipLimits,
        news: News,
        validate_it: Callable[[PeerId, bytes], Awaitable[Verdict]],
    ) -> None:
        async def validate(peer: PeerId, data: bytes) -> Verdict:
            try:
                verdict = await validate_it(peer, data)
            except (ProtocolError, PolicyError) as error:
                found = decision_on(error)
                self._rules[error.name] += 1
                self._peers.reputation.penalize(
                    peer,
                    found.alone,
                    f"{limits.name}: {error}",
                    ms=message_price_ms(len(data), error),
                )
                verdict = found.verdict
            else:
                if verdict is not Verdict.ACCEPT:
                    self._peers.reputation.charge_excess(
                        peer, f"{limits.name}: of no use", message_price_ms(len(data))
                    )
            self._verdicts[verdict] += 1
            if verdict is Verdict.ACCEPT:
                self._peers.note_news(peer, news)
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

    def penalize_held(self, peer: PeerId, error: ProtocolError) -> None:
        """Let a coin's sender answer for what it broke when it could be validated at last."""
        self._rules[error.name] += 1
        self._peers.reputation.penalize(
            peer, decision_on(error).alone, f"held coin: {error}", ms=CHEAP_PRICE_MS
        )

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
        """Return whether gossip forwards what has come to be known, since it is in hand there."""
        in_hand = self._in_hand.get(key)
        if in_hand is None:
            return False
        in_hand.became_known = True
        return True

    # In

    async def _submit_coin(self, peer: PeerId, coin: Coin) -> Outcome | Held:
        return await self._chain.submit_coin(coin, sender=_GossipSender(peer, self))

    async def _validate_coin(self, peer: PeerId, data: bytes) -> Verdict:
        coin = parse_coin(data)
        with self._take_in_hand(coin.id) as in_hand:
            outcome = await self._submit_coin(peer, coin)
        if isinstance(outcome, Held):
            if outcome.parent is None:
                return Verdict.DEFER
            # Protocol §3.3: UNKNOWN_PARENT is asked of the sender only
            self._hold(peer, outcome.parent)
            return Verdict.IGNORE
        return in_hand.settle(_verdict_of(outcome))

    def _hold(self, peer: PeerId, wanted: CoinId) -> None:
        """Ask the sender for what it knows and we do not; it pays for the place that this takes."""
        self._held += 1
        if self._follower.want(peer, wanted):
            self._peers.reputation.penalize(peer, Penalty.COST, "unknown parent", ms=HELD_PRICE_MS)

    async def _validate_anchor(self, peer: PeerId, data: bytes) -> Verdict:
        """Validate an announcement by itself, then its coin, then its body."""
        header = AnchorHeader.from_bytes(data)
        coin = Coin.from_bytes(header.coin)
        check_coin_alone(coin, self._chain.network)
        check_anchor_grade(coin, self._chain.network)
        check_body_root(coin, header.body_root())
        with self._take_in_hand(_anchor_key(coin.id)) as in_hand, span("anchor", coin.id):
            return in_hand.settle(await self._take_anchor(peer, coin, header))

    async def _take_anchor(self, peer: PeerId, coin: Coin, header: AnchorHeader) -> Verdict:
        outcome = await self._submit_coin(peer, coin)
        if isinstance(outcome, Held):
            if outcome.parent is None:
                return Verdict.DEFER
            self._hold(peer, coin.id)
            return Verdict.IGNORE
        # Protocol §5.2: before anything of the body is fetched
        check_list_lengths(header.fresh.n, header.uncles.n, header.transfers.n, self._chain.network)
        listed = header.fresh.n + header.uncles.n
        if not await self._chain.queries.deserves_body(coin.id, listed):
            return Verdict.IGNORE
        return await self._take_body(peer, coin, header)

    async def _take_body(self, peer: PeerId, coin: Coin, header: AnchorHeader) -> Verdict:
        """Fetch an anchor's body from its announcer, or from others, and validate it."""
        found = await self._fetch_body(peer, coin, header)
        if found is None:
            return Verdict.IGNORE
        source, package = found
        self._bodies += 1
        try:
            # Protocol §5.1: what has passed §5.2 is relayed, connected or not
            outcome = await self._chain.submit_package(package, connected=False, peer=source)
        except ProtocolError as error:
            # Protocol §5.1: nobody relays an anchor whose body has not passed §5.2
            self._rules[error.name] += 1
            self._peers.reputation.penalize(
                source, decision_on(error).served, f"body: {error}", ms=self._mix_ms
            )
            return decision_on(error).verdict
        return _verdict_of(outcome)

    async def _fetch_body(
        self, peer: PeerId, coin: Coin, header: AnchorHeader
    ) -> tuple[PeerId, Package] | None:
        """Ask the announcer, and one more at each `ANNOUNCED_BODY_HEDGE_S`; return the first that
        delivers. Where it has to give way, it is left to sync."""
        greeted = self._peers.greeted()
        others = [other for other in self._rng.sample(greeted, len(greeted)) if other != peer]
        others = others[:ANNOUNCED_BODY_SOURCES_MAX]
        found: tuple[PeerId, Package] | None = None
        has_none = False

        async def ask(source: PeerId, done: trio.Event) -> None:
            nonlocal found, has_none
            try:
                (package,) = await self._fetcher.packages(source, [(coin, header)], others)
            except FetchError as error:
                self._log.debug("anchor.body_missing", id=coin.id, why=str(error))
                if source == peer and not isinstance(error, NotNowError):
                    has_none = True
                    self._peers.reputation.penalize(
                        peer, Penalty.FAULT, "announced an anchor without its body"
                    )
            else:
                found = found or (source, package)
                nursery.cancel_scope.cancel()
            finally:
                done.set()

        began = trio.current_time()
        with self._body_places.place() as place:
            async with trio.open_nursery() as nursery:
                for source in (peer, *others):
                    done = trio.Event()
                    nursery.start_soon(ask, source, done)
                    with trio.move_on_after(ANNOUNCED_BODY_HEDGE_S):
                        await done.wait()
        if place.cancelled_caught:
            self._follower.want(peer, coin.id)
        # It pays for no fetch that we ended ourselves before it had the time of an honest one.
        was_cut_short = (
            place.cancelled_caught and trio.current_time() - began < ANNOUNCED_BODY_HEDGE_S
        )
        if (found is None or found[0] != peer) and not has_none and not was_cut_short:
            self._peers.reputation.penalize(
                peer, Penalty.COST, "its announced body did not come", ms=MISSING_BODY_PRICE_MS
            )
        return found

    async def _validate_transfer(self, _peer: PeerId, data: bytes) -> Verdict:
        wid = wid_of(data)
        with self._take_in_hand(wid) as in_hand:
            outcome = await self._chain.submit_transfer(data)
        self._stem.note_public(wid)
        return in_hand.settle(_verdict_of(outcome))

    # Out

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish what the chain takes in by other ways than gossip, until cancelled."""
        with self._chain.changes.subscribe() as changes, self._peers.dropped.subscribe() as dropped:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forget_dropped, dropped)
                task_status.started()
                async for step in changes:
                    if isinstance(step, Lost):
                        # Peers that lack something ask for it when they compare tips.
                        self._log.info("relay.lagging", lost=step.count)
                    else:
                        await self._publish_step(step, self._follower.news_from())

    async def _forget_dropped(self, dropped: Subscription[PeerId]) -> None:
        """Let go of what banned peers have sent and what is held of it."""
        async for peer in dropped:
            if not isinstance(peer, Lost):
                self._chain.forget_sender(peer)

    async def _publish_step(self, step: Changes, news_from: int) -> None:
        for coin in step.coins:
            if coin.height >= news_from and not self._is_left_to_gossip(coin.id):
                await self._publish(COIN_GOSSIP, coin.raw)
        for anchor in step.counted:
            coin = anchor.coin
            if coin.height >= news_from and not self._is_left_to_gossip(_anchor_key(coin.id)):
                header = AnchorHeader.of(coin, anchor.body)
                await self._publish(ANCHOR_GOSSIP, header.to_bytes())
        left = {event.wid for event in step.events if isinstance(event, TransferLeft)}
        for wid in left:
            self._stem.note_public(Wid(wid))
        for event in step.events:
            if not isinstance(event, TransferEntered) or event.wid in left:
                continue
            if not (self._stem.holds(Wid(event.wid)) or self._is_left_to_gossip(event.wid)):
                raw = await self._transfer_bytes(event.wid)
                if raw is not None:
                    await self._publish(TRANSFER_GOSSIP, raw)

    async def _transfer_bytes(self, wid: bytes) -> bytes | None:
        proven = self._chain.proven_transfer(Wid(wid))
        if proven is not None:
            return proven.sized.raw
        return await self._chain.queries.transfer_bytes(wid)

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
