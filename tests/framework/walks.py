"""Three walks through the code, made by walking them: scripts/walks.

    a coin        from gossip to disk: a peer finds one, and this node takes it in
    a payment     from `wallet.send` to a mined body
    a batch       of sync: 32 anchors, from hearing of the last one to having them connected

Each is run once, on a simulated node with one peer, and the functions of this project that it
makes the node enter are listed in order. Both nodes share one virtual clock, and between them no
time passes: what an event causes is done before the clock moves on, but for what waits on purpose.
Left out: the base that every room may use, primitives, crypto, and the in-memory network. The
payment enters as the body of a request: HTTP around it is left out as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import structlog
import trio
import trio.testing

from tests.framework.arguments import ScriptParser, file_to_write
from tests.framework.async_tests import run_virtual
from tests.framework.checkout import UNKNOWN, git
from tests.framework.simulation.link_model import LinkModel

# All that is imported of the project: what a move of modules has to touch here.
from tests.framework.simulation.simnet import EPOCH_S, SIM, SimNet, SimNode, simulate
from tests.framework.walk_recorder import Entry, Recorder
from tests.framework.wallets import CHEAP
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.relay.wallet_link import WalletLink
from unchained.node.rpc.core.call_places import CallLimits
from unchained.node.rpc.core.dispatcher import Dispatcher
from unchained.node.rpc.core.openrpc import registry
from unchained.node.rpc.core.rights import NODE_OWNER
from unchained.node.rpc.methods.payment import PaymentRoom
from unchained.node.wallet import note_filter  # noqa: F401 - see below
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.records import Payee

# The note filter is imported here since a node imports it once a wallet has notes to look at: the
# first walk of a process would hold that, and no other.

PARTS: Final = ("node", "miner", "storage")
BASE: Final = (
    "node/base/",
    "node/config.py",
    "node/fanout.py",
    "node/files.py",
    "node/instruments.py",
    "node/logs.py",
    "node/runtime.py",
    "node/services.py",
)
SIMULATION: Final = ("node/p2p/links.py", "node/p2p/memory.py")
OMITTED: Final = (*BASE, "node/primitives/", "node/crypto/", *SIMULATION)

DECODING: Final = ("Transfer.from_bytes", "Transfer.from_stored")
"""What every decoding of a transfer's bytes comes down to: one of these."""
VERIFYING: Final = "verify_signature"
ASKING: Final = ("ChainManager.call", "ChainService.call", "ChainWriter.call")
"""What every trip to the chain's writer goes through: the one of these that there is."""

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs/architecture.md"
BEGIN: Final = "<!-- walks: made by scripts/walks --write -->"
END: Final = "<!-- end of walks -->"
NETWORK: Final = msgspec.structs.replace(SIM, tau_ms=0)
"""No retarget: anchors can be mined one right after the other."""
NO_TIME: Final = LinkModel(latency=0.0, bandwidth=1e30)
DEAF: Final = LinkModel(latency=0.0, bandwidth=1e30, gossip_loss=1.0)
SETTLED_S: Final = 30.0
TEMPLATE_S: Final = EPOCH_S / 20
"""How long a template waits for more transfers."""
BATCH: Final = 32
"""Anchors that sync asks for together."""
PASSPHRASE: Final = "pass"
WALLET: Final = "default"
UNLOCKED_S: Final = 3_600.0
SHOWN: Final = 3
"""Functions named on a line of the documentation."""


