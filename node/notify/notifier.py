"""Tells commands and URLs of what happens in wallets and on the chain.

Nothing is queued in memory: each target reads the gapless logs from where it was served last, which
a wallet's file remembers. So a target that is slow or away holds nothing up, and is told all later,
also after a restart; of what it is behind more than `most_behind` entries, the oldest are dropped,
counted and logged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.node.base.clock import Clock
from unchained.node.base.config import NotifyConfig
from unchained.node.base.fanout import Watch
from unchained.node.base.runner import Runner
from unchained.node.chain.service import ChainService
from unchained.node.notify.chain_feed import ChainFeed
from unchained.node.notify.notice import Notice, NoticeTarget, Subject, TargetStatistics
from unchained.node.notify.targets import notice_targets
from unchained.node.wallet.errors import EventsForgottenError, WalletError
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.wallet import Wallet
from unchained.storage import schema
from unchained.storage.kv import KeyValueStore

EVENTS_READ: Final = 1_024
"""Events of the chain that are read at a time."""


class NotifierStatistics(msgspec.Struct, frozen=True):
    """Entries of the logs that targets were told of, and that were dropped since a target was too
    far behind; and what each target counts."""

    told: int
    dropped: int
    targets: Mapping[str, TargetStatistics]


class Notifier:
    """Serves all targets. `run` has to run for that. Anchors are told of while `synced` holds."""

    def __init__(
        self,
        targets: Sequence[NoticeTarget],
        about: Collection[Subject],
        *,
        most_behind: int,
        wallets: WalletManager,
        chain: ChainService,
        store: KeyValueStore,
        synced: Watch[bool],
        clock: Clock,
        runner: Runner,
        log: FilteringBoundLogger,
    ) -> None:
        self._targets = tuple(targets)
        self._about = frozenset(about)
        self._most_behind = most_behind
        self._wallets = wallets
        self._chain = chain
        self._store = store
        self._synced = synced
        self._clock = clock
        self._runner = runner
        self._log = log
        self._told = self._dropped = 0

    def statistics(self) -> NotifierStatistics:
        """Return a snapshot."""
        counted = {target.name: target.statistics() for target in self._targets}
        return NotifierStatistics(self._told, self._dropped, counted)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell of what happens until cancelled."""
        async with trio.open_nursery() as nursery:
            for target in self._targets:
                nursery.start_soon(target.run, name=f"notify.{target.name}")
                if self._about & {"wallet", "invoice"}:
                    nursery.start_soon(self._serve_wallets, target, name="notify.wallets")
                if self._about & {"anchor", "reorg"}:
                    nursery.start_soon(self._serve_chain, target, name="notify.chain")
            task_status.started()

    async def _tell(self, target: NoticeTarget, notice: Notice) -> None:
        if notice.subject in self._about and await target.deliver(notice):
            self._told += 1

    def _drop(self, target: NoticeTarget, wallet: str, count: int) -> None:
        self._dropped += count
        self._log.warning("notify.dropped", target=target.name, wallet=wallet, entries=count)

    # Wallets

    async def _serve_wallets(self, target: NoticeTarget) -> None:
        async with trio.open_nursery() as nursery:
            served: set[str] = set()

            async def serve(name: str) -> None:
                try:
                    await self._serve_wallet(target, name)
                except WalletError as error:
                    self._log.warning("notify.wallet_lost", wallet=name, why=str(error))
                finally:
                    served.discard(name)

            while True:
                version, names = self._wallets.names.version, self._wallets.names.value
                for name in sorted(names - served):
                    served.add(name)
                    nursery.start_soon(serve, name)
                await self._wallets.names.wait_newer(version)

    async def _serve_wallet(self, target: NoticeTarget, name: str) -> None:
        """Serve one wallet until it is closed. Raises `WalletError`."""
        cursor, log = await self._wallets.call(
            name, lambda wallet: (wallet.events.cursor(target.name), wallet.events.log_id)
        )
        if cursor is None:
            # what a new or a restored wallet finds in the past is no news
            await self._wallets.wait_caught_up(name)
            cursor = self._wallets.last_event(name)
            await self._note(target, name, cursor)
        while True:
            behind = self._wallets.last_event(name) - cursor
            if behind > self._most_behind:
                self._drop(target, name, behind - self._most_behind)
                cursor += behind - self._most_behind
            try:
                async with aclosing(self._wallets.events(name, cursor)) as parts:
                    async for part in parts:
                        for event in part:
                            network = self._chain.network.name
                            await self._tell(target, Notice.of_wallet(network, name, log, event))
                            cursor = event.sequence
                            await self._note(target, name, cursor)
                        if self._wallets.last_event(name) - cursor > self._most_behind:
                            break
                    else:
                        return
            except EventsForgottenError:
                # cut short under a slow reader, or a file put back from a backup
                last = self._wallets.last_event(name)
                self._drop(target, name, max(0, last - cursor))
                cursor = last

    async def _note(self, target: NoticeTarget, name: str, sequence: int) -> None:
        def work(wallet: Wallet) -> None:
            wallet.events.put_cursor(target.name, sequence)

        await self._wallets.call(name, work)

    # The chain

    async def _serve_chain(self, target: NoticeTarget) -> None:
        feed = ChainFeed(self._chain.network.name)
        cursor = self._chain.status.value.next_event
        while True:
            version, end = self._chain.status.version, self._chain.status.value.next_event
            if cursor >= end:
                await self._chain.status.wait_newer(version)
                continue
            events = await self._runner.run(partial(self._read, cursor))
            if not events:
                await self._chain.status.wait_newer(version)
                continue
            cursor = events[-1][0] + 1
            notices = feed.take(events, self._clock.now_ms())
            if not self._synced.value:
                continue
            if len(notices) > self._most_behind:
                self._drop(target, "", len(notices) - self._most_behind)
                notices = notices[-self._most_behind :]
            for notice in notices:
                await self._tell(target, notice)

    def _read(self, first: int) -> list[tuple[int, schema.Event]]:
        with self._store.snapshot() as view:
            return list(schema.EVENT.scan(view, first, first + EVENTS_READ - 1))


def notifier_of(
    config: NotifyConfig,
    wallets: WalletManager,
    chain: ChainService,
    store: KeyValueStore,
    synced: Watch[bool],
    clock: Clock,
    runner: Runner,
    log: FilteringBoundLogger,
) -> Notifier | None:
    """Return who serves the targets that the settings name, None where they name none; blocks.

    Raises `BadCommandError`, `NotifySecretError`.
    """
    targets = notice_targets(config, clock, log)
    if not targets:
        return None
    return Notifier(
        targets,
        config.about,
        most_behind=config.most_behind,
        wallets=wallets,
        chain=chain,
        store=store,
        synced=synced,
        clock=clock,
        runner=runner,
        log=log,
    )
