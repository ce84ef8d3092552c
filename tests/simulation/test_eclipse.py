"""How many of a node's outbound links an attacker gets, over the node's own address book.

One node among honest ones, each in a network of its own, that restart every day; some leave for
good and others come. After some quiet days an attacker's hosts, each in a network of its own and
with many identities, name all of these to the node from as many networks, and stand in its peers'
books as well. They bring all news first. They never hang up, or do so after a minute each time, in
which case the node may dial them again. Anchors do not help the node.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest

from unchained.node.peers.address_book import AddressBook
from unchained.node.peers.address_exchange import ASK_EVERY_S
from unchained.node.peers.address_table import BookEntry
from unchained.node.peers.dialler import PeerSettings
from unchained.node.peers.eviction import News
from unchained.node.peers.link_exchange import AT_RANDOM, STAY_S, choose_worst
from unchained.node.peers.lost_peers import is_loss
from unchained.node.transport.address_groups import network_group
from unchained.node.transport.contract import Direction, DisconnectReason, PeerId, PeerInfo
from unchained.node.wire.limits import ADDRESSES
from unchained.storage.kv import Batch
from unchained.storage.memory import MemoryStore

DAY_S: Final = 86_400.0
STEP_S: Final = PeerSettings().probe_every_s
DOWN_S: Final = 600.0
"""How long a restart takes."""
LEAVING_PER_DAY: Final = 0.03
"""Share of the honest nodes that leave for good every day, for others that come."""
START_MS: Final = 10**12
PORT: Final = 9000
IDENTITIES: Final = 64
OUTBOUND: Final = PeerSettings().limits.outbound

DIGITS: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def peer_id(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text.rjust(44, "1")


@dataclass
class Link:
    """An outbound link (`link_exchange.OutboundPeer`)."""

    info: PeerInfo
    hostile: bool
    round_trip_s: float
    news: dict[News, float] = field(default_factory=dict)


class Siege:
    """The node, and what is around it."""

    def __init__(self, seed: int, honest: int, hosts: int) -> None:
        self.rng = random.Random(seed)
        self.hosts = hosts
        self.now = 0.0
        self.store = MemoryStore()
        self.book = AddressBook(self.store, random.Random(seed + 1))
        self.links: dict[str, Link] = {}
        self.hang_up: DisconnectReason | None = None
        """How the attacker's links end after a minute, None for never: closed, or gone silent."""
        self.visitors: dict[str, Link] = {}
        """Lost peers that are there again, and have no place."""
        self.visits = 0
        self.honest: dict[str, float] = {}
        """Each honest address, and the time of the day at which it restarts."""
        self._made = 0
        self.hostile: list[str] = []
        self.named: list[str] = []
        """What the attacker tells of."""
        for _ in range(honest):
            self.come()
        self.picks = [0, 0]
        """Links that were made, to honest ones and to the attacker."""
        self.encircled = 0
        """Times at which all links were the attacker's."""
        self.exchange_at = self.next_exchange()

    def come(self) -> None:
        """Let another honest node join, in a network of its own."""
        number, self._made = self._made, self._made + 1
        text = f"/ip4/{20 + number // 250}.{number % 250}.7.7/tcp/{PORT}/p2p/{peer_id(number + 1)}"
        self.honest[text] = self.rng.uniform(0.0, DAY_S)

    def besiege(self, *, false_names: bool = False) -> None:
        """Begin the attack; with `false_names`, honest hosts are named with other identities,
        and places of their networks where nobody is."""
        self.hostile = [
            f"/ip4/{150 + host // 250}.{host % 250}.7.7/tcp/{PORT + identity}"
            f"/p2p/{peer_id(1_000_000 + host * IDENTITIES + identity)}"
            for host in range(self.hosts)
            for identity in range(IDENTITIES)
        ]
        self.named = list(self.hostile)
        for number, text in enumerate(self.honest if false_names else ()):
            host = text.split("/")[2]
            beside = f"{host.rpartition('.')[0]}.{8 + number % 200}"
            for ip in (host, beside):
                self.named.append(f"/ip4/{ip}/tcp/{PORT}/p2p/{peer_id(2_000_000 + number)}")

    def now_ms(self) -> int:
        return START_MS + int(self.now * 1000)

    def next_exchange(self) -> float:
        return self.now + PeerSettings().exchange_every_s * self.rng.uniform(0.5, 1.5)

    def answers(self, text: str) -> bool:
        """Return whether a node listens at an address."""
        down_at = self.honest.get(text)
        if down_at is None:
            return text in self._hostile_set
        return (self.now - down_at) % DAY_S >= DOWN_S

    def is_fit(self, entry: BookEntry) -> bool:
        network = network_group(entry.address.host)
        present = (*self.links.values(), *self.visitors.values())
        return all(network_group(link.info.ip) != network for link in present)

    def reach(self, entry: BookEntry) -> bool:
        """Dial an address; return whether a node answered."""
        self.book.attempted(entry.text, self.now_ms())
        if self.answers(entry.text):
            self.book.good(entry.text, self.now_ms())
            return True
        self.book.failed(entry.text, self.now_ms())
        return False

    def link_to(self, entry: BookEntry) -> None:
        hostile = entry.text not in self.honest
        self.picks[hostile] += 1
        peer, ip = PeerId(entry.text.rpartition("/")[2]), entry.address.host
        info = PeerInfo(peer, ip, entry.text, Direction.OUTBOUND, self.now)
        self.links[entry.text] = Link(info, hostile, self.rng.uniform(0.01, 0.3))

    def pick(self) -> bool:
        """Make a link that is missing; return whether there was an address to try."""
        entry = self.book.pick(self.now_ms(), self.is_fit)
        if entry is not None and self.reach(entry):
            self.link_to(entry)
        return entry is not None

    def ask(self, hostile: bool, network: str) -> None:
        """Let a peer name as many addresses as an answer holds."""
        named = self.rng.sample(
            self.named if hostile else [*self.honest, *self.hostile[::IDENTITIES]],
            ADDRESSES.max_items,
        )
        for text in named:
            self.book.add(text, network, self.now_ms())

    def ask_all(self) -> None:
        for link in list(self.links.values()):
            self.ask(link.hostile, network_group(link.info.ip))
        if self.hostile:
            for text in self.hostile[::IDENTITIES]:
                self.ask(True, network_group(text.split("/")[2]))

    def exchange(self) -> None:
        """As `LinkExchange` does it."""
        entry = self.book.pick(self.now_ms(), self.is_fit, only_tried=True)
        if entry is None or not self.reach(entry):
            return
        for link in self.links.values():
            # The attacker is always first; of the others, somebody is every few minutes.
            link.news[News.COIN] = self.now - (0 if link.hostile else self.rng.uniform(1, 600))
        old = [link for link in self.links.values() if self.now - link.info.since >= STAY_S]
        gone = choose_worst(old, self.rng, at_random=self.rng.random() < AT_RANDOM)
        if gone is not None:
            self.links = {t: link for t, link in self.links.items() if link.info.peer != gone}
            self.link_to(entry)

    def fill(self) -> None:
        """Make the links that are missing, as far as somebody answers."""
        for _ in range(4 * OUTBOUND):
            if len(self.links) >= OUTBOUND or not self.pick():
                break

    def flicker(self) -> None:
        """Let the attacker's links end, and what is lost with them come back: the places have been
        taken by then, so they are visitors, as `Dialler` and `LinkExchange` have it."""
        self.visitors.clear()
        if self.hang_up is None:
            return
        gone = {text: link for text, link in self.links.items() if link.hostile}
        self.links = {text: link for text, link in self.links.items() if not link.hostile}
        self.fill()
        for text, link in gone.items():
            lasted_s = self.now - link.info.since
            entry = self.book.get(text)
            if is_loss(self.hang_up, lasted_s) and entry is not None and self.is_fit(entry):
                self.visits += 1
                if len(self.links) < OUTBOUND:
                    self.links[text] = link
                else:
                    self.visitors[text] = link

    def step(self) -> None:
        """Go on by one probe's time."""
        self._hostile_set = frozenset(self.hostile)
        if self.rng.random() < len(self.honest) * LEAVING_PER_DAY * STEP_S / DAY_S:
            del self.honest[self.rng.choice(list(self.honest))]
            self.come()
        self.links = {text: link for text, link in self.links.items() if self.answers(text)}
        self.flicker()
        self.fill()
        probed = self.book.to_test(self.now_ms(), self.is_fit) or self.book.pick(
            self.now_ms(), self.is_fit, only_new=True
        )
        if probed is not None:
            self.reach(probed)
        if self.now >= self.exchange_at and len(self.links) == OUTBOUND:
            self.exchange_at = self.next_exchange()
            self.exchange()
        self.encircled += len(self.links) == sum(link.hostile for link in self.links.values()) > 0
        self.now += STEP_S

    def run(self, days: float) -> None:
        ask_at = self.now
        until = self.now + days * DAY_S
        while self.now < until:
            if self.now >= ask_at:
                ask_at += ASK_EVERY_S
                self.ask_all()
            self.step()

    def join(self) -> None:
        """Learn of some honest nodes, as from a seed."""
        for text in self.rng.sample(list(self.honest), 16):
            self.book.add(text, "seed.example", self.now_ms())

    def restarts(self, count: int) -> tuple[float, int]:
        """Return which share of all links is the attacker's when the node restarts with what it
        has on disk, and how often all of them are."""
        batch = Batch()
        self.book.pending(batch)
        self.store.write(batch, sync=False)
        self._hostile_set = frozenset(self.hostile)
        book = AddressBook(self.store, random.Random(self.rng.random()))
        assert book.left_out == 0
        hostile = lost = 0
        for _ in range(count):
            found = list(self._restart(book))
            assert len(found) == OUTBOUND
            hostile += sum(found)
            lost += all(found)
        return hostile / (count * OUTBOUND), lost

    def _restart(self, book: AddressBook) -> Iterator[bool]:
        """Yield of each link that is made after a restart whether it is the attacker's."""
        tried: set[str] = set()
        networks: set[str] = set()

        def is_fit(entry: BookEntry) -> bool:
            return entry.text not in tried and entry.network not in networks

        while len(networks) < OUTBOUND:
            entry = book.pick(self.now_ms(), is_fit)
            if entry is None:
                return
            tried.add(entry.text)
            if self.answers(entry.text):
                networks.add(entry.network)
                yield entry.text not in self.honest


