"""Protocol §12: the chain file, written, read, and imported as if a peer had sent it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import structlog
import trio

from tests.framework.chains import open_core, submit_body, submit_coin
from tests.framework.forge import BACKEND, Forge, Forged, of
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.core import ChainCore
from unchained.node.chain.export import (
    MAGIC,
    ImportFailedError,
    Record,
    export_chain,
    read_head,
    read_packages,
)
from unchained.node.chain.importer import ImportProgress, import_chain
from unchained.node.chain.service import ChainService
from unchained.node.consensus.errors import (
    BadMixError,
    BadStateRootError,
    ExportBadFrameError,
    ExportBadMagicError,
    ExportNotLinkedError,
    NonCanonicalError,
    ProtocolError,
    TransferTooLargeError,
    WrongChainError,
)
from unchained.node.consensus.params import LOCAL, REG
from unchained.node.primitives.codec import encode
from unchained.storage.memory import MemoryStore

HEAD = MAGIC + struct.pack(">I", REG.chain_id)


def grown(forge: Forge) -> Forged:
    """Return a chain with fresh, late and stray coins, a lost anchor and transfers."""
    first = forge.anchor(forge.genesis, [forge.coin(forge.genesis) for _ in range(3)])
    lost = forge.anchor(first)
    kept = forge.anchor(first, [lost.coin])
    late = forge.coin(first)
    stray = forge.coin(lost)
    spend = forge.transfer([(first.id, 0)], [(40_000_000, 1), (50_000_000, 2)], fee=10_000_000)
    third = forge.anchor(kept, [forge.coin(kept)], [late, stray], [spend])
    return forge.grow(third, 3)


def stored(tip: Forged, forge: Forge) -> ChainCore:
    core = open_core(MemoryStore(), REG)
    for anchor in tip.chain()[1:]:
        submit_coin(core, anchor.coin, forge.now_ms)
        submit_body(core, anchor)
    assert core.tip.id == tip.id
    return core


def exported(core: ChainCore) -> bytes:
    file = io.BytesIO()
    steps = list(export_chain(core.store, REG, file))
    assert steps == [(height, core.tip.height) for height in range(1, core.tip.height + 1)]
    return file.getvalue()


def frames(content: bytes) -> list[bytes]:
    found, at = [], len(HEAD)
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def joined(records: list[bytes]) -> bytes:
    return HEAD + b"".join(struct.pack(">I", len(record)) + record for record in records)


async def imported(
    content: bytes, path: Path, forge: Forge, into: MemoryStore
) -> tuple[int, bytes]:
    """Import a file into a store; return the anchors it holds and the tip that results."""
    path.write_bytes(content)  # noqa: ASYNC240 - nothing else runs
    seen: list[ImportProgress] = []
    chain = await ChainService.open(
        into,
        REG,
        clock=TrioClock(forge.now_ms),
        writer=InlineRunner(),
        verifier=InlineRunner(),
        verifiers=2,
        backend=BACKEND,
        log=structlog.wrap_logger(
            structlog.ReturnLogger(),
            wrapper_class=structlog.make_filtering_bound_logger("critical"),
        ),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(chain.run)
        try:
            count = await import_chain(chain, path, InlineRunner(), seen.append)
            tip = chain.status.value.tip
        finally:
            nursery.cancel_scope.cancel()
    assert not seen or seen[-1].read_bytes == seen[-1].file_bytes == len(content)
    return count, tip


async def failure(content: bytes, path: Path, forge: Forge) -> ImportFailedError:
    with pytest.RaisesGroup(
        pytest.RaisesExc(ImportFailedError), flatten_subgroups=True, allow_unwrapped=True
    ) as caught:
        await imported(content, path, forge, MemoryStore())
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ImportFailedError)
    return error


async def test_a_chain_goes_through_a_file_unchanged(tmp_path: Path) -> None:
    forge = Forge()
    core = stored(grown(forge), forge)
    content = exported(core)
    store = MemoryStore()
    assert await imported(content, tmp_path / "chain", forge, store) == (
        core.tip.height,
        core.tip.id,
    )
    again = open_core(store, REG)
    assert again.ledger.state_root() == core.ledger.state_root()
    assert again.ledger.supply == core.ledger.supply
    assert exported(again) == content


async def test_an_import_is_resumed_by_running_it_again(tmp_path: Path) -> None:
    forge = Forge()
    core = stored(grown(forge), forge)
    content = exported(core)
    store = MemoryStore()
    part = joined(frames(content)[:3])
    assert (await imported(part, tmp_path / "part", forge, store))[0] == 3
    assert await imported(content, tmp_path / "chain", forge, store) == (
        core.tip.height,
        core.tip.id,
    )


async def test_a_file_without_frames_is_valid(tmp_path: Path) -> None:
    forge = Forge()
    assert await imported(HEAD, tmp_path / "chain", forge, MemoryStore()) == (0, forge.genesis.id)
    assert list(read_packages(io.BytesIO(b""), REG)) == []


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"", ExportBadMagicError),
        (MAGIC[:-1], ExportBadMagicError),
        (MAGIC[:-1] + b"\x02" + struct.pack(">I", REG.chain_id), ExportBadMagicError),
        (MAGIC, WrongChainError),
        (MAGIC + struct.pack(">I", LOCAL.chain_id), WrongChainError),
    ],
)
def test_heads_that_are_none(head: bytes, error: type[ProtocolError]) -> None:
    with pytest.raises(error):
        read_head(io.BytesIO(head), REG)


def cut_length(records: list[bytes]) -> bytes:
    return joined(records) + b"\x00\x00\x01"


def cut_record(records: list[bytes]) -> bytes:
    return joined(records)[:-1]


def too_long(records: list[bytes]) -> bytes:
    return joined(records) + struct.pack(">I", (8 << 20) + 1)


@pytest.mark.parametrize(("spoil", "height"), [(cut_length, 7), (cut_record, 6), (too_long, 7)])
async def test_bad_frames_are_named_with_their_height(
    tmp_path: Path, spoil: Callable[[list[bytes]], bytes], height: int
) -> None:
    forge = Forge()
    records = frames(exported(stored(grown(forge), forge)))
    found = await failure(spoil(records), tmp_path / "chain", forge)
    assert (found.height, type(found.error)) == (height, ExportBadFrameError)


async def test_a_record_out_of_its_place_is_not_linked(tmp_path: Path) -> None:
    forge = Forge()
    records = frames(exported(stored(grown(forge), forge)))
    found = await failure(joined([records[0], records[2]]), tmp_path / "chain", forge)
    assert (found.height, type(found.error)) == (2, ExportNotLinkedError)


async def test_what_is_before_a_bad_record_stays(tmp_path: Path) -> None:
    forge = Forge()
    records = frames(exported(stored(grown(forge), forge)))
    spoiled = [*records[:3], records[3] + b"\x00"]
    store = MemoryStore()
    with pytest.RaisesGroup(ImportFailedError, flatten_subgroups=True, allow_unwrapped=True):
        await imported(joined(spoiled), tmp_path / "chain", forge, store)
    assert open_core(store, REG).tip.height == 3


async def test_a_record_that_is_not_canonical(tmp_path: Path) -> None:
    forge = Forge()
    records = frames(exported(stored(grown(forge), forge)))
    found = await failure(joined([records[0] + b"\x00"]), tmp_path / "chain", forge)
    assert (found.height, type(found.error)) == (1, NonCanonicalError)


async def test_a_forged_mix_is_found(tmp_path: Path) -> None:
    forge = Forge()
    first = forge.anchor(forge.genesis, [forge.forged_mix(forge.genesis)])
    found = await failure(joined([record_of(first)]), tmp_path / "chain", forge)
    assert (found.height, type(found.error)) == (1, BadMixError)


async def test_a_rule_of_connecting_is_named(tmp_path: Path) -> None:
    forge = Forge()
    first = forge.anchor(forge.genesis)
    second = forge.anchor(first, body_fields={"state_root": bytes(32)})
    found = await failure(joined([record_of(first), record_of(second)]), tmp_path / "chain", forge)
    assert (found.height, type(found.error)) == (2, BadStateRootError)


async def test_a_transfer_above_the_limit_is_named(tmp_path: Path) -> None:
    forge = Forge()
    first = forge.anchor(forge.genesis, [forge.coin(forge.genesis)])
    coins = [(first.id, 0)]
    big = forge.transfer(coins, [(1, 1)] * 256, sign=False)
    notes = tuple(
        type(output)(output.value, output.lock, bytes(1_360)) for output in big.transfer.outputs
    )
    huge = of(msgspec.structs.replace(big.transfer, outputs=notes))
    assert len(huge.raw) > 256 * 1024
    second = forge.anchor(first, transfers=[], raw_transfers={huge.wid: huge.raw})
    record = Record(
        second.coin.raw, (), (), (huge.transfer,), second.body.state_root, second.body.history_root
    )
    found = await failure(joined([record_of(first), encode(record)]), tmp_path / "chain", forge)
    assert (found.height, type(found.error)) == (2, TransferTooLargeError)


def record_of(anchor: Forged) -> bytes:
    body = anchor.body
    return encode(
        (
            anchor.coin.raw,
            tuple(anchor.coins[coin_id].raw for coin_id in body.fresh),  # type: ignore[index]
            tuple(anchor.coins[coin_id].raw for coin_id in body.uncles),  # type: ignore[index]
            (),
            body.state_root,
            body.history_root,
        )
    )
