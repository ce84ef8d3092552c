"""The open wallets of a node as a service: they follow the chain, send again, and lock again.

Work on one wallet is done one piece at a time, in worker threads; the network is waited for in
between.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.fanout import Broadcast, Watch
from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.base.runner import Runner
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.wallet.errors import (
    NoSuchWalletError,
    StoreDamagedError,
    StoreUnavailableError,
    TransferRefusedError,
    WalletClosedError,
    WalletError,
    WalletLockedError,
)
from unchained.node.wallet.invoices import Unconfirmed
from unchained.node.wallet.link import ChainLink
from unchained.node.wallet.new_wallet import wallets_to_open
from unchained.node.wallet.open_wallet import OpenWallet
from unchained.node.wallet.records import WalletEvent
from unchained.node.wallet.scanner import ScanStep
from unchained.node.wallet.stored_values import told_as_damage
from unchained.node.wallet.wallet import Wallet
from unchained.node.wallet.wallet_file import DEFAULT_COST, KdfCost
from unchained.storage.kv import Snapshot

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REBROADCAST_S: Final = 600.0
"""Seconds between attempts to send a transfer that the mempool does not have."""

EVENTS_AT_ONCE: Final = 256
"""Entries of a wallet's log that are read in one piece of work."""

CHANGES_KEPT: Final = 256
"""Changes that a slow listener may be behind before it is notified that it lost some."""

LONGEST_UNLOCK_S: Final = 7 * 86_400.0
"""Seconds for which a wallet can be unlocked at most."""


class WalletChange(msgspec.Struct, frozen=True, gc=False):
    """Something new in a wallet. `touched` are ids of coins that came or were spent, txids of
    transfers that began to wait, wids of those that ceased; `rewound` counts undone anchors."""

    wallet: str
    height: int
    rewound: int
    touched: tuple[bytes, ...]


