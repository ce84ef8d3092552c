"""A chain that wallets mine on and pay over: the real rules, but nobody searched for the mixes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from unchained.node.chain.core import ChainCore
from unchained.node.chain.results import Outcome, Package, ProvenAnchor, ProvenCoin
from unchained.node.chain.template import Template, build_template
from unchained.node.consensus.params import REG, Network
from unchained.node.consensus.transfers import ProvenTransfer, validate_transfer
from unchained.node.crypto.pow import compute_mix, default_backend
from unchained.node.primitives.coin import Coin
from unchained.node.primitives.hashing import COIN_HASH
from unchained.node.primitives.types import CoinId, Lock, Wid
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.keystore import Keystore, SpendSecret, new_secret
from unchained.node.wallet.plan import Prepared
from unchained.node.wallet.records import Balance, Outgoing, Payee, ScanProgress
from unchained.node.wallet.resealing import Resealing
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_file import KdfCost
from unchained.storage.kv import Snapshot
from unchained.storage.memory import MemoryStore

BACKEND = default_backend()

CHEAP = KdfCost(32, 1, 1)
"""A passphrase that takes no time to check."""

LockFor = Callable[[CoinId, int], Lock]
"""Gives the lock of a coin by parent and time, as a wallet's payout does."""


def cheap_wallet(
    name: str = "w",
    network: Network = REG,
    *,
    secret: SpendSecret | None = None,
    accounts: int = 1,
    birth: int = 0,
    unlocked: bool = True,
) -> Wallet:
    """Return a wallet that is kept in memory; its passphrase is `pass`."""
    keystore = Keystore.create(
        network, secret or new_secret(), "pass", accounts=accounts, birth=birth, cost=CHEAP
    )
    wallet = Wallet(name, network, keystore, None)
    if unlocked:
        wallet.unlock("pass")
    return wallet


def reseal(wallet: Wallet, how: Resealing) -> Keystore:
    """Seal a wallet's keys anew, and return them."""
    before = wallet.present_keys()
    keystore = how(before)
    assert wallet.replace_keys(before, keystore)
    return keystore


class WalletChain:
    """A `ChainCore` that is fed with coins that nobody had to search for."""

    def __init__(self, network: Network = REG, seed: int = 1) -> None:
        self.network = network
        self.store = MemoryStore()
        self.core = ChainCore(self.store, network, lambda: 0, 2**62)
        self.packages: list[tuple[list[Coin], Package]] = []
        self._random = random.Random(seed)
        self.now_ms = network.birth_ms

    @property
    def height(self) -> int:
        """The tip's height."""
        return self.core.tip.height

    def snapshot(self) -> Snapshot:
        """Return the chain as it is at this moment."""
        return self.store.snapshot()

    def mine(self, *payouts: LockFor) -> Package:
        """Grow the chain by an anchor that pays the last payout, with a fresh coin for each of
        the others and all transfers that wait."""
        *fresh, last = payouts or (self._nobody,)
        coins = [
            self._coin(build_template(self.core, self.now_ms), payout, False) for payout in fresh
        ]
        for coin in coins:
            self.core.submit_proven_coin(ProvenCoin(coin), self.now_ms)
        template = build_template(self.core, self.now_ms)
        anchor = self._coin(template, last, True)
        package = Package(
            anchor,
            template.body,
            {coin.id: coin for coin in self._listed(template)},
            {
                Wid(wid): self.core.transfer_bytes(Wid(wid)) or b""
                for wid in template.body.transfers
            },
        )
        self._take(coins, package)
        return package

    def grow(self, count: int, *payouts: LockFor) -> None:
        """Mine several anchors."""
        for _ in range(count):
            self.mine(*payouts)

    def _nobody(self, parent: CoinId, time_ms: int) -> Lock:
        return Lock(self._random.randbytes(32))

    def _coin(self, template: Template, payout: LockFor, anchor: bool) -> Coin:
        self.now_ms = max(self.now_ms, template.parent_time) + 100
        lock = payout(template.parent, self.now_ms)
        header = template.header(lock=lock, time=self.now_ms, nonce=self._random.getrandbits(64))
        raw = header.to_bytes()
        grade = self.network.grade_target(template.target)
        while True:
            mix = self._random.randbytes(32)
            number = int.from_bytes(COIN_HASH(raw + mix), "big")
            if (number <= grade) if anchor else (grade < number <= template.target):
                return Coin.assemble(header, mix)

    def _listed(self, template: Template) -> Iterator[Coin]:
        for coin_id in (*template.body.fresh, *template.body.uncles):
            coin = self.core.archive.coin(CoinId(coin_id))
            assert coin is not None
            yield coin

    def _take(self, coins: Sequence[Coin], package: Package) -> None:
        for coin in (*coins, package.anchor):
            self.core.submit_proven_coin(ProvenCoin(coin), self.now_ms)
        for raw in package.transfers.values():
            self._validate(raw)
        self.core.submit_proven_anchor(ProvenAnchor(package))
        self.packages.append((list(coins), package))

    def _validate(self, raw: bytes) -> ProvenTransfer:
        found = validate_transfer(raw, self.network)
        proven = found.proven()
        self.core.transfers.remember(proven.sized.wid, found)
        return proven

    def submit(self, raw: bytes) -> Outcome:
        """Put a transfer into the mempool. Raises what the node raises."""
        return self.core.submit_transfer(self._validate(raw), self.now_ms)

    def fork(self, height: int, seed: int) -> WalletChain:
        """Return another chain that agrees up to a height."""
        other = WalletChain(self.network, seed)
        for coins, package in self.packages[:height]:
            other.now_ms = self.now_ms
            other._take(coins, package)
        return other

    def adopt(self, other: WalletChain) -> None:
        """Learn all that another chain knows, and follow the better of the two."""
        known = {package.anchor.id for _, package in self.packages}
        mine = list(self.packages)
        self.now_ms = max(self.now_ms, other.now_ms)
        for coins, package in other.packages:
            if package.anchor.id not in known:
                self._take(coins, package)
        self.packages = other.packages[:] if self.core.tip.id == other.core.tip.id else mine