@dataclass(frozen=True)
class Walk:
    """What one event made the node do.

    entered: every entry, in order. is_under_way: by function, whether another of its file was under
    way at its first entry. decoded: how often bytes of a transfer were. verified: signatures.
    trips: operations of the chain's writer. per_batch: the trips that one more batch takes. The
    last four are counted by the function that it was done for.
    """

    name: str
    title: str
    entered: Sequence[Entry]
    is_under_way: Mapping[Entry, bool]
    decoded: Counter[str]
    verified: Counter[str]
    trips: Counter[str]
    per_batch: Counter[str] = field(default_factory=Counter)

    @property
    def files(self) -> list[str]:
        """Each file once, where it is entered first."""
        return list(dict.fromkeys(entry.file for entry in self.entered))

    @property
    def stays(self) -> list[tuple[str, list[str]]]:
        """The functions by files, in order of their first entry: a new stay wherever the file
        changes."""
        stays: list[tuple[str, list[str]]] = []
        for entry in self.is_under_way:
            if not stays or stays[-1][0] != entry.file:
                stays.append((entry.file, []))
            if entry.function not in stays[-1][1]:
                stays[-1][1].append(entry.function)
        return stays

    @property
    def returns(self) -> int:
        """How often a function not seen before is entered in a file that had been left: one that
        was entered already, and of which nothing was under way."""
        count, seen, last = 0, set(), ""
        for entry, is_under_way in self.is_under_way.items():
            count += entry.file in seen and entry.file != last and not is_under_way
            seen.add(entry.file)
            last = entry.file
        return count

    def figures(self) -> dict[str, Any]:
        """Return what is counted, in the order in which it is shown. `reopened` is how often a
        file comes again, left or not; `called_back` are lambdas and inner functions that ran."""
        return {
            "files": len(self.files),
            "returns": self.returns,
            "reopened": len(self.stays) - len(self.files),
            "called_back": sum(entry.is_inner for entry in self.is_under_way),
            "functions": len({entry[:2] for entry in self.entered}),
            "decoded": sum(self.decoded.values()),
            "verified": sum(self.verified.values()),
            "trips": sum(self.trips.values()),
            "per_batch": sum(self.per_batch.values()),
        }

    def callers(self) -> dict[str, dict[str, int]]:
        """Return for whom what is counted was done."""
        counted = {
            "decoded": self.decoded,
            "verified": self.verified,
            "trips": self.trips,
            "per_batch": self.per_batch,
        }
        return {what: dict(callers) for what, callers in counted.items()}


class _LaterPayout:
    """Pays nobody, until there is a wallet to pay."""

    def __init__(self) -> None:
        self.lock_of: Callable[[CoinId, int], Lock] = lambda _parent, _time_ms: Lock(bytes(32))

    def lock_for(self, parent: CoinId, time_ms: int) -> Lock:
        return self.lock_of(parent, time_ms)