class WalletFollower:
    """The open wallets of a directory. `run` has to run for them to follow the chain and to
    lock; what is sent by hand is counted in `sent` and `refused`."""

    def __init__(
        self,
        directory: Path,
        link: ChainLink,
        *,
        clock: Clock,
        runner: Runner,
        log: FilteringBoundLogger,
        cost: KdfCost = DEFAULT_COST,
        randomness: Randomness = SYSTEM,
    ) -> None:
        self.network = link.network
        self._directory = directory
        self._link = link
        self._clock = clock
        self._runner = runner
        self._log = log
        self._cost = cost
        self._randomness = randomness
        self._open: dict[str, OpenWallet] = {}
        self._closed: dict[str, str] = {}
        """Wallets of the directory that are closed, and why those are that nobody closed."""
        self._deleted: set[str] = set()
        self._wake = trio.Event()
        self._stretching = trio.Lock()
        self._moving = trio.Lock()
        self._deadlines_changed = trio.Event()
        self.names: Watch[frozenset[str]] = Watch(frozenset())
        """The names of the open wallets."""
        self.changes: Broadcast[WalletChange] = Broadcast(CHANGES_KEPT)
        """What happens in the wallets, in order."""
        self._anchors = self._touched = self._again = 0
        self.sent = self.refused = 0

    # The service

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open every wallet of the directory, locked, and follow the chain until cancelled.

        Closes the wallets in the end, and so drops their secrets.
        """
        try:
            for name in await self._runner.run(wallets_to_open, self._directory):
                try:
                    await self.open(name)
                except (WalletError, OSError) as error:
                    self._closed[name] = str(error)
                    self._log.error(
                        "wallet.unusable", wallet=name, why=str(error), exc_info=error.__cause__
                    )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, name="wallet.follow")
                nursery.start_soon(self._watch_chain, name="wallet.chain")
                nursery.start_soon(self._relock, name="wallet.relock")
                task_status.started()
        finally:
            for entry in self._open.values():
                entry.wallet.close()
            self._open.clear()

    async def _watch_chain(self) -> None:
        seen = self._link.tip.next_event
        while True:
            seen = (await self._link.wait_newer(seen)).next_event
            self._wake.set()

    async def _follow(self) -> None:
        while True:
            self._wake = trio.Event()
            more = await self._advance_all()
            if more:
                continue
            for entry in list(self._open.values()):
                try:
                    await self._tend(entry)
                except StoreDamagedError as error:
                    self._give_up(entry, error)
            with trio.move_on_after(self._until_next()):
                await self._wake.wait()

    async def _tend(self, entry: OpenWallet) -> None:
        """Do what a wallet needs once it has read the chain to its end."""
        await self._rebroadcast(entry)
        await self._confirm(entry)

    def _until_next(self) -> float:
        """Return the seconds until something is due that no event announces."""
        due = [
            entry.retry_at if entry.failure else entry.rebroadcast_at
            for entry in self._open.values()
        ]
        now, now_ms = trio.current_time(), self._clock.now_ms()
        due += [
            # an invoice can be paid until the last millisecond of its time
            now + (entry.expiry_ms + 1 - now_ms) / 1000
            for entry in self._open.values()
            if entry.expiry_ms is not None and not entry.failure
        ]
        return max(0.0, min([*due, trio.current_time() + REBROADCAST_S]) - trio.current_time())

    async def _advance_all(self) -> bool:
        """Let every wallet take in a chunk of the present chain; return whether there is more."""
        entries = [entry for entry in self._open.values() if self._is_due(entry)]
        if not entries:
            return False
        next_event = self._link.tip.next_event
        view = await self._runner.run(self._link.snapshot)
        try:
            steps = [await self._advance(entry, view, next_event) for entry in entries]
        finally:
            view.close()
        return any(step is not None and step.more for step in steps)

    def _is_due(self, entry: OpenWallet) -> bool:
        return not entry.failure or trio.current_time() >= entry.retry_at

    async def _advance(self, entry: OpenWallet, view: Snapshot, next_event: int) -> ScanStep | None:
        wallet = entry.wallet
        async with entry.turn:
            if self._open.get(wallet.name) is not entry:
                return None
            try:
                step = await self._runner.run(self._take_in, entry, view, self._clock.now_ms())
            except WalletError as error:
                self._give_up(entry, error)
                return None
        entry.note_read(step.progress, next_event)
        entry.tell()
        self._anchors += step.anchors
        self._touched += len(step.touched)
        if step.rewound or step.touched or (step.anchors and entry.refused):
            # What the mempool did not take back from undone anchors, and what it would not have
            # while they were undone: a coin that it spends is back, or of age.
            entry.rebroadcast_at = -math.inf
        if step.touched or step.rewound:
            self.changes.send(
                WalletChange(wallet.name, step.progress.height, step.rewound, step.touched)
            )
        return step

    def _give_up(self, entry: OpenWallet, error: WalletError) -> None:
        """Follow a wallet no more, and say why; what may pass is tried again."""
        entry.give_up(error)
        self._log.error(
            "wallet.not_followed",
            wallet=entry.wallet.name,
            why=entry.failure,
            exc_info=error.__cause__,
        )

    def _take_in(self, entry: OpenWallet, view: Snapshot, now_ms: int) -> ScanStep:
        with told_as_damage():
            step = entry.wallet.advance(view, self._link)
        self._note(entry, now_ms)
        return step

    @told_as_damage()
    def _note(self, entry: OpenWallet, now_ms: int) -> None:
        """Work out what has happened in a wallet, in its turn."""
        wallet = entry.wallet
        wallet.note_changes(now_ms)
        entry.last_event = wallet.events.last
        entry.expiry_ms = wallet.invoices.next_expiry_ms()
        entry.unconfirmed = wallet.invoices.unconfirmed()

    async def _confirm(self, entry: OpenWallet) -> None:
        """Note which paid invoices have the votes that they ask for; those that ask for more than
        there will be do not keep the others from it."""
        if entry.failure:
            return
        found = entry.unconfirmed
        try:
            await self._confirm_of(entry, found)
            while found.after is not None:
                found = await self._on(entry, partial(_unconfirmed, after=found.after))
                await self._confirm_of(entry, found)
        except (StoreUnavailableError, WalletClosedError) as error:
            self._log.warning("wallet.not_confirmed", wallet=entry.wallet.name, why=str(error))

    async def _confirm_of(self, entry: OpenWallet, found: Unconfirmed) -> None:
        if not found.invoices or found.last is None:
            return
        heights = {height for _, height in found.invoices}
        votes = await self._link.confirmations(found.last, heights)
        enough = {
            invoice.tag: height
            for invoice, height in found.invoices
            if votes.get(height, 0) >= invoice.confirmations
        }
        if enough:
            now_ms = self._clock.now_ms()
            await self._changed(entry, lambda wallet: wallet.invoices.confirm(enough, now_ms))

    async def _rebroadcast(self, entry: OpenWallet) -> None:
        """Send again what the mempool does not have: after a restart, an eviction, a reorg."""
        if entry.failure or trio.current_time() < entry.rebroadcast_at:
            return
        # Nobody else sends meanwhile: what is refused there and given up would go out here.
        async with entry.sending:
            await self._send_unheard(entry)

    async def _send_unheard(self, entry: OpenWallet) -> None:
        entry.rebroadcast_at = trio.current_time() + REBROADCAST_S
        wallet = entry.wallet
        try:
            unheard = await self._on(entry, lambda opened: opened.store.unheard())
        except (StoreUnavailableError, WalletClosedError) as error:
            self._log.warning("wallet.not_rebroadcast", wallet=wallet.name, why=str(error))
            return
        refused: dict[bytes, str] = {}
        for outgoing in unheard:
            try:
                self._again += await self._link.submit(outgoing.raw)
            except TransferRefusedError as error:
                refused[outgoing.txid] = error.rule
                if entry.refused.get(outgoing.txid) == error.rule:
                    continue
                self._log.info(
                    "wallet.refused",
                    wallet=wallet.name,
                    txid=outgoing.txid.hex(),
                    rule=error.rule,
                    why=str(error),
                )
        entry.refused = refused

    async def _relock(self) -> None:
        while True:
            self._deadlines_changed = trio.Event()
            for entry in self._open.values():
                if entry.deadline <= trio.current_time():
                    entry.lock()
                    self._log.info("wallet.locked", wallet=entry.wallet.name)
            next_at = min((entry.deadline for entry in self._open.values()), default=math.inf)
            with trio.move_on_at(next_at):
                await self._deadlines_changed.wait()

    # Wallets

    async def open(self, name: str) -> None:
        """Open a wallet, locked; nothing if it is open. Waits while wallets' files are moved.

        Raises `NoSuchWalletError`, `WalletError`.
        """
        async with self._moving:
            await self._open_now(name)

    async def _open_now(self, name: str) -> None:
        if name in self._open:
            return
        try:
            wallet = await self._runner.run(
                Wallet.open, self._directory, name, self.network, self._randomness
            )
        except FileNotFoundError:
            raise NoSuchWalletError(name) from None
        except WalletError as error:
            if name in self._closed:
                self._closed[name] = str(error)
            raise
        self._open[name] = OpenWallet(wallet)
        self._closed.pop(name, None)
        self.names.set(frozenset(self._open))
        self._wake.set()

    async def close(self, name: str) -> None:
        """Lock and close a wallet; it is not followed until it is opened again.

        Raises `NoSuchWalletError`, `WalletClosedError`.
        """
        entry = self._entry(name)
        async with entry.turn:
            if self._open.get(name) is entry:
                del self._open[name]
                self._closed[name] = ""
                entry.wallet.close()
                entry.news.set(entry.last_event)
                entry.caught_up.set()
                entry.read_to.set(sys.maxsize)
                self.names.set(frozenset(self._open))

    def _entry(self, name: str) -> OpenWallet:
        entry = self._open.get(name)
        if entry is not None:
            return entry
        if why := self._closed.get(name):
            raise WalletClosedError(name, f"it could not be opened: {why}")
        raise WalletClosedError(name) if name in self._closed else NoSuchWalletError(name)

    @property
    def tip_height(self) -> int:
        """The height of the chain's tip."""
        return self._link.tip.height

    def account(self, name: str) -> WatchAccount | None:
        """Return the first account of an open wallet, None if there is no such wallet open."""
        entry = self._open.get(name)
        return None if entry is None else entry.wallet.account()

    def wallet(self, name: str) -> Wallet:
        """Return an open wallet. Raises `NoSuchWalletError`."""
        return self._entry(name).wallet

    async def call(self, name: str, work: Callable[[Wallet], T]) -> T:
        """Return ``work(wallet)``, done in a worker thread when no other work on it is, and when it
        has read what the chain had as this was called. Raises `NoSuchWalletError`."""
        return await self._on(await self._kept_up(name), work)

    async def look(self, name: str, work: Callable[[Wallet], T]) -> T:
        """Return ``work(wallet)`` as `call` does; the work tells what the chain says. Raises
        `StoreDamagedError` where the wallet reads no more, and would tell what is old."""
        return await self._on(await self._kept_up(name), work, must_follow=True)

    async def change(self, name: str, work: Callable[[Wallet], T]) -> T:
        """Return ``work(wallet)`` as `look` does; the work reads or changes history or invoices:
        they are as they stand when it begins, and what it changes is logged before this returns."""
        return await self._changed(await self._kept_up(name), work, must_follow=True)

    async def _kept_up(self, name: str) -> OpenWallet:
        """Return an open wallet once it has read what the chain had as this was called. The task
        that reads must not ask: it would wait for itself. Raises `NoSuchWalletError`."""
        entry = self._entry(name)
        await entry.keep_up_to(self._link.tip.next_event)
        return entry

    async def _changed(
        self, entry: OpenWallet, work: Callable[[Wallet], T], *, must_follow: bool = False
    ) -> T:
        now_ms = self._clock.now_ms()

        def work_and_note(wallet: Wallet) -> T:
            if entry.failure:
                # Its time stands still, too: an invoice may be paid on the chain that it does not
                # read, and is not to expire meanwhile.
                result = work(wallet)
                entry.last_event = wallet.events.last
                return result
            with told_as_damage():
                wallet.note_changes(now_ms)
            result = work(wallet)
            self._note(entry, now_ms)
            return result

        before = entry.last_event, entry.expiry_ms
        result = await self._on(entry, work_and_note, must_follow=must_follow)
        entry.tell()
        if (entry.last_event, entry.expiry_ms) != before:
            self._wake.set()
        return result

    async def wait_caught_up(self, name: str) -> None:
        """Return once a wallet has known all that the chain does, or is closed. Raises
        `NoSuchWalletError`."""
        await self._entry(name).caught_up.wait()

    def last_event(self, name: str) -> int:
        """Return the sequence number of the last entry of a wallet's log. Raises
        `NoSuchWalletError`."""
        return self._entry(name).last_event

    async def events(self, name: str, since: int) -> AsyncGenerator[Sequence[WalletEvent], None]:
        """Yield the entries of a wallet's log after a sequence number as they come, as many at a
        time as there are, until the wallet is closed.

        Raises `NoSuchWalletError`, `EventsForgottenError`.
        """
        entry = self._entry(name)
        while self._open.get(name) is entry:
            version = entry.news.version
            found = await self._on(entry, partial(_events_since, since))
            if found:
                since = found[-1].sequence
                yield found
            else:
                await entry.news.wait_newer(version)

    async def _on(
        self, entry: OpenWallet, work: Callable[[Wallet], T], *, must_follow: bool = False
    ) -> T:
        async with entry.turn:
            if self._open.get(entry.wallet.name) is not entry:
                raise WalletClosedError(entry.wallet.name)
            if must_follow:
                entry.require_followed()
            return await self._runner.run(work, entry.wallet)

    async def stretch(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return ``work(*args)``, done in a worker thread: work that stretches a passphrase, of
        which there is one at a time."""
        async with self._stretching:
            return await self._runner.run(work, *args)

    async def unlock(self, name: str, passphrase: str, seconds: float, holder: str = "") -> None:
        """Let a wallet sign for some seconds; whoever gives a name as its `holder` can end that for
        himself alone. Raises `WrongPassphraseError`, `WatchOnlyError`, `WalletLockedError` where it
        was locked meanwhile."""
        entry = self._entry(name)
        locks = entry.locks
        secret = await self.stretch(entry.wallet.open_secret, passphrase)
        if entry.locks != locks or self._open.get(name) is not entry:
            # whoever locks or closes a wallet means also what is under way
            raise WalletLockedError
        until = trio.current_time() + min(max(seconds, 0.0), LONGEST_UNLOCK_S)
        entry.hold(secret, holder, until)
        self._deadlines_changed.set()
        # what waited for the key
        self._wake.set()

    def lock(self, name: str, holder: str | None = None) -> None:
        """Drop a wallet's spend keys at once; with a `holder` once nobody else needs them."""
        entry = self._entry(name)
        if holder is None:
            entry.lock()
            entry.locks += 1
        else:
            entry.release(holder)
        # those who are left may need it for less long
        self._deadlines_changed.set()


def _events_since(sequence: int, wallet: Wallet) -> list[WalletEvent]:
    return wallet.events.since(sequence, EVENTS_AT_ONCE)


def _unconfirmed(wallet: Wallet, after: bytes) -> Unconfirmed:
    return wallet.invoices.unconfirmed(after)