class ProvenWalletChain(WalletChain):
    """A chain whose mixes are real: on the reg network that costs next to nothing."""

    def _coin(self, template: Template, payout: LockFor, anchor: bool) -> Coin:
        self.now_ms = max(self.now_ms, template.parent_time) + 100
        lock = payout(template.parent, self.now_ms)
        grade = self.network.grade_target(template.target)
        while True:
            nonce = self._random.getrandbits(64)
            header = template.header(lock=lock, time=self.now_ms, nonce=nonce)
            mix = compute_mix(BACKEND, header.to_bytes(), self.network.mem_kib)
            coin = Coin.assemble(header, mix)
            number = int.from_bytes(coin.id, "big")
            if (number <= grade) if anchor else (grade < number <= template.target):
                return coin


class Purse:
    """A wallet on a chain: what it does is sent at once, and it is always caught up."""

    def __init__(self, chain: WalletChain, wallet: Wallet) -> None:
        self.chain = chain
        self.wallet = wallet
        self.mine_to = wallet.payout().lock_for

    def sync(self) -> ScanProgress:
        """Follow the chain to its tip."""
        with self.chain.snapshot() as view:
            return self.wallet.catch_up(view)

    def send(self, prepared: Prepared) -> Outgoing:
        """Sign, note and submit a transfer."""
        transfer = self.wallet.finish(prepared)
        outgoing = self.wallet.record(
            transfer,
            self.chain.now_ms,
            payees=prepared.payees,
            proven_payees=prepared.unsigned.payees,
            change=prepared.change,
            replaces=prepared.replaces,
        )
        try:
            assert self.chain.submit(outgoing.raw) is Outcome.ACCEPTED
        except BaseException:
            self.wallet.store.forget_outgoing(outgoing.txid)
            raise
        self.sync()
        return outgoing

    def pay(self, to: str, value: int, memo: bytes = b"", rate: int = 1) -> Outgoing:
        """Pay one payee."""
        return self.send(self.wallet.spender.pay([Payee(to, value, memo)], Fee(rate)))

    @property
    def balance(self) -> Balance:
        """What the wallet has."""
        return self.wallet.balance()
