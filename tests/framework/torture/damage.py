"""Files of a node damaged at random: noticed, kept, and mended by what is left and by peers.

Every round begins with the same sound data directory. Of a damaged store three outcomes are good:
the node or `db check` says so in one line and `db check --repair` brings it back; LevelDB itself
drops what was cut off and peers bring it again; or the damage hit nothing. In each of them the
store has to stand in the end where the healthy peer's does, by height, tip and state root.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.framework.network import until
from tests.framework.torture.report import PartReport, Shown, sockets_in
from tests.framework.torture.world import (
    PATIENCE_S,
    WALLETS,
    Standing,
    World,
    damage_in,
    one_line,
    world,
)
from unchained.node.cli import main
from unchained.storage.errors import StoreCorruptError, StoreError
from unchained.storage.leveldb import LevelStore

ANCHORS = 30
"""Anchors of the chain that is damaged."""
MORE = 6
"""Anchors after the last compaction: what stands in the log."""


def truncate(path: Path, rng: random.Random) -> None:
    """Cut a file off somewhere."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(rng.choice((0, rng.randrange(size or 1))))


def flip(path: Path, rng: random.Random) -> None:
    """Flip one to eight bits."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def blank(path: Path, rng: random.Random) -> None:
    """Fill up to a page of the disk with zeros, as a file system does that lost it."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content) or 1)
    content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    path.write_bytes(content)


def delete(path: Path, _rng: random.Random) -> None:
    """Delete a file."""
    path.unlink()


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "truncate": truncate,
    "flip": flip,
    "blank": blank,
    "delete": delete,
}
STORE_FILES = {"table": "*.ldb", "log": "*.log", "manifest": "MANIFEST-*", "current": "CURRENT"}
WALLET_FILES = {"db": "*.db", "wal": "*.db-wal", "keys": "*.wallet"}

STORE_CASES = [f"{way} {kind}" for kind in STORE_FILES for way in WAYS] + ["delete all tables"]
WALLET_CASES = [f"{way} {kind}" for kind in WALLET_FILES for way in WAYS]


