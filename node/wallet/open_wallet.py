"""A wallet that is open, and how far the service has come with it."""

from __future__ import annotations

import math
from typing import Final

import trio

from unchained.node.base.fanout import Watch
from unchained.node.wallet.errors import StoreDamagedError, StoreUnavailableError, WalletError
from unchained.node.wallet.invoices import Unconfirmed
from unchained.node.wallet.keystore import SpendSecret
from unchained.node.wallet.records import ScanProgress
from unchained.node.wallet.wallet import Wallet

RETRY_S: Final = 30.0
"""Seconds after which a wallet whose file could not be written is tried again."""


class OpenWallet:
    """An open wallet, with what the service keeps beside it."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self.turn = trio.Lock()
        self.sending = trio.Lock()
        """Held from the choice of a transfer's coins until the mempool has answered: the next may
        spend its change."""
        self.locks = 0
        """How often it was locked by hand."""
        self._held: dict[str, float] = {}
        self.progress: ScanProgress | None = None
        self.caught_up = trio.Event()
        """Set once it has known all that the chain does, and when it is closed."""
        self.read_to = Watch(-1)
        """The chain's `next_event` before which it has read everything; set anew when it fails and
        when it is closed."""
        self.failure = ""
        self.retry_at = -math.inf
        self.rebroadcast_at = -math.inf
        self.last_event = wallet.events.last
        self.news = Watch(self.last_event)
        """The last entry of its log; set anew when it is closed."""
        self.expiry_ms: int | None = None
        """When the next of its invoices expires."""
        self.unconfirmed = Unconfirmed()
        """The first of the invoices that wait for their votes."""
        self.refused: dict[bytes, str] = {}
        """Transfers that the mempool would not have when they were sent again, and the rule."""
        self.not_bid: dict[bytes, str] = {}
        """Claims that others drove out of the mempool and that were not made again, and why."""

    @property
    def deadline(self) -> float:
        """When it is to be locked."""
        return max(self._held.values(), default=math.inf)

    def hold(self, secret: SpendSecret, holder: str, until: float) -> None:
        """Let it sign until then for one of those who need it, each under a name of his own."""
        self._drop_expired()
        self._held[holder] = until
        self.wallet.hold_secret(secret)

    def release(self, holder: str) -> None:
        """Let it sign for one of them no longer; it is locked if nobody else needs it."""
        self._held.pop(holder, None)
        self._drop_expired()
        if not self._held:
            self.wallet.lock()

    def lock(self) -> None:
        """Drop its spend keys, whoever needs it."""
        self._held.clear()
        self.wallet.lock()

    def _drop_expired(self) -> None:
        now = trio.current_time()
        self._held = {name: until for name, until in self._held.items() if until > now}

    def tell(self) -> None:
        """Wake whoever follows its log, if there is something new."""
        if self.last_event != self.news.value:
            self.news.set(self.last_event)

    def note_read(self, progress: ScanProgress, next_event: int) -> None:
        """Note how far it has come with a chain that will have that event next."""
        self.failure = ""
        self.progress = progress
        if progress.caught_up:
            self.caught_up.set()
        # also where it is behind: nobody waits for that
        self.read_to.set(next_event if progress.caught_up else self.read_to.value)

    def give_up(self, error: WalletError) -> None:
        """Follow the chain no more; what may pass is tried again."""
        self.failure = str(error)
        can_pass = isinstance(error, StoreUnavailableError)
        self.retry_at = trio.current_time() + RETRY_S if can_pass else math.inf
        self.read_to.set(self.read_to.value)

    async def keep_up_to(self, next_event: int) -> None:
        """Wait until it has read what the chain had before that event; not where it is far behind
        or cannot be read, which may take long."""
        await self.read_to.wait_for(lambda read_to: read_to >= next_event or self.is_behind)

    def require_followed(self) -> None:
        """Raise `StoreDamagedError` where it reads no more, and so knows only what was."""
        if self.failure and self.retry_at == math.inf:
            raise StoreDamagedError(self.failure)

    @property
    def is_behind(self) -> bool:
        """Whether it does not know all that the chain does, or follows it no more."""
        return self.progress is None or not self.progress.caught_up or bool(self.failure)
