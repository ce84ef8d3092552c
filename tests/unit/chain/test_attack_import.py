"""A chain file with coins of the future: the rule that fires is that of the protocol (§3.3, §5.2).

Files are put together by hand, as no node would export them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from tests.framework.forge import BACKEND, Forge, Forged
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.export import MAGIC, ImportFailedError
from unchained.node.chain.importer import import_chain
from unchained.node.chain.service import ChainService
from unchained.node.consensus.params import REG
from unchained.node.primitives.body import Body
from unchained.node.primitives.codec import encode
from unchained.node.primitives.coin import Coin
from unchained.storage.memory import MemoryStore

BELOW = 3
"""Good anchors before the one in question."""
LIMIT_MS = REG.future_limit_ms


def record(coin: Coin, body: Body, listed: dict[Any, Coin]) -> bytes:
    """Return the record of an anchor without transfers (Protocol §12)."""
    fresh, uncles = (tuple(listed[i].raw for i in ids) for ids in (body.fresh, body.uncles))
    return encode((coin.raw, fresh, uncles, (), body.state_root, body.history_root))


def file_of(*records: bytes) -> bytes:
    """Return a chain file."""
    frames = b"".join(struct.pack(">I", len(one)) + one for one in records)
    return MAGIC + struct.pack(">I", REG.chain_id) + frames


def import_file(content: bytes, path: Path, now_ms: int) -> tuple[int, str] | int:
    """Import a file; return the height of the anchor, or the height and rule that failed."""
    path.write_bytes(content)

    async def main() -> tuple[int, str] | int:
        chain = await ChainService.open(
            MemoryStore(),
            REG,
            clock=TrioClock(now_ms),
            writer=InlineRunner(),
            verifier=InlineRunner(),
            verifiers=2,
            backend=BACKEND,
            log=structlog.wrap_logger(
                structlog.ReturnLogger(),
                wrapper_class=structlog.make_filtering_bound_logger("critical"),
            ),
        )
        failed: list[ImportFailedError] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(chain.run)
            try:
                await import_chain(chain, path, InlineRunner(), lambda _progress: None)
            except* ImportFailedError as group:
                error: BaseException = group
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                assert isinstance(error, ImportFailedError)
                failed.append(error)
            height = chain.status.value.height
            nursery.cancel_scope.cancel()
        return (failed[0].height, failed[0].error.name) if failed else height

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.fixture
def forge() -> Forge:
    return Forge()


def records_of(tip: Forged) -> list[bytes]:
    """Return the records of a forged chain."""
    return [record(step.coin, step.body, dict(step.coins)) for step in tip.chain()[1:]]


@pytest.mark.parametrize("is_forged", [False, True])
@pytest.mark.parametrize("followed", [False, True])
@pytest.mark.parametrize(
    ("ahead_ms", "rule"),
    [
        (LIMIT_MS, None),
        (LIMIT_MS + 1, "TIME_TOO_NEW"),
        (2 * LIMIT_MS + 1, "TIME_TOO_NEW"),
        (None, "TIME_TOO_NEW"),
    ],
    ids=["just", "too new", "far too new", "the end of time"],
)
def test_an_anchor_of_the_future(
    forge: Forge,
    tmp_path: Path,
    ahead_ms: int | None,
    rule: str | None,
    is_forged: bool,
    followed: bool,
) -> None:
    """TIME_TOO_NEW comes before BAD_MIX: of what is too new the mix is not what is wrong."""
    tip = forge.grow(forge.genesis, BELOW)
    time = 2**64 - 1 if ahead_ms is None else forge.now_ms + ahead_ms
    body = forge.body(tip)
    coin = (
        forge.forged_mix(tip, grade=True, time=time)
        if is_forged
        else forge.mine(forge.header(tip, time=time), grade=True)
    )
    records = [*records_of(tip), record(coin, body, {})]
    if followed:
        last = forge.adopt(tip, coin, body)
        after = forge.anchor(last, time=min(time + 1, 2**64 - 1))
        records.append(record(after.coin, after.body, {}))
    found = import_file(file_of(*records), tmp_path / "chain", forge.now_ms)
    wanted: tuple[int, str] | int = (BELOW + 1, rule or "BAD_MIX")
    if rule is None and not is_forged:
        # At the bound it is taken in; what follows it is beyond.
        wanted = (BELOW + 2, "TIME_TOO_NEW") if followed else BELOW + 1
    assert found == wanted


@pytest.mark.parametrize("excess_ms", [0, 1])
@pytest.mark.parametrize("late", [False, True])
def test_an_anchor_that_lists_a_coin_of_its_future(
    forge: Forge, tmp_path: Path, late: bool, excess_ms: int
) -> None:
    """LISTED_TOO_NEW, by the anchor's time: the clock is not asked of what a body lists."""
    tip = forge.grow(forge.genesis, BELOW)
    parent = tip.chain()[-2] if late else tip
    time = tip.time + REG.epoch_ms
    listed = forge.coin(parent, time=time + LIMIT_MS + excess_ms)
    fresh, uncles = ([], [listed]) if late else ([listed], [])
    last = forge.anchor(tip, fresh, uncles, time=time)
    # The clock shows no more than the anchor's own time.
    found = import_file(file_of(*records_of(last)), tmp_path / "chain", time)
    assert found == ((BELOW + 1, "LISTED_TOO_NEW") if excess_ms else BELOW + 1)