class House:
    """A node that mines and keeps a wallet, `payer`, and one that does neither, `hearer`."""

    def __init__(self, net: SimNet, directory: Path) -> None:
        self._net = net
        self._directory = directory
        self._payout = _LaterPayout()
        # So small a share that nothing is found but what is asked for.
        self.payer = net.node(share=1e-12, name="payer")
        self.payer.payout = self._payout
        self.hearer = net.node(name="hearer")
        self._tasks: dict[SimNode, list[trio.lowlevel.Task]] = {self.payer: [], self.hearer: []}
        self._watched: SimNode = self.hearer
        self._rpc: Dispatcher
        self._wallets: WalletManager
        self._recorder = Recorder(
            ROOT,
            PARTS,
            omitted=OMITTED,
            counted=(*DECODING, VERIFYING, *ASKING),
            whose=self._is_delivery,
        )

    # The nodes

    async def open(self) -> None:
        """Start both nodes, let them meet, and give the payer coins to spend."""
        with self._tasks_of(self.payer):
            await self.payer.start()
            wallets = await self._open_wallets()
        self.hearer.bootstrap = (self.payer.transport.address,)
        with self._tasks_of(self.hearer):
            await self.hearer.start()
        await trio.sleep(SETTLED_S)
        self._payout.lock_of = wallets.wallet(WALLET).payout().lock_for
        for _ in range(4):
            await self.mine()

    @contextmanager
    def _tasks_of(self, node: SimNode) -> Iterator[None]:
        """Let the tasks that are started inside be the node's."""
        assert self._net.nursery is not None
        before = self._net.nursery.child_tasks
        yield
        self._tasks[node] += self._net.nursery.child_tasks - before

    async def _open_wallets(self) -> WalletManager:
        """Let the payer keep a wallet, and answer calls for it."""
        assert self._net.nursery is not None
        node, log = self.payer, structlog.get_logger()
        clock = TrioClock(self._net.start_ms + int(trio.current_time() * 1000))
        runner = InlineRunner()
        wallets = WalletManager(
            self._directory,
            WalletLink(node.chain, node.store, node.network.stem, clock=clock, runner=runner),
            clock=clock,
            runner=runner,
            log=log,
            cost=CHEAP,
        )
        await self._net.nursery.start(lambda task_status: wallets.run(task_status=task_status))
        await wallets.create(WALLET, PASSPHRASE)
        await wallets.unlock(WALLET, PASSPHRASE, UNLOCKED_S)
        self._wallets = wallets
        self._rpc = Dispatcher(
            registry(PaymentRoom(wallets), version="0", runner=InlineRunner()),
            limits=CallLimits(),
            log=log,
        )
        return wallets

    async def find(self, *, grade: bool) -> None:
        """Let the payer's miner find a coin, and wait until nobody has anything to do about it."""
        with self._recorder.looking_away():
            self.payer.miner.find(grade=grade)
        await trio.testing.wait_all_tasks_blocked()

    async def mine(self) -> None:
        """Let the payer's miner find an anchor."""
        height = self.payer.height
        await self.find(grade=True)
        assert self.payer.height == height + 1

    async def send(self) -> None:
        """Let the payer pay, by the body of a request."""
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "wallet.send",
            "params": {"payments": [{"payee": "lock:" + "11" * 32, "amount": "0.1"}]},
        }
        answer = await self._rpc.answer(json.dumps(call).encode(), NODE_OWNER)
        assert "result" in json.loads(answer.body), answer.body
        await trio.testing.wait_all_tasks_blocked()

    async def _submit_unheard(self) -> None:
        """Let the payer's mempool take in a payment; it is gossiped, and handed to nobody alone."""
        wallet = self._wallets.wallet(WALLET)
        prepared = wallet.spender.pay([Payee("lock:" + "11" * 32, 10**7, b"")], Fee())
        proven = wallet.finish(prepared)
        wallet.record(proven, 0, payees=prepared.payees, change=prepared.change)
        await self.payer.chain.submit_transfer(proven)
        await trio.testing.wait_all_tasks_blocked()

    async def _wait_for_template(self) -> None:
        """Wait until what is mined takes in the transfers that wait."""
        await trio.sleep(TEMPLATE_S)
        await trio.testing.wait_all_tasks_blocked()

    # What is recorded

    def _is_delivery(self, frame: FrameType) -> bool:
        """Return whether the in-memory network, whose one task works for all nodes, delivers
        something to the watched one."""
        above: FrameType | None = frame
        while above is not None:
            if above.f_code.co_qualname == "_Wire.arrive":
                return bool(above.f_locals["end"].me is self._watched.transport)
            above = above.f_back
        return False

    @asynccontextmanager
    async def _watching(self, node: SimNode, name: str, title: str) -> AsyncIterator[_Made]:
        """Record what is done inside at a node; the walk is there afterwards."""
        await trio.testing.wait_all_tasks_blocked()
        self._watched = node
        made = _Made()
        with self._recorder.recording(*self._tasks[node]):
            yield made
        trips = self._recorder.total(ASKING)
        assert trips, f"no trip to the chain's writer: it does not go through any of {ASKING}"
        made.walk = Walk(
            name,
            title,
            self._recorder.entries,
            self._recorder.is_under_way,
            self._recorder.total(DECODING),
            self._recorder.total((VERIFYING,)),
            trips,
        )

    # The walks

    async def walk_coin(self) -> Walk:
        """A coin that a peer has found comes in by gossip."""
        coins = self.hearer.chain.status.value.coins
        async with self._watching(self.hearer, "coin", "A coin from gossip to disk") as made:
            await self.find(grade=False)
        assert self.hearer.chain.status.value.coins == coins + 1
        return made.walk

    async def walk_payment(self) -> Walk:
        """A payment is asked for, and the next anchor lists it."""
        title = "`wallet.send` to a mined body"
        async with self._watching(self.payer, "payment", title) as made:
            await self.send()
            assert self.payer.chain.status.value.mempool.transfers == 1
            await self._wait_for_template()
            await self.mine()
        assert self.payer.chain.status.value.mempool.transfers == 0
        assert made.walk.decoded, f"no transfer was decoded by {DECODING}"
        assert made.walk.verified, f"no signature was verified by {VERIFYING}"
        return made.walk

    async def walk_heard_payment(self) -> Walk:
        """A transfer that a peer has made comes in by gossip, and the peer's next anchor lists it;
        not among those that the documentation shows."""
        title = "A transfer from gossip to a body"
        assert self._net.nursery is not None
        async with self._watching(self.hearer, "heard payment", title) as made:
            # In a task of its own: what the payer does is not the hearer's.
            self._net.nursery.start_soon(self.send)
            await trio.testing.wait_all_tasks_blocked()
            assert self.hearer.chain.status.value.mempool.transfers == 1
            await self._wait_for_template()
            await self.mine()
        assert self.hearer.tip == self.payer.tip
        assert self.hearer.chain.status.value.mempool.transfers == 0
        return made.walk

    async def walk_sync(self, batches: int) -> Walk:
        """A node hears of an anchor that is some batches above its tip, a transfer in each."""
        self._net.weather.set_link(self.payer.id, self.hearer.id, DEAF)
        behind = self.hearer.height
        for _ in range(batches):
            await self._submit_unheard()
            await self._wait_for_template()
            for _ in range(BATCH):
                await self.mine()
        assert self.hearer.height == behind
        title = f"A batch of sync to connected ({BATCH} anchors)"
        async with self._watching(self.hearer, "sync", title) as made:
            self.hearer.network.sync.want(self.payer.id, self.payer.tip)
            await trio.testing.wait_all_tasks_blocked()
        assert self.hearer.tip == self.payer.tip
        self._net.weather.set_link(self.payer.id, self.hearer.id, NO_TIME)
        await trio.sleep(SETTLED_S)
        return made.walk


