"""A whole node of a simulation: the services of the shipping one, and what a fault takes hold of.

What stays when it is gone (disk, clock, wallet files) is the node's; each start is a *life* of it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

import msgspec
import structlog
import trio

from tests.framework.simulation.acknowledged import Acknowledged, forgotten_payment
from tests.framework.simulation.faulty_disk import FaultyDisk, FaultyStore
from tests.framework.simulation.link_model import memory_peer_id
from tests.framework.simulation.memory_network import MemoryTransport
from tests.framework.simulation.seeded_randomness import SeededRandomness
from tests.framework.simulation.simnet import BACKEND, SimNode, SimPayout, solve
from tests.framework.simulation.skewed_clock import SkewedClock
from tests.framework.simulation.wallet_disk import WalletDisk
from unchained.miner.jobs import Job, Solution
from unchained.node.base.fanout import Lost
from unchained.node.base.services import (
    Service,
    ServiceEndedError,
    ServiceFailedError,
    ServiceRun,
    Supervisor,
)
from unchained.node.chain.service import ChainService
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.mining.epoch_manager import EpochManager
from unchained.node.mining.mined_coins import MinedCoins
from unchained.node.mining.payout import AccountPayout
from unchained.node.peers.dialler import PeerSettings
from unchained.node.peers.reputation import PeerLimits
from unchained.node.primitives.coin import CoinHeader
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.sync.node_network import NodeNetwork
from unchained.node.wallet.errors import (
    StoreDamagedError,
    StoreUnavailableError,
    WalletClosedError,
    WalletError,
)
from unchained.node.wallet.keystore import DEFAULT_WALLET, Keystore, new_secret, wallet_path
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.new_wallet import save_new
from unchained.node.wallet.resealing import NewPassphrase
from unchained.node.wallet.wallet_file import KdfCost
from unchained.storage.errors import StoreCorruptError, StoreError
from unchained.storage.open import prepare

if TYPE_CHECKING:
    from tests.framework.simulation.simulation import Simulation

CHEAP: Final = KdfCost(32, 1, 1)
PASSPHRASE: Final = "pass"
TOLD_OF_WALLETS: Final = ("wallet.unusable", "wallet.not_followed")
"""What the log says of wallets whose files cannot be written, or are damaged."""
FAILED_DOWN_S: Final = 5.0
"""Seconds after which a node whose store failed is started again."""


T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SlowRunner:
    """Runs work in place, as late as the disk is slow."""

    def __init__(self, disk: FaultyDisk) -> None:
        self._disk = disk

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.checkpoint()
        if self._disk.delay_s:
            self._disk.delays += 1
            await trio.sleep(self._disk.delay_s)
        return work(*args)


class PoissonMiner:
    """Finds coins at random times, as often as the job's target lets it, on the job of the
    moment. `coins_per_s` at the network's `target0`."""

    def __init__(self, simulation: Simulation, rng: random.Random, coins_per_s: float) -> None:
        self._simulation = simulation
        self._rng = rng
        self._coins_per_s = coins_per_s
        self._job: Job | None = None
        self._new_job = trio.Event()
        self._send, self.solutions = trio.open_memory_channel[Solution](64)
        self._nonce = 0

    def set_job(self, job: Job | None) -> None:
        self._job = job
        self._new_job.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        network = self._simulation.scenario.network
        while True:
            # Work that is left until the next coin, as seconds at `target0`: it goes on over jobs.
            left = self._rng.expovariate(self._coins_per_s)
            while left > 0:
                self._new_job = trio.Event()
                job, began = self._job, trio.current_time()
                pace = 0.0 if job is None else job.target / network.target0
                with trio.move_on_after(left / pace if pace else math.inf):
                    await self._new_job.wait()
                left -= (trio.current_time() - began) * pace
                if left < 1e-9:
                    break
            if self._job is not None and not self._simulation.mining_paused:
                self._find(self._job)

    def _find(self, job: Job) -> None:
        header = CoinHeader.from_bytes(job.header_prefix + self._nonce.to_bytes(8, "big"))
        coin = solve(header, self._simulation.scenario.network)
        self._nonce = coin.header.nonce + 1
        with suppress(trio.WouldBlock):
            self._send.send_nowait(Solution(job.number, coin.raw[:166], coin.mix, coin.id, 0))


