"""A writing process is killed at random instants: nothing that it acknowledged is lost."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unchained.node.consensus.params import LOCAL
from unchained.storage.kv import KeyValueStore
from unchained.storage.leveldb import LevelOptions
from unchained.storage.open import open_store

KILLS = 200
PATIENCE_S = 60.0
CELLS = 20
"""Keys that every batch sets to its own number: a torn batch would leave them different."""

OPTIONS = LevelOptions(write_buffer=64 << 10)
"""Small, so that tables are written and merged all the time."""

WRITER = """
import os, random, sys
from pathlib import Path
from unchained.node.consensus.params import LOCAL
from unchained.storage.kv import Batch
from unchained.storage.leveldb import LevelOptions
from unchained.storage.open import open_store

os.write(1, bytes(8))
rng = random.Random(int(sys.argv[2]))
options = LevelOptions(write_buffer=64 << 10)
store = open_store(Path(sys.argv[1]), LOCAL, create=True, options=options)
number = int.from_bytes(store.get(b"c00") or b"", "big")
while True:
    number += 1
    batch = Batch()
    value = number.to_bytes(8, "big")
    for cell in range({cells}):
        batch.put(b"c%02d" % cell, value)
    batch.put(b"r" + value, rng.randbytes(rng.choice((10, 1000, 20000))))
    batch.delete(b"r" + (number - 100).to_bytes(8, "big", signed=True))
    store.write(batch, sync=True)
    os.write(1, value)
""".replace("{cells}", str(CELLS))


def last_acknowledged(child: subprocess.Popen[bytes], batches: int, after_s: float) -> int:
    """Kill the child so long after so many acknowledgements, none of them meaning while it opens
    the store; return the last number that it had written down."""
    assert child.stdout is not None
    pipe = child.stdout.fileno()
    received = os.read(pipe, 8)
    assert received == bytes(8), "the child did not start"
    while len(received) < 8 * (1 + batches):
        assert select.select([pipe], [], [], PATIENCE_S)[0], "the child writes nothing"
        more = os.read(pipe, 1 << 16)
        assert more, "the child ended by itself"
        received += more
    time.sleep(after_s)  # the instant of death, not a wait for anything
    child.kill()
    child.wait()
    while more := os.read(pipe, 1 << 16):
        received += more
    assert len(received) % 8 == 0
    return int.from_bytes(received[-8:], "big")


def assert_whole(store: KeyValueStore, acknowledged: int) -> int:
    """Check what the killed writer left; return the number of its last batch."""
    cells = store.get_many([b"c%02d" % cell for cell in range(CELLS)])
    assert len(set(cells)) == 1, "a batch was torn"
    number = int.from_bytes(cells[0] or b"", "big")
    assert number >= acknowledged, "an acknowledged batch is lost"
    rows = [int.from_bytes(key[1:], "big") for key in store.keys(b"r", b"s")]
    assert rows == list(range(max(1, number - 99), number + 1))
    return number


@pytest.mark.slow
def test_acknowledged_batches_survive_kill_9(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    acknowledged = 0
    for _ in range(KILLS):
        arguments = [sys.executable, "-c", WRITER, str(tmp_path), str(rng.getrandbits(32))]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
            batches = rng.randrange(8)
            after_s = rng.choice((0.001, 0.005, 0.02)) * rng.random()
            acknowledged = max(acknowledged, last_acknowledged(child, batches, after_s))
        store = open_store(tmp_path, LOCAL, create=True, options=OPTIONS)
        acknowledged = assert_whole(store, acknowledged)
        store.close()
    print(f"{acknowledged} batches")
    assert acknowledged > KILLS