def besieged(
    seed: int, honest: int, hosts: int, quiet_days: float, *, false_names: bool = False
) -> Siege:
    siege = Siege(seed, honest, hosts)
    siege.join()
    siege.run(quiet_days)
    assert siege.picks[True] == 0
    siege.besiege(false_names=false_names)
    siege.picks = [0, 0]
    return siege


def report(siege: Siege, restarts: int, what: str) -> tuple[float, float, int]:
    """Return the attacker's share of the links after restarts and of those that were made during
    the attack, and how many restarts got no other."""
    share, lost = siege.restarts(restarts)
    links = sum(link.hostile for link in siege.links.values())
    assert sum(siege.picks) > OUTBOUND
    picks = siege.picks[True] / sum(siege.picks)
    print(
        f"{what}: {share:.1%} of the links after a restart, {lost} of {restarts} restarts with all;"
        f" {picks:.1%} of {sum(siege.picks)} links made meanwhile, {links} of {OUTBOUND} at the"
        f" end, all of them at {siege.encircled} of the steps; book {siege.book.statistics()}"
    )
    return share, picks, lost


def test_an_attacker_with_many_identities_gets_few_of_the_links() -> None:
    siege = besieged(1, honest=300, hosts=24, quiet_days=2)
    siege.run(1)
    share, picks, lost = report(siege, 100, "a day")
    assert max(share, picks) <= 0.25
    assert (lost, siege.encircled) == (0, 0)
    assert siege.book.statistics().tried >= 200