class PartedNetwork(NodeNetwork):
    """What joins a node to others; each part runs as `wrap` makes it of its name and itself."""

    def __init__(
        self, wrap: Callable[[str, ServiceRun], ServiceRun], *arguments: Any, **options: Any
    ) -> None:
        self._wrap = wrap
        super().__init__(*arguments, **options)

    def services(self) -> list[tuple[str, ServiceRun]]:
        return [(name, self._wrap(f"network.{name}", run)) for name, run in super().services()]


class SimulatedNode(SimNode):
    """One honest node. Its keeper starts it again whenever it has stopped or crashed."""

    wallets: WalletManager | None

    def __init__(
        self, simulation: Simulation, number: int, ip: str, coins_per_s: float, home: Path | None
    ) -> None:
        """`home` is where it has a wallet, None if it has none."""
        super().__init__(simulation.net, number, f"node {number}", ip, coins_per_s)
        self.limits = PeerLimits(outbound=4, inbound=simulation.scenario.inbound)
        self.simulation = simulation
        self.home = home
        self.disk_under = FaultyDisk()
        self.clock = SkewedClock(simulation.net.start_ms)
        self.randomness = SeededRandomness(f"{simulation.seed} {self.name}")
        self.is_up = False
        self.is_starting = False
        """Whether it has begun to start, and is not up yet."""
        self.begun = trio.Event()
        """Set when its next life begins."""
        self.started_at = 0.0
        """When its life began, s of virtual time."""
        self.went_up = trio.Event()
        self.is_new = False
        """Whether it has begun anew on an empty disk, and has no chain yet."""
        self.sent: list[bytes] = []
        """Transfers that its wallet was told have been taken, by txid."""
        self.bans: dict[str, int] = {}
        """Until when what is banned is banned, ms, for bans that had time to be saved."""
        self._young_bans: dict[str, int] = {}
        self.acknowledged = Acknowledged()
        self.wallets = None
        self.supervisor: Supervisor | None = None
        self._life: trio.CancelScope | None = None
        self._has_transport = False
        """Whether this life has come so far."""
        self._told_keys = b""
        """What its user was told that the wallet's keys were sealed as, empty if he waits for that.
        """
        self.is_told_of_damage = False
        """Whether the log has told its user that a file of the wallet is damaged, and he has not
        seen to it."""
        self.wallet_disk = (
            None if home is None else WalletDisk(home, f"{simulation.seed} {self.name}")
        )
        self._expected: list[StoreError] = []
        self._cancelled: Counter[str] = Counter()
        """Services that were cancelled and have not ended yet."""
        self._explained: list[ServiceEndedError] = []
        """What came of cancelling services."""
        self._has_rotted = False
        self._down_s = 0.0
        self._hurry = trio.Event()
        self._scopes: dict[str, trio.CancelScope] = {}
        self._store: FaultyStore | None = None
        if home is not None:
            keystore = Keystore.create(
                simulation.scenario.network,
                new_secret(self.randomness),
                PASSPHRASE,
                cost=CHEAP,
                randomness=self.randomness,
            )
            save_new(keystore, home, DEFAULT_WALLET)
            self.account: WatchAccount | None = keystore.accounts[0].account(
                simulation.scenario.network.chain_id
            )

    @property
    def peer_id(self) -> str:
        """What peers know it by, whether it runs or not."""
        return memory_peer_id(self.name)

    @property
    def is_dead(self) -> bool:
        """Whether what is left of its tasks belongs to a process that is gone."""
        return self._store is not None and self._store.is_dead

    @property
    def is_troubled(self) -> bool:
        """Whether something has befallen it in this life after which services may fail."""
        return bool(
            self._expected
            or self._cancelled
            or self._explained
            or self.has_rotted
            or (self.wallet_disk is not None and self.wallet_disk.has_just_rotted)
            or self.is_dead
        )

    @property
    def has_rotted(self) -> bool:
        """Whether some of its disk was damaged in this life."""
        return self._has_rotted or bool(self.disk_under.damaged)

    # What befalls it

    def crash(self, down_s: float, *, power_cut: bool) -> bool:
        """Be gone at once, for so many seconds; return whether it was there, or was starting."""
        is_there = self.is_up or self.is_starting
        if not is_there or self._store is None or self._life is None:
            return False
        self.is_up = self.is_starting = False
        self._down_s = down_s
        self._store.is_dead = True
        if self._has_transport:
            self.transport.vanish(silently=power_cut)
        self._life.cancel()
        self.simulation.log.note(self.name, "crashed", power_cut=power_cut)
        if self.disk_under.give_up_compaction():
            self.simulation.sightings.note("crash during compaction")
        if power_cut and self.disk_under.lose_power(self.simulation.rng):
            self.simulation.sightings.note("unsynced writes lost")
        if self.wallet_disk is not None and self.wallet_disk.crash(power_cut=power_cut):
            self.simulation.sightings.note("wallet's writes lost")
        return True

    def die_writing(self, down_ms: int, note: Callable[[], None], *, power_cut: bool) -> None:
        """Be gone in the midst of a write, for so long; `note` is called if it was there."""
        self.simulation.log.note(self.name, "killed while it wrote")
        if self.crash(down_ms / 1000, power_cut=power_cut):
            note()

    async def seal_keys(self) -> None:
        """Let its user seal the wallet's keys anew, if he can; what he is told was done is there
        from then on."""
        if self.wallets is None or not self.is_up:
            return
        life, self._told_keys = self.starts, b""
        try:
            sealed = await self.wallets.reseal(
                DEFAULT_WALLET, NewPassphrase(PASSPHRASE, PASSPHRASE)
            )
        except (WalletError, trio.ClosedResourceError) as error:
            if self.is_up and self.starts == life and not self.accounts_for_refusal(error):
                raise
        else:
            if self.is_up and self.starts == life:
                self._told_keys = sealed.to_bytes()

    def mend_wallet_disk(self) -> bool:
        """Let nothing more befall its wallet's files; return whether one has rotted unread."""
        if self.wallet_disk is None:
            return False
        self.wallet_disk.mend()
        return self.wallet_disk.will_rot

    def tend_wallet(self) -> None:
        """Do what its user does who has read in the log that a file of the wallet is damaged: stop
        it, see to the file, and start it again."""
        if not self.is_told_of_damage or self.wallet_disk is None:
            return
        self.crash(0.0, power_cut=False)
        if self.wallet_disk.put_right():
            # What the wallet was told, and no chain says, went with it.
            self.sent.clear()
            self.simulation.sightings.note("wallet read anew")
        self.is_told_of_damage = False

    def begin_anew(self) -> None:
        """Start at once on an empty disk."""
        self.crash(0.0, power_cut=False)
        self._replace_disk()

    def cancel_service(self, name: str) -> bool:
        """Let one of the node's services end; return whether it has run."""
        scope = self._scopes.get(name)
        if not self.is_up or scope is None:
            return False
        self._cancelled[name] += 1
        scope.cancel()
        return True

    def expect(self, error: StoreError) -> None:
        """Let this error be accounted for."""
        self._expected.append(error)

    def hurry(self) -> None:
        """Let it start now, if it is down."""
        self._hurry.set()

    def accounts_for(self, error: BaseException) -> bool:
        """Tell whether an error follows from what has befallen the node."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.accounts_for, error.exceptions))
        if isinstance(error, ServiceEndedError):
            return self._has_cancelled(error)
        if isinstance(error, StoreCorruptError):
            return self.has_rotted
        if isinstance(error, StoreUnavailableError):
            return self._has_failed_writes
        if isinstance(error, trio.ClosedResourceError):
            # A chain that has stopped says so to whoever asks.
            return bool(self._expected or self._cancelled or self._explained or self.has_rotted)
        if error.__cause__ is not None and isinstance(error, ServiceFailedError):
            return self.accounts_for(error.__cause__)
        return error in self._expected

    def accounts_for_line(self, kind: str) -> bool:
        """Tell whether a line of its log that names no exception follows from what has befallen
        the node: what it says of its wallets once its disk takes no more."""
        return kind in TOLD_OF_WALLETS and self._has_failed_writes

    def accounts_for_refusal(self, error: Exception) -> bool:
        """Tell whether its wallet may refuse its user so, by what has befallen it in this life, or
        to its files before: what has rotted may be read late."""
        is_of_damage = isinstance(error, StoreDamagedError) and self.has_rotted_wallet
        is_closed_for_it = isinstance(error, WalletClosedError) and self.is_told_of_damage
        return self.is_troubled or is_of_damage or is_closed_for_it

    def tells_of_damage(self, kind: str) -> bool:
        """Tell whether a line of its log says that a file of its wallet is damaged which is, so
        that its user sees to it."""
        told = kind in TOLD_OF_WALLETS and self.has_rotted_wallet
        if told:
            self._note_damage()
        return told

    def _note_damage(self) -> None:
        self.is_told_of_damage = True
        self.simulation.sightings.note("wallet found damaged")

    @property
    def has_rotted_wallet(self) -> bool:
        return self.wallet_disk is not None and bool(self.wallet_disk.rotted)

    @property
    def _has_failed_writes(self) -> bool:
        return self._store is not None and self._store.has_failed

    def _has_cancelled(self, error: ServiceEndedError) -> bool:
        """Tell whether a service ended because it was cancelled: each time explains one end."""
        if error not in self._explained and self._cancelled[error.service] > 0:
            self._cancelled -= Counter([error.service])
            self._explained.append(error)
        return error in self._explained

    # Its lives

    async def keep(self) -> None:
        """Run it, again and again, until cancelled."""
        while True:
            self._hurry = trio.Event()
            self._down_s = FAILED_DOWN_S
            try:
                await self._live()
            except Exception as error:
                # What is left of a process that is gone may miss what it wrote in vain.
                if not self.is_dead:
                    if not self.accounts_for(error):
                        raise
                    self.simulation.sightings.note("node stopped by its store")
                    self.simulation.log.note(self.name, "failed", why=type(error).__name__)
            finally:
                self.is_up = self.is_starting = False
            with trio.move_on_after(self._down_s):
                await self._hurry.wait()

    async def _live(self) -> None:
        self.starts += 1
        self.started_at = trio.current_time()
        self._has_transport = False
        self.is_starting = True
        begun, self.begun = self.begun, trio.Event()
        begun.set()
        self._expected.clear()
        self._cancelled.clear()
        self._explained.clear()
        self._has_rotted = False
        self._scopes.clear()
        if self.disk_under.damaged and self.simulation.is_quiet:
            self._replace_disk()
        self._store = FaultyStore(self.disk_under)
        if self.wallet_disk is not None:
            self.wallet_disk.begin(self._store)
        try:
            with trio.CancelScope() as self._life:
                await self._open_and_run(self._store)
        except Exception as error:
            if _has(error, StoreCorruptError) and self.disk_under.damaged:
                self._replace_disk()
            raise
        finally:
            self._store.close()

    def _replace_disk(self) -> None:
        self._has_rotted = True
        self.disk_under = FaultyDisk()
        self.acknowledged = Acknowledged()
        self.bans.clear()
        self.is_new = True
        self.simulation.sightings.note("disk replaced")
        self.simulation.log.note(self.name, "disk replaced")

    async def _open_and_run(self, store: FaultyStore) -> None:
        scenario = self.simulation.scenario
        life = self.starts
        log = structlog.get_logger().bind(node=self.name, life=life)
        randomness = SeededRandomness(f"{self.simulation.seed} {self.name} {life}")
        runner = SlowRunner(self.disk_under)
        prepare(store, scenario.network)
        self._require_kept(self.acknowledged.lost(store, scenario.network.max_reorg))
        self.chain = await ChainService.open(
            store,
            scenario.network,
            clock=self.clock,
            writer=runner,
            verifier=runner,
            verifiers=1,
            backend=BACKEND,
            log=log,
        )
        self._require_kept(self.acknowledged.differs(self.chain._writer._core))
        self.transport = MemoryTransport(self.net.weather, self.name, self.ip, log)
        self._has_transport = True
        self.network = PartedNetwork(
            self._interruptible,
            self.chain,
            self.transport,
            store,
            peer_settings=PeerSettings(
                bootstrap=self.bootstrap,
                limits=self.limits,
                status_s=min(15.0, scenario.epoch_s / 2),
                clock_bound_ms=scenario.network.future_limit_ms // 2,
            ),
            sync_settings=self.sync_settings,
            clock=self.clock,
            rng=randomness.generator(),
            writer=runner,
            log=log,
        )
        self._check_bans()
        services = [
            Service("chain", self.chain.run, 1),
            Service("recorder", self._record, 2),
            Service("network", self._run_network, 2),
        ]
        services += self._wallet_services(store, runner, randomness, log)
        services += self._mining_services(randomness, log)
        self.supervisor = Supervisor(
            [
                msgspec.structs.replace(one, run=self._interruptible(one.name, one.run))
                for one in services
            ],
            log=log,
            on_overdue=self._stop_is_overdue,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self.supervisor.run)
            if self._store is store and not store.is_dead:
                self.is_up, self.is_starting = True, False
                self.went_up.set()
                self.simulation.log.note(self.name, "up", height=self.height)
                self._check_sent()

    def _wallet_services(
        self, store: FaultyStore, runner: SlowRunner, randomness: SeededRandomness, log: Any
    ) -> list[Service]:
        self.payout = SimPayout(self.name)
        if self.home is None:
            return []
        self.wallets = WalletManager(
            self.home,
            WalletLink(self.chain, store, self.network.stem, clock=self.clock, runner=runner),
            clock=self.clock,
            runner=runner,
            log=log,
            cost=CHEAP,
            randomness=randomness,
        )
        self.payout = AccountPayout(self.account, self.wallets)
        return [Service("wallets", self.wallets.run, 2)]

    def _mining_services(self, randomness: SeededRandomness, log: Any) -> list[Service]:
        if not self.coins_per_s:
            return []
        miner = PoissonMiner(self.simulation, randomness.generator(), self.coins_per_s)
        mined = MinedCoins(self.chain)
        self.epochs = EpochManager(
            self.chain,
            miner,
            self.payout,
            clock=self.clock,
            may_mine=self.network.synced,
            mined=mined,
            log=log,
        )
        return [
            Service("miner", miner.run, 3, restartable=True),
            Service("epochs", self.epochs.run, 3, restartable=True),
            Service("harvest", mined.run, 3, restartable=True),
        ]

    def _interruptible(self, name: str, plain: ServiceRun) -> ServiceRun:
        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as scope:
                self._scopes[name] = scope
                try:
                    await plain(task_status=task_status)
                finally:
                    self._scopes.pop(name, None)

        return run

    def _stop_is_overdue(self, names: tuple[str, ...]) -> None:
        self.simulation.fail(f"{self.name}: services do not stop: {', '.join(names)}")

    async def _record(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Tell the simulation of every step of the chain."""
        with self.chain.changes.subscribe() as changes:
            task_status.started()
            async for step in changes:
                if isinstance(step, Lost):
                    self.simulation.sightings.note("changes lost by a slow reader", step.count)
                    continue
                if self._store is None or self._store.is_dead:
                    return
                self.simulation.note_step(self, step)
                if not self.chain._in_bulk:
                    self.acknowledged.note(step, self.chain._writer._core)

    def note_bans(self) -> None:
        """Take note of the bans of the moment: those of the last time have been saved by now."""
        self.bans.update(self._young_bans)
        active = self.network.peers.reputation.active_bans()
        self._young_bans = {ban.group: ban.until for ban in active}

    def _check_bans(self) -> None:
        self._young_bans.clear()
        now_ms = self.clock.now_ms()
        active = {ban.group for ban in self.network.peers.reputation.active_bans()}
        for group, until in self.bans.items():
            if now_ms < until and group not in active:
                self.simulation.fail(f"{self.name} has forgotten that {group} is banned")

    def _require_kept(self, lost: str) -> None:
        if lost:
            self.simulation.fail(f"{self.name} has lost {lost}")

    def _check_sent(self) -> None:
        """Look whether its wallet knows every payment that it was told was sent, and has the keys
        that it was told were sealed."""
        if self._told_keys and not self.has_rotted_wallet:
            assert self.home is not None
            lost = wallet_path(self.home, DEFAULT_WALLET).read_bytes() != self._told_keys
            self._require_kept("keys that were sealed" if lost else "")
        if self.wallets is not None and not self._has_failed_writes and not self.is_told_of_damage:
            try:
                forgotten = forgotten_payment(self, self.wallets.wallet(DEFAULT_WALLET))
            except StoreDamagedError:
                if not self.has_rotted_wallet:
                    raise
                self._note_damage()
            else:
                self._require_kept(f"payment {forgotten}" if forgotten else "")


def _has(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_has(inner, kind) for inner in error.exceptions)
    return isinstance(error, kind) or (error.__cause__ is not None and _has(error.__cause__, kind))