class DamagePart:
    """Rounds of damage to copies of one data directory."""

    def __init__(self, it: World, report: PartReport, *, in_process: bool = False) -> None:
        """`in_process`: commands are run in this process, which takes less time."""
        self._world = it
        self._in_process = in_process
        self._report = report
        self._rng = random.Random(report.seed)
        self._sound = it.net.home.path / "sound"
        self._expected: Standing
        self._balances: dict[str, Any] = {}

    def prepare(self, anchors: int = ANCHORS) -> None:
        """Make the sound data directory: tables as well as a log, wallets, payments."""
        it = self._world
        if not it.addresses:
            it.begin(anchors)
        it.settle()
        for _ in range(3):
            it.pay()
        it.mine(it.well, 2)
        self._stopped()
        store = LevelStore(it.victim.data_dir / "chain")
        store.compact()
        store.close()
        it.victim.start()
        it.unlock()
        it.mine(it.victim, MORE)
        it.pay()
        it.net.agree(within_s=PATIENCE_S)
        it.mine(it.well, 1)
        it.net.agree(within_s=PATIENCE_S)
        it.settle()
        self._balances = it.balances()
        # A node that is killed leaves a log and the wallets' own.
        it.victim.kill()
        shutil.copytree(it.victim.data_dir, self._sound, ignore=sockets_in)
        self._stopped(it.victim, start=True)
        self._expected = Standing(it.victim.data_dir)

    def _stopped(self, *_: object, start: bool = False) -> None:
        if start:
            self._world.victim.start()
        wrong = self._world.stop(self._world.victim)
        assert wrong is None, wrong

    def run(self, cases: list[str], shown: Shown) -> None:
        """Damage the store, or a wallet, in each of these ways."""
        for number, case in enumerate(cases, 1):
            seed = self._rng.randrange(2**32)
            name = f"{number}: {case} (seed {seed})"
            shown.show(number, case)
            self._report.counts["rounds"] += 1
            data_dir = self._world.victim.data_dir
            shutil.rmtree(data_dir)
            shutil.copytree(self._sound, data_dir)
            try:
                if case in WALLET_CASES:
                    self._wallet_round(name, case, random.Random(seed))
                else:
                    self._store_round(name, case, random.Random(seed))
            except AssertionError as error:
                self._report.fail(name, error, self._report.keep(self._world.victim.data_dir))
            finally:
                self._world.victim.process.end()

    # The store

    def _store_round(self, name: str, case: str, rng: random.Random) -> None:
        data_dir = self._world.victim.data_dir
        if case == "delete all tables":
            chosen = sorted((data_dir / "chain").glob("*.ldb"))
            for path in chosen:
                path.unlink()
        else:
            way, kind = case.split(" ", 1)
            path = rng.choice(sorted((data_dir / "chain").glob(STORE_FILES[kind])))
            WAYS[way](path, rng)
        noticed = self._notice(data_dir)
        self._report.counts[noticed] += 1
        if noticed != "not noticed":
            self._mend(noticed)
        if not self._stands():
            # What was cut off the end of the log is asked of peers by whoever starts the node.
            self._report.counts["caught up by sync"] += 1
            self._world.victim.start()
            self._follow()
            self._stopped()
        assert self._stands(), f"{Standing(data_dir)}, expected {self._expected}"
        found = damage_in(data_dir)
        assert found is None, found

    def _notice(self, data_dir: Path) -> str:
        """Return how damage is noticed: when the store is opened, by a check, or not."""
        try:
            found = damage_in(data_dir)
        except StoreError as error:
            said = error
        else:
            return "not noticed" if found is None else "noticed by a check"
        assert isinstance(said, StoreCorruptError), f"{type(said).__name__}: {said}"
        assert one_line(str(said)) is None, str(said)
        assert "--repair" in str(said), str(said)
        return "noticed at opening"

    def _mend(self, noticed: str) -> None:
        it = self._world
        victim = it.victim
        before = set(victim.data_dir.iterdir())
        code, told, said = self._repair(
            "db", "check", "--repair", "--json", "--network", "reg",
            "--data-dir", str(victim.data_dir), "--bootstrap", it.well.address,
        )  # fmt: skip
        assert code == 0, told + said
        assert "Traceback" not in said, said
        facts = json.loads(told)
        assert facts["sound"], facts["problems"]
        if "rebuilt" in facts:
            self._report.counts["mended in place"] += 1
        else:
            assert facts["kept"], "the damaged store is not kept"
            self._report.counts["made anew"] += 1
            self._report.counts["anchors from what was left"] += facts["anchors"]
            fetched = facts["height"] - facts["anchors"]
            self._report.counts["anchors from peers"] += max(0, fetched)
            assert not facts["lost"], facts["lost"]
        if noticed == "noticed at opening":
            kept = Path(facts["kept"] or "")
            assert kept.name.startswith("chain.damaged-"), "the damaged files are not kept"
            assert any(kept.iterdir()), "the damaged files are not kept"
        left = {path.name for path in set(victim.data_dir.iterdir()) - before}
        assert all(name.startswith("chain.damaged-") for name in left), left

    def _repair(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code and what it printed."""
        if not self._in_process:
            done = self._world.net.home.run(*arguments, timeout_s=PATIENCE_S)
            return done.returncode, done.stdout, done.stderr
        told, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
            code = main.run(arguments)
        return code, told.getvalue(), said.getvalue()

    def _stands(self) -> bool:
        return Standing(self._world.victim.data_dir) == self._expected

    def _follow(self) -> None:
        well, victim = self._world.well, self._world.victim
        until(lambda: victim.tip() == well.tip(), "at the peer's tip", within_s=PATIENCE_S)

    # The wallets

    def _wallet_round(self, name: str, case: str, rng: random.Random) -> None:
        """Whatever happens to a wallet's file, no sum is wrong without a word."""
        it = self._world
        way, kind = case.split(" ", 1)
        wallet = rng.choice(WALLETS)
        files = sorted((it.victim.data_dir / "wallets").glob(WALLET_FILES[kind]))
        path = next(path for path in files if path.name.startswith(wallet))
        WAYS[way](path, rng)
        it.victim.start()
        self._follow()
        entries = {entry["wallet"]: entry for entry in it.victim.call("wallet.list")}
        if kind == "keys" and way == "delete":
            assert wallet not in entries, "a wallet without keys"
            self._report.counts["gone, and not listed"] += 1
        for other in WALLETS:
            self._look_at(other, is_damaged=other == wallet)
        self._stopped()

    def _look_at(self, wallet: str, *, is_damaged: bool) -> None:
        """Ask a wallet for its sum: refused in one line where it may be, or right."""
        victim = self._world.victim

        def read() -> tuple[str, Any] | None:
            try:
                balance = victim.call("wallet.balance", wallet=wallet)
                progress = victim.call("wallet.info", wallet=wallet)["progress"]
            except Exception as error:  # noqa: BLE001 - what it is decides the round
                return "refused", str(error)
            if not progress or not progress["caught_up"]:
                return None
            return "told", balance

        kind, found = until(read, f"{wallet}", within_s=PATIENCE_S)
        if kind == "refused":
            assert is_damaged, f"{wallet}, which is sound: {found}"
            assert one_line(found) is None, found
            self._report.counts["refused in one line"] += 1
            return
        expected, total = self._balances[wallet]["total"], found["total"]
        assert Decimal(total) == Decimal(expected), f"{wallet} has {total}, expected {expected}"
        if is_damaged:
            self._report.counts["told the right sum"] += 1


def run_damage(report: PartReport, rounds: int, cases: list[str] | None = None) -> None:
    """Damage stores and wallets `rounds` times, each case in turn."""
    every = cases or STORE_CASES + WALLET_CASES
    chosen = [every[at % len(every)] for at in range(rounds)]
    with world(report.seed) as it:
        part = DamagePart(it, report)
        part.prepare()
        part.run(chosen, Shown(report.part, len(chosen)))