@dataclass
class _Made:
    """Where a walk is handed out."""

    walk: Walk = field(init=False)


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    """Two nodes that have met, to walk through."""
    with tempfile.TemporaryDirectory() as directory:
        async with simulate(1, model=NO_TIME, params=NETWORK) as net:
            house = House(net, Path(directory))
            await house.open()
            yield house


def make_walks() -> list[Walk]:
    """Walk all three, and once more with two batches, to see what one of them takes."""

    async def walk() -> list[Walk]:
        async with open_house() as house:
            coin, payment = await house.walk_coin(), await house.walk_payment()
            one, two = await house.walk_sync(1), await house.walk_sync(2)
        return [coin, payment, replace(one, per_batch=two.trips - one.trips)]

    return run_virtual(walk)


# Shown


def as_text(walk: Walk, *, every: bool) -> str:
    """Return a walk's figures and its functions, one a line; `every` lists every entry, not only
    each function's first."""
    lines = [walk.title]
    lines += [f"  {name.replace('_', ' '):16}{count}" for name, count in walk.figures().items()]
    for what, callers in walk.callers().items():
        lines += [f"  {what} by {caller}: {count}" for caller, count in callers.items()]
    named = [entry[:2] for entry in (walk.entered if every else walk.is_under_way)]
    lines += [f"    {file} {function}" for (file, function), _ in groupby(named)]
    return "\n".join(lines)


def as_markdown(walk: Walk) -> str:
    """Return a walk as a numbered list of its files, in the order in which they are entered, with
    the functions that are entered first in each."""
    count = walk.figures()
    lines = [
        f"### {walk.title}",
        "",
        f"{count['functions']} functions in {count['files']} files, {count['returns']} returns.",
        "",
    ]
    for number, file in enumerate(walk.files, 1):
        of_file = (entry.function for entry in walk.is_under_way if entry.file == file)
        functions = list(dict.fromkeys(of_file))
        named = ", ".join(f"`{function}`" for function in functions[:SHOWN])
        more = f" and {len(functions) - SHOWN} more" if len(functions) > SHOWN else ""
        lines.append(f"{number}. `{file}`: {named}{more}")
    return "\n".join(lines)


def in_document(text: str, walks: Sequence[Walk]) -> str:
    """Return a text with the walks between its two marks. Raises ValueError where it lacks them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text does not have the marks {BEGIN} and {END}")
    shown = "\n\n".join(as_markdown(walk) for walk in walks)
    return f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}"


def as_json(walks: Sequence[Walk], commit: str) -> str:
    """Return all walks with their figures, as a file keeps them."""
    found = {
        "commit": commit,
        "walks": [
            {
                "name": walk.name,
                "title": walk.title,
                **walk.figures(),
                "by": walk.callers(),
                "stays": [f"{file}: {', '.join(functions)}" for file, functions in walk.stays],
            }
            for walk in walks
        ],
    }
    return json.dumps(found, indent=1) + "\n"


def commit() -> str:
    """Return the commit that is walked through; "unknown" where git does not know."""
    return git(ROOT, "rev-parse", "--short", "HEAD") or UNKNOWN


def main() -> int:
    """List the walks, or put them where the documentation shows them; return the exit status."""
    parser = ScriptParser(
        prog="scripts/walks", description="List what three events make a node run."
    )
    parser.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="also write the walks to FILE"
    )
    parser.add_argument("--markdown", action="store_true", help="print them for the documentation")
    parser.add_argument("--write", action="store_true", help="put them into docs/architecture.md")
    parser.add_argument("--check", action="store_true", help="fail if --write would change it")
    parser.add_argument("--every", action="store_true", help="list every entry of every function")
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):
        walks = make_walks()
    if arguments.write or arguments.check:
        text = DOCUMENT.read_text(encoding="utf-8")
        wanted = in_document(text, walks)
        if arguments.check and text != wanted:
            print("docs/architecture.md is not as walked: run scripts/walks --write")
            return 1
        DOCUMENT.write_text(wanted, encoding="utf-8")
    elif arguments.markdown:
        print("\n\n".join(as_markdown(walk) for walk in walks))
    else:
        print("\n\n".join(as_text(walk, every=arguments.every) for walk in walks))
    if arguments.json:
        arguments.json.write_text(as_json(walks, commit()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
