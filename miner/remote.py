"""A mining pool at work for nodes elsewhere: templates down, coins up, another node when one fails.

How a node is asked is handed in (`RemoteNode`); what is decided here is which one, when, and what
becomes of a coin that cannot be handed in at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import trio
from structlog.typing import FilteringBoundLogger

from unchained.miner.errors import BadJobError, MinerError
from unchained.miner.jobs import Job, Solution
from unchained.miner.pool import MiningPool
from unchained.node.primitives.coin import HEADER_SIZE, NONCE_OFFSET

RETRY_DELAY_S_MIN: Final = 1.0
RETRY_DELAY_S_MAX: Final = 30.0
"""Seconds from one round of nodes that all failed to the next, doubling."""

RETURN_S: Final = 120.0
"""Seconds on another node after which the first one is tried again."""

SUBMIT_ROUNDS: Final = 5
"""How often all nodes are offered a coin before it is given up."""

JOBS_REMEMBERED: Final = 512

REFUSALS_MAX: Final = 3
"""Times in a row that each node refuses the credentials before there is no use in going on: a
node that is started anew may have others for a moment."""


class Work(msgspec.Struct, frozen=True):
    """A template from a node: `id` names it, `header` (166 bytes) holds in its nonce where to
    start, `mem_kib` is the network's MEM."""

    id: bytes
    header: bytes
    target: int
    mem_kib: int


class NodeUnavailableError(Exception):
    """A node cannot be asked now; another may. The message is one line."""


class CredentialsRefusedError(NodeUnavailableError):
    """A node answers and does not admit this miner."""


class NotAdmittedError(MinerError):
    """No node admits this miner; the message says what each of them said."""


class CoinRefusedError(Exception):
    """A node validated a coin and refused it; the message names the rule."""


class RemoteNode(Protocol):
    """A node elsewhere, as its miner sees it."""

    @property
    def name(self) -> str:
        """What the log calls it; without credentials."""

    async def template(self, after: bytes | None) -> Work:
        """Return work; with `after` wait for other work than that, for about a minute.

        Raises NodeUnavailableError, for work as well that is not what was asked for.
        """

    async def submit(self, coin: bytes) -> None:
        """Hand in a coin (198 bytes). Raises CoinRefusedError, NodeUnavailableError."""


class RemoteStatistics(msgspec.Struct, frozen=True):
    """Counts since the start. `node` is the one whose work is done, None while none answers."""

    node: str | None
    templates: int
    moves: int
    accepted: int
    refused: int
    lost: int
    """Coins that no node could be given."""


class RemoteMiner:
    """Keeps a pool at work for the first of several nodes that answers."""

    def __init__(
        self, pool: MiningPool, nodes: Sequence[RemoteNode], *, log: FilteringBoundLogger
    ) -> None:
        self._pool = pool
        self._nodes = nodes
        self._log = log
        self._at = 0
        self._answers = False
        self._next_job = 1
        self._jobs: OrderedDict[int, RemoteNode] = OrderedDict()
        self._refusals = dict.fromkeys(range(len(nodes)), 0)
        self._templates = self._moves = self._accepted = self._refused = self._lost = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mine until cancelled; then the pool has no job. The pool has to run as well.

        Raises NotAdmittedError once every node has refused the credentials again and again.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow)
                nursery.start_soon(self._collect)
                task_status.started()
        finally:
            self._pool.set_job(None)

    def statistics(self) -> RemoteStatistics:
        """Return counts since the start."""
        return RemoteStatistics(
            self._nodes[self._at].name if self._answers else None,
            self._templates,
            self._moves,
            self._accepted,
            self._refused,
            self._lost,
        )

    async def _follow(self) -> None:
        """Ask for work and set it, at the next node when one fails."""
        delay, failed = RETRY_DELAY_S_MIN, 0
        after: bytes | None = None
        moved_at = trio.current_time()
        while True:
            if self._at and trio.current_time() - moved_at >= RETURN_S:
                # The first is the one that its user named first.
                self._at, after = 0, None
            node = self._nodes[self._at]
            try:
                work = await node.template(after)
                job = self._job(work)
            except (NodeUnavailableError, BadJobError) as error:
                self._log.warning("miner.node_lost", node=node.name, why=str(error))
                self._note_refusal(isinstance(error, CredentialsRefusedError), str(error))
                self._answers = False
                self._at, after = (self._at + 1) % len(self._nodes), None
                moved_at = trio.current_time()
                self._moves += len(self._nodes) > 1
                failed += 1
                if failed % len(self._nodes) == 0:
                    # Coins for a node that is gone are of no use to anybody.
                    self._pool.set_job(None)
                    await trio.sleep(delay)
                    delay = min(2 * delay, RETRY_DELAY_S_MAX)
                continue
            if not self._answers:
                self._log.info("miner.node_found", node=node.name)
            self._answers, after = True, work.id
            self._refusals[self._at] = 0
            delay, failed = RETRY_DELAY_S_MIN, 0
            self._issue(job, node)

    def _note_refusal(self, refused: bool, why: str) -> None:
        self._refusals[self._at] = self._refusals[self._at] + 1 if refused else 0
        if all(count >= REFUSALS_MAX for count in self._refusals.values()):
            names = ", ".join(node.name for node in self._nodes)
            raise NotAdmittedError(f"{names}: {why}")

    def _job(self, work: Work) -> Job:
        """Return the next job, made of a template. Raises `BadJobError`."""
        if len(work.header) != HEADER_SIZE:
            raise BadJobError("header", f"{HEADER_SIZE} bytes", len(work.header))
        start = int.from_bytes(work.header[NONCE_OFFSET:], "big")
        return Job(
            number=self._next_job,
            header_prefix=work.header[:NONCE_OFFSET],
            target=work.target,
            mem_kib=work.mem_kib,
            # A start near the end would leave the workers little to do.
            nonce_start=start // 2,
            nonce_count=2**63,
        )

    def _issue(self, job: Job, node: RemoteNode) -> None:
        self._templates += 1
        self._next_job += 1
        self._jobs[job.number] = node
        while len(self._jobs) > JOBS_REMEMBERED:
            self._jobs.popitem(last=False)
        self._pool.set_job(job)

    async def _collect(self) -> None:
        async for solution in self._pool.solutions:
            node = self._jobs.get(solution.job_number)
            if node is not None:
                await self._submit(solution, node)

    async def _submit(self, solution: Solution, origin: RemoteNode) -> None:
        """Hand in a coin where its work came from; elsewhere it is still a vote and a coin."""
        coin_id = solution.coin_id.hex()
        others = [node for node in self._nodes if node is not origin]
        delay = RETRY_DELAY_S_MIN
        for _ in range(SUBMIT_ROUNDS):
            for node in (origin, *others):
                try:
                    await node.submit(solution.header + solution.mix)
                except NodeUnavailableError as error:
                    self._log.warning("miner.submit_failed", node=node.name, why=str(error))
                except CoinRefusedError as error:
                    self._refused += 1
                    self._log.warning("coin.rejected", id=coin_id, node=node.name, why=str(error))
                    return
                else:
                    self._accepted += 1
                    self._log.info("coin.found", id=coin_id, node=node.name, worker=solution.worker)
                    return
            await trio.sleep(delay)
            delay = min(2 * delay, RETRY_DELAY_S_MAX)
        self._lost += 1
        self._log.error("coin.lost", id=coin_id)
