"""Chain files of an implementation that shares no code with this one (Protocol §12): the valid ones
end where their maker ended, and each mutant is refused by the rule and at the height that he names.
"""

from __future__ import annotations

import json
import lzma
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
import trio

from tests.framework.chains import open_core
from tests.framework.forge import BACKEND
from tests.framework.vectors import VECTORS
from unchained.node.base.clock import TrioClock
from unchained.node.base.runner import InlineRunner
from unchained.node.chain.export import ImportFailedError
from unchained.node.chain.importer import import_chain
from unchained.node.chain.service import ChainService
from unchained.node.chain.template import build_template
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import NETWORKS
from unchained.node.primitives.body import Body
from unchained.node.primitives.errors import ProtocolError
from unchained.storage import schema
from unchained.storage.check import check
from unchained.storage.kv import KeyValueStore
from unchained.storage.memory import MemoryStore

DAY_MS: Final = 86_400_000


def read_files() -> dict[str, bytes]:
    """Return the files of tests/vectors/exports.tar.xz by name."""
    with lzma.open(VECTORS / "exports.tar.xz") as packed, tarfile.open(fileobj=packed) as tar:
        members = [member for member in tar if member.isfile()]
        return {
            member.name.removeprefix("./"): content.read()
            for member in members
            if (content := tar.extractfile(member)) is not None
        }


FILES: Final = read_files()
VALID: Final = json.loads(FILES["exports/list.json"])["exports"]
MUTANTS: Final = json.loads(FILES["mutants/list.json"])["mutants"]


async def take_in(content: bytes, path: Path, network: str, store: KeyValueStore) -> ChainService:
    """Import a file into a store; return the chain, which does not run any more."""
    await trio.Path(path).write_bytes(content)
    rules = NETWORKS[network]
    chain = await ChainService.open(
        store,
        rules,
        clock=TrioClock(rules.birth_ms + DAY_MS),
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
        await import_chain(chain, path, InlineRunner(), lambda _: None)
        nursery.cancel_scope.cancel()
    return chain


@pytest.mark.parametrize("case", VALID, ids=lambda case: case["file"])
async def test_a_valid_chain_ends_where_its_maker_ended(case: Any, tmp_path: Path) -> None:
    store = MemoryStore()
    content = FILES[f"exports/{case['file']}"]
    chain = await take_in(content, tmp_path / "chain", case["network"], store)
    status = chain.status.value
    assert (status.tip.hex(), status.height) == (case["tip"], case["height"])
    assert (status.supply, status.pool) == (case["supply"], case["pool"])
    assert status.n_total == case["n_total_next"]
    assert f"{status.target:064x}" == case["target_next"]
    kinds = [history.kind for _, history in schema.HISTORY.scan(store)]
    for kind in (CoinKind.ANCHOR, CoinKind.FRESH, CoinKind.LATE, CoinKind.STRAY):
        assert kinds.count(kind) == case[kind.name.lower()]
    assert len(list(schema.UNSPENT.scan(store))) == case["coins"]
    assert len(list(schema.TXID.scan(store))) == case["transfers"]
    # what the next anchor commits to
    body = body_after(store, case["network"])
    assert body.state_root.hex() == case["state_root"]
    assert body.history_root.hex() == case["history_root"]
    assert check(store, NETWORKS[case["network"]]).problems == ()


def body_after(store: KeyValueStore, network: str) -> Body:
    """Return the body of the next anchor on a stored chain, opened anew."""
    core = open_core(store, NETWORKS[network])
    return build_template(core, core.tip.context.time).body


@pytest.mark.parametrize("case", MUTANTS, ids=lambda case: case["file"])
async def test_each_mutant_is_refused_by_the_rule_that_its_maker_names(
    case: Any, tmp_path: Path
) -> None:
    content = FILES[f"mutants/{case['file']}"]
    try:
        await take_in(content, tmp_path / "chain", case["network"], MemoryStore())
    except* ImportFailedError as failed:
        (error,) = flat(failed)
        assert isinstance(error, ImportFailedError)
        found = error.error.name, error.height
    except* ProtocolError as failed:
        (error,) = flat(failed)
        assert isinstance(error, ProtocolError)
        found = error.name, 1
    else:
        found = "accepted", 0
    assert found == (case["rule"], case["height"])


def flat(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """Return the exceptions in a group of groups."""
    return [
        error
        for one in group.exceptions
        for error in (flat(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]