def test_false_names_of_honest_hosts_keep_few_of_them_out() -> None:
    siege = besieged(3, honest=300, hosts=24, quiet_days=1, false_names=True)
    siege.run(2)
    share, picks, lost = report(siege, 100, "two days of false names")
    assert max(share, picks) <= 0.25
    assert (lost, siege.encircled) == (0, 0)
    found = [siege.book.get(text) for text in siege.honest]
    assert sum(entry is not None and entry.tried for entry in found) > 0.9 * len(found)


@pytest.mark.parametrize("hang_up", [DisconnectReason.REMOTE, DisconnectReason.DEAD])
def test_who_hangs_up_again_and_again_gains_no_links_by_it(hang_up: DisconnectReason) -> None:
    siege = besieged(4, honest=300, hosts=24, quiet_days=1)
    siege.hang_up = hang_up
    most = 0
    for _ in range(24):
        siege.run(1 / 24)
        most = max(most, sum(link.hostile for link in siege.links.values()))
    report(siege, 100, f"a day of links that are {hang_up.value} after a minute")
    assert siege.picks[True] > 0
    assert (siege.visits > 0) is (hang_up is DisconnectReason.DEAD)
    assert most <= 3
    assert siege.encircled == 0


@pytest.mark.slow
def test_the_same_at_full_size() -> None:
    siege = besieged(2, honest=1_000, hosts=48, quiet_days=7)
    siege.run(2)
    share, picks, lost = report(siege, 1_000, "two days")
    assert max(share, picks) <= 0.35
    assert lost == 0
    siege.run(5)
    share, picks, lost = report(siege, 1_000, "seven days")
    assert max(share, picks) <= 0.35
    assert (lost, siege.encircled) == (0, 0)
