"""Looks for damage in a store, without the chain's rules: records, keys, cross references.

The pages of the two ranges are made anew from the coins' histories and the anchors, and compared
(Protocol §4). What only the rules can decide, such as whether an anchor was valid, is not
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.params import Network
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.crypto.history_range import EMPTY_HISTORY
from unchained.node.primitives.body import Body
from unchained.node.primitives.coin import COIN_SIZE, Coin
from unchained.node.primitives.errors import NonCanonicalError
from unchained.node.primitives.transfer import SizedTransfer, output_id, wid_of
from unchained.node.primitives.types import Lock
from unchained.storage import schema
from unchained.storage.errors import StoreCorruptError
from unchained.storage.kv import Reader
from unchained.storage.leaves import anchor_nodes, coin_leaves
from unchained.storage.pages import FinishedPages, history_pages, state_pages
from unchained.storage.progress import Report, counted, silent
from unchained.storage.rebuild import lock_of
from unchained.storage.schema import CoinHistory, OwnedCoin, TransferPlace
from unchained.storage.tables import NumberTable, PageTable, Table

MAX_PROBLEMS: Final = 100
"""Problems that a report names; it counts them all."""


class CheckReport(msgspec.Struct, frozen=True):
    """What a check found: entries by table, and problems, one line each. `unreadable` if the
    files themselves are damaged: then only what could be read was looked at."""

    entries: dict[str, int]
    problems: tuple[str, ...]
    problem_count: int
    unreadable: bool

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem_count == 0


def check(reader: Reader, network: Network, report: Report = silent) -> CheckReport:
    """Look at everything in a network's store or a snapshot of one that nobody writes to.

    Raises a `StoreError` for failures other than damage.
    """
    work = _Check(reader, network)
    for stage, steps in (
        ("records", work.records()),
        ("main chain", work.main_chain()),
        ("coins", work.coins()),
        ("state pages", work.state_pages()),
        ("history pages", work.history_pages()),
        ("bound coins", work.bound()),
        ("mempool", work.mempool()),
        ("events", work.events()),
    ):
        try:
            for _ in counted(steps, stage, report):
                pass
        except StoreCorruptError as error:
            work.unreadable = error.path is not None
            work.problem(f"{stage}: {error}")
        if work.unreadable or work.damaged_records:
            break  # what refers to damaged records would only repeat it
    return CheckReport(work.entries, tuple(work.problems), work.count, work.unreadable)


class _Check:
    def __init__(self, reader: Reader, network: Network) -> None:
        self._reader = reader
        self._network = network
        self.entries = {table.name: 0 for table in schema.TABLES}
        self.problems: list[str] = []
        self.count = 0
        self.unreadable = False
        self.damaged_records = 0
        self._tip_height = -1

    def problem(self, text: str) -> None:
        """Note a problem."""
        self.count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)

    def records(self) -> Iterator[None]:
        """Look whether each key and value by itself is well-formed."""
        tables: dict[bytes, Table[Any]] = {table.prefix: table for table in schema.TABLES}
        for key, raw in self._reader.items():
            table = tables.get(key[:1])
            if table is None:
                self.problem(f"key {key.hex()} belongs to no table")
                continue
            self.entries[table.name] += 1
            try:
                table.check_key(key)
                value = table.decode(key, raw)
            except StoreCorruptError as error:
                self.damaged_records += 1
                self.problem(str(error))
                continue
            if table is schema.COIN and Coin.from_bytes(value).id != key[1:]:
                self.problem(f"coin {key[1:].hex()} has the bytes of another coin")
            elif table is schema.TRANSFER and wid_of(value) != key[1:]:
                self.problem(f"transfer {key[1:].hex()} has the bytes of another transfer")
            yield

    def main_chain(self) -> Iterator[None]:
        """Look whether each anchor from genesis to the tip has all that it lists."""
        parent, is_bound = None, False
        for height, anchor_id in schema.HEIGHT.scan(self._reader):
            if height != self._tip_height + 1:
                self.problem(f"heights {self._tip_height + 1} to {height - 1} have no anchor")
                parent = None
            self._tip_height = height
            record = schema.ANCHOR.get(self._reader, anchor_id)
            if record is None:
                self.problem(f"anchor {anchor_id.hex()} at height {height} has no record")
            else:
                coin = Coin.from_bytes(record.coin)
                if coin.id != anchor_id or coin.height != height:
                    self.problem(f"anchor {anchor_id.hex()} at height {height} is another coin")
                elif parent is not None and coin.parent != parent:
                    self.problem(f"anchor {height} is not a child of the one before")
                if schema.COIN.get(self._reader, anchor_id) is None:
                    self.problem(f"the coin of anchor {height} is missing")
                self._body(height, anchor_id, record.body)
            if parent is not None:
                # From the tree's root on to the tip each is bound: by that the tree is filled.
                was_bound = is_bound
                is_bound = self._reader.get(schema.BOUND.key(parent, anchor_id)) is not None
                if was_bound and not is_bound:
                    self.problem(f"anchor {height} is not bound to the one before")
            parent = anchor_id
            yield
        tip_id = schema.meta_id(self._reader, schema.META_TIP)
        if tip_id != parent:
            self.problem(
                f"the tip is {tip_id.hex() if tip_id else 'missing'}, "
                f"expected {parent.hex() if parent else 'none'}"
            )
        for table in (schema.UNDO, schema.STATE):
            yield from self._kept(table)

    def _kept(self, table: NumberTable[Any]) -> Iterator[None]:
        """Look whether what is kept of the last heights has no gap and ends at the tip."""
        following = None
        for height, _record in table.scan(self._reader):
            if following is not None and height != following:
                self.problem(f"table {table.name} lacks heights {following} to {height - 1}")
            following = height + 1
            yield
        end = self._tip_height + 1
        if end > 1 and following != end:
            last = "none" if following is None else following - 1
            self.problem(f"table {table.name} ends at height {last}, expected {end - 1}")

    def coins(self) -> Iterator[None]:
        """Look whether coin set, history and owner index agree with each other and the tip."""
        positions = 0
        unspent = _Cursor(self._reader)
        owners = 0
        supply = 0
        for coin_id, history in schema.HISTORY.scan(self._reader):
            for stranger in unspent.before(coin_id):
                self.problem(f"coin {stranger.hex()} is in the coin set without a history")
            found = unspent.take(coin_id)
            lock = lock_of(self._reader, coin_id, history)
            self._coin(coin_id, history, found, lock)
            if found is not None:
                supply += found.value
            owners += 1
            positions += 1
            yield
        for stranger in unspent.before(None):
            self.problem(f"coin {stranger.hex()} is in the coin set without a history")
        if owners != self.entries["owner"]:
            self.problem(f"the owner index has {self.entries['owner']} rows, expected {owners}")
        self._state(positions, supply)

    def state_pages(self) -> Iterator[None]:
        """Look whether positions and pages of the state's range are what the coins make them."""
        if self._tip_height < 0:
            return
        pages = state_pages()
        for coin in coin_leaves(self._reader):
            if coin.position != pages.count:
                self.problem(
                    f"coin {coin.coin_id.hex()} has position {coin.position}, "
                    f"expected {pages.count}"
                )
            pages.add(coin.leaf)
            self._compare(schema.STATE_PAGE, pages.finished())
            yield
        self._compare(schema.STATE_PAGE, pages.rest())
        yield from self._strange(schema.STATE_PAGE, pages)

    def history_pages(self) -> Iterator[None]:
        """Look whether the pages of the history's range are what the anchors make them."""
        if self._tip_height < 0:
            return
        pages = history_pages()
        history = EMPTY_HISTORY
        for leaf in anchor_nodes(self._reader, self._network):
            pages.add(leaf)
            history = history.append(leaf)
            self._compare(schema.HISTORY_PAGE, pages.finished())
            yield
        self._compare(schema.HISTORY_PAGE, pages.rest())
        yield from self._strange(schema.HISTORY_PAGE, pages)
        record = schema.STATE.get(self._reader, self._tip_height)
        if record is not None and record.history != history.to_bytes():
            self.problem("the history at the tip is not that of its anchors")

    def _compare(self, table: PageTable, made: Iterator[tuple[int, int, bytes]]) -> None:
        for level, index, page in made:
            if table.get(self._reader, level, index) != page:
                self.problem(f"{table.name} {index} of level {level} is missing or wrong")

    def _strange(self, table: PageTable, pages: FinishedPages) -> Iterator[None]:
        for key in pages.strangers(self._reader, table):
            self.problem(f"{table.name} {key.hex()} belongs to no leaf")
            yield

    def bound(self) -> Iterator[None]:
        """Look whether each vote is a known coin and for the anchor that it names."""
        for key in self._reader.keys(schema.BOUND.start, schema.BOUND.stop):
            parent, coin_id = key[1:33], key[33:]
            raw = schema.COIN.get(self._reader, coin_id)
            if raw is None or len(raw) != COIN_SIZE:
                self.problem(f"bound coin {coin_id.hex()} is missing")
            elif Coin.from_bytes(raw).parent != parent:
                self.problem(f"coin {coin_id.hex()} is not bound to {parent.hex()}")
            yield

    def mempool(self) -> Iterator[None]:
        """Look whether each waiting transfer is there."""
        for wid, _record in schema.MEMPOOL.scan(self._reader):
            if self._reader.get(schema.TRANSFER.key(wid)) is None:
                self.problem(f"waiting transfer {wid.hex()} is missing")
            yield

    def events(self) -> Iterator[None]:
        """Look whether the event log has no gap and ends where the meta table says."""
        following = None
        for number, _event in schema.EVENT.scan(self._reader):
            if following is not None and number != following:
                self.problem(f"events {following} to {number - 1} are missing")
            following = number + 1
            yield
        said = schema.meta_number(self._reader, schema.META_NEXT_EVENT)
        if following is not None and said != following:
            self.problem(f"the next event is said to be {said}, expected {following}")

    def _body(self, height: int, anchor_id: bytes, raw: bytes) -> None:
        try:
            body = Body.from_bytes(raw)
        except NonCanonicalError as error:
            self.problem(f"the body of anchor {height} is missing or damaged: {error}")
            return
        if height == 0:
            return
        self._listed(height, anchor_id, 0, (CoinKind.ANCHOR,))
        for index, coin_id in enumerate(body.fresh):
            self._listed(height, coin_id, index, (CoinKind.FRESH,))
        for index, coin_id in enumerate(body.uncles):
            self._listed(height, coin_id, index, (CoinKind.LATE, CoinKind.STRAY))
        for index, wid in enumerate(body.transfers):
            self._transfer(height, wid, index)

    def _listed(self, height: int, coin_id: bytes, index: int, kinds: tuple[CoinKind, ...]) -> None:
        history = schema.HISTORY.get(self._reader, coin_id)
        if history is None:
            self.problem(f"coin {coin_id.hex()} of anchor {height} has no history")
        elif (history.height, history.index) != (height, index) or history.kind not in kinds:
            self.problem(f"coin {coin_id.hex()} of anchor {height} has another history: {history}")

    def _transfer(self, height: int, wid: bytes, index: int) -> None:
        raw = schema.TRANSFER.get(self._reader, wid)
        if raw is None:
            self.problem(f"transfer {wid.hex()} of anchor {height} is missing")
            return
        try:
            sized = SizedTransfer.from_bytes(raw)
        except NonCanonicalError as error:
            self.problem(f"transfer {wid.hex()} of anchor {height} is damaged: {error}")
            return
        expected = TransferPlace(wid, height, index)
        place = schema.TXID.get(self._reader, sized.txid)
        if place != expected:
            self.problem(f"transfer {sized.txid.hex()} is placed {place}, expected {expected}")
        for entry in sized.transfer.inputs:
            history = schema.HISTORY.get(self._reader, entry.coin_id)
            if history is None or (history.spent_height, history.spent_by) != (height, sized.txid):
                self.problem(
                    f"coin {entry.coin_id.hex()}, spent by anchor {height}, says otherwise"
                )
        for at, output in enumerate(sized.transfer.outputs):
            coin_id = output_id(sized.txid, at)
            history = schema.HISTORY.get(self._reader, coin_id)
            made = (CoinKind.OUTPUT, height, output.value, sized.txid, at)
            if history is None or made != (
                history.kind,
                history.height,
                history.value,
                history.txid,
                history.index,
            ):
                self.problem(f"output {coin_id.hex()} of anchor {height} has another history")

    def _coin(
        self,
        coin_id: bytes,
        history: CoinHistory,
        found: UnspentCoin | None,
        lock: bytes | None,
    ) -> None:
        name = coin_id.hex()
        if lock is None:
            self.problem(f"what made coin {name} is missing")
            return
        minted = history.kind is not CoinKind.OUTPUT
        if history.spent_by:
            if found is not None:
                self.problem(f"spent coin {name} is in the coin set")
        elif found is None:
            self.problem(f"unspent coin {name} is not in the coin set")
        elif found != UnspentCoin(
            history.value, Lock(lock), history.height, minted, history.position
        ):
            self.problem(f"coin {name} in the coin set differs from its history: {found}")
        owned = schema.OWNER.get(self._reader, lock, coin_id)
        if owned != OwnedCoin(history.value, history.height):
            self.problem(f"the owner index has {owned} for coin {name}")

    def _state(self, positions: int, supply: int) -> None:
        if self._tip_height < 0:
            return
        record = schema.STATE.get(self._reader, self._tip_height)
        if record is None:
            self.problem(f"the state at the tip, height {self._tip_height}, is missing")
            return
        if record.supply != supply:
            self.problem(f"the coin set holds {supply} grains, expected {record.supply}")
        if record.positions != positions:
            self.problem(f"there are {positions} positions, expected {record.positions}")


class _Cursor:
    """Walks the coin set beside another table in the same order."""

    def __init__(self, reader: Reader) -> None:
        self._rows = schema.UNSPENT.scan(reader)
        self._next = next(self._rows, None)

    def before(self, coin_id: bytes | None) -> Iterator[bytes]:
        """Pass over members below an id, or all that are left."""
        while self._next is not None and (coin_id is None or self._next[0] < coin_id):
            yield self._next[0]
            self._next = next(self._rows, None)

    def take(self, coin_id: bytes) -> UnspentCoin | None:
        """Return the member of that id and pass on, or None."""
        if self._next is None or self._next[0] != coin_id:
            return None
        found = self._next[1]
        self._next = next(self._rows, None)
        return found
