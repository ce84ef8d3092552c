"""The layout on disk, byte for byte: tests/vectors/schema.json holds what must not change."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.framework.vectors import load
from unchained.node.consensus.mints import CoinKind
from unchained.node.consensus.transfers import UnspentCoin
from unchained.node.primitives.types import CoinId, Lock
from unchained.storage import schema
from unchained.storage.errors import StoreCorruptError
from unchained.storage.kv import Batch, KeyValueStore
from unchained.storage.memory import MemoryStore
from unchained.storage.tables import Table

A, B, C = b"\xaa" * 32, b"\xbb" * 32, b"\xcc" * 32
COIN = bytes(range(198))
U64 = 2**64 - 1

ROWS: list[tuple[Table[Any], bytes, Any]] = [
    (schema.META, schema.META.key(schema.META_TIP), A),
    (schema.META, schema.META.key(schema.META_NEXT_EVENT), schema.encode_number(258)),
    (schema.ANCHOR, schema.ANCHOR.key(A), schema.AnchorRecord(COIN, b"body", 1, 17, 99)),
    (schema.HEIGHT, schema.HEIGHT.key(258), CoinId(A)),
    (schema.STATE, schema.STATE.key(1), schema.StateRecord(U64, 258, 7, b"peaks")),
    (schema.STATE_PAGE, schema.STATE_PAGE.key(1, 258), bytes(960)),
    (schema.HISTORY_PAGE, schema.HISTORY_PAGE.key(16, 2**40), bytes(2_400)),
    (
        schema.UNDO,
        schema.UNDO.key(U64),
        schema.UndoRecord(
            (schema.SpentCoin(A, 5, B, 7, 1, 3), schema.SpentCoin(C, 1, B, 300, 0, U64))
        ),
    ),
    (schema.COIN, schema.COIN.key(A), COIN),
    (schema.BOUND, schema.BOUND.key(A, B), None),
    (schema.UNSPENT, schema.UNSPENT.key(A), UnspentCoin(10**8, Lock(B), 258, True, 700)),
    (
        schema.HISTORY,
        schema.HISTORY.key(A),
        schema.CoinHistory(CoinKind.FRESH, 258, 10**8, b"", 3, 0, b"", 700),
    ),
    (
        schema.HISTORY,
        schema.HISTORY.key(B),
        schema.CoinHistory(CoinKind.OUTPUT, 258, 10**8, A, 1, 300, C, U64),
    ),
    (schema.OWNER, schema.OWNER.key(A, B), schema.OwnedCoin(10**8, 258)),
    (schema.TXID, schema.TXID.key(A), schema.TransferPlace(B, 258, 2)),
    (schema.TRANSFER, schema.TRANSFER.key(A), b"transfer"),
    (schema.MEMPOOL, schema.MEMPOOL.key(A), schema.MempoolRecord(1, 1795219200000, 3, 4)),
    (schema.EVENT, schema.EVENT.key(0), schema.AnchorConnected(258, A)),
    (schema.EVENT, schema.EVENT.key(1), schema.AnchorDisconnected(258, A)),
    (schema.EVENT, schema.EVENT.key(2), schema.CoinAccepted(A)),
    (schema.EVENT, schema.EVENT.key(3), schema.TransferEntered(A)),
    (schema.EVENT, schema.EVENT.key(4), schema.TransferLeft(A, 2)),
    (schema.ADDRESS, schema.ADDRESS.key(b"/ip4/1.2.3.4/tcp/1"), b"address"),
    (schema.BAN, schema.BAN.key(b"1.2.3.4"), b"ban"),
]


@pytest.fixture
def store() -> KeyValueStore:
    store = MemoryStore()
    batch = Batch()
    for table, key, value in ROWS:
        batch.put(key, table.encode(value))
    store.write(batch, sync=True)
    return store


def test_layout_is_as_recorded() -> None:
    golden = load("schema")
    assert golden["version"] == schema.SCHEMA_VERSION
    found = [
        {"table": table.name, "key": key.hex(), "value": table.encode(value).hex()}
        for table, key, value in ROWS
    ]
    assert found == golden["rows"]


@pytest.mark.parametrize(("table", "key", "value"), ROWS)
def test_values_come_back(table: Table[Any], key: bytes, value: object) -> None:
    table.check_key(key)
    assert table.decode(key, table.encode(value)) == value


def test_every_table_has_a_row_here_and_a_prefix_of_its_own() -> None:
    assert {table.name for table, _, _ in ROWS} == {table.name for table in schema.TABLES}
    assert len({table.prefix for table in schema.TABLES}) == len(schema.TABLES)
    for one, other in itertools.combinations(schema.TABLES, 2):
        assert one.stop <= other.start or other.stop <= one.start


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [row for row in ROWS if row[0] not in (schema.META, schema.ADDRESS, schema.BAN)],
)
def test_damaged_values_name_table_and_key(table: Table[Any], key: bytes, value: object) -> None:
    raw = table.encode(value)
    cases = [raw + b"\x00" * (1 << 21)]
    if table is not schema.TRANSFER:
        cases.append(raw + b"\x00")
        cases.append(raw[:-1] if raw else b"\x01")
    for case in cases:
        with pytest.raises(StoreCorruptError) as caught:
            table.decode(key, case)
        assert f"table {table.name}, key {key.hex()}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_minted_is_one_or_zero() -> None:
    raw = schema.UNSPENT.encode(UnspentCoin(1, Lock(A), 1, True, 1))
    with pytest.raises(StoreCorruptError, match="minted is 2"):
        schema.UNSPENT.decode(schema.UNSPENT.key(A), raw[:-9] + b"\x02" + raw[-8:])


@pytest.mark.parametrize("table", [t for t in schema.TABLES if t.key_size is not None])
def test_keys_of_another_length_are_damage(table: Table[Any]) -> None:
    with pytest.raises(StoreCorruptError, match=f"table {table.name}"):
        table.check_key(table.prefix + b"short")


def test_spent_coin_is_the_member_it_was() -> None:
    for minted in (True, False):
        coin = UnspentCoin(5, Lock(B), 7, minted, 9)
        assert schema.SpentCoin.of(A, coin).unspent() == coin


def test_rows_are_found_by_their_parts(store: KeyValueStore) -> None:
    assert schema.HEIGHT.get(store, 258) == A
    assert schema.HEIGHT.get(store, 259) is None
    assert schema.BOUND.get(store, B, A) is None
    assert schema.OWNER.get(store, A, B) == schema.OwnedCoin(10**8, 258)
    assert schema.COIN.get_many(store, [B, A]) == [None, COIN]
    assert schema.META.get(store, b"no such name") is None


def test_scans_keep_to_their_table(store: KeyValueStore) -> None:
    assert [id_ for id_, _ in schema.HISTORY.scan(store)] == [A, B]
    assert [name for name, _ in schema.BAN.scan(store)] == [b"1.2.3.4"]
    assert list(schema.BOUND.scan_keys(store, A)) == [B]
    assert list(schema.BOUND.scan_keys(store, B)) == []
    assert [id_ for id_, _ in schema.OWNER.scan(store, A)] == [B]
    assert list(schema.OWNER.scan(store, A, after=B)) == []
    assert [number for number, _ in schema.EVENT.scan(store)] == [0, 1, 2, 3, 4]
    assert [number for number, _ in schema.EVENT.scan(store, 1, 3)] == [1, 2, 3]
    assert [number for number, _ in schema.EVENT.scan(store, 3, reverse=True)] == [4, 3]


def test_numbers_are_ordered_as_numbers() -> None:
    numbers = [0, 1, 255, 256, 65535, 65536, 2**63, U64]
    keys = [schema.HEIGHT.key(number) for number in numbers]
    assert keys == sorted(keys)


def test_meta_values_have_their_size(store: KeyValueStore) -> None:
    assert schema.meta_number(store, schema.META_NEXT_EVENT) == 258
    assert schema.meta_id(store, schema.META_TIP) == A
    assert schema.meta_number(store, b"absent") is None
    assert schema.meta_id(store, b"absent") is None
    with pytest.raises(StoreCorruptError, match="table meta"):
        schema.meta_number(store, schema.META_TIP)
    with pytest.raises(StoreCorruptError, match="table meta"):
        schema.meta_id(store, schema.META_NEXT_EVENT)


@pytest.mark.parametrize("digits", ["a", "ab", "abc", "abcd", "ab" * 32])
def test_ids_are_found_by_their_first_digits(digits: str) -> None:
    store = MemoryStore()
    ids = [bytes.fromhex(text.ljust(64, "0")) for text in ("aa", "abc0", "abcd", "ac", "ff")]
    ids.append(b"\xab" * 32)
    batch = Batch()
    for id_ in ids:
        batch.put(schema.COIN.key(id_), COIN)
        batch.put(schema.TRANSFER.key(id_), b"")
    store.write(batch, sync=False)
    found = list(schema.COIN.ids(store, digits))
    assert found == sorted(id_ for id_ in ids if id_.hex().startswith(digits))
