"""The parts of the simulator that can be looked at alone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import trio
from dilithium_py.ml_dsa import ML_DSA_65

from tests.framework.async_tests import run_virtual
from tests.framework.simulation import command, fast_ml_dsa
from tests.framework.simulation.command import kind_of
from tests.framework.simulation.event_log import EventLog, LoggedEvent
from tests.framework.simulation.faults import FAULT_KINDS, plain_record
from tests.framework.simulation.faulty_disk import (
    COMPACTION_BYTES,
    COMPACTION_WRITES,
    FaultyDisk,
    FaultyStore,
    full,
)
from tests.framework.simulation.hostile_node import HOSTILE_KINDS
from tests.framework.simulation.outcome import Outcome
from tests.framework.simulation.recording import RecordingError, load, record, save
from tests.framework.simulation.scenario import EVERYTHING, SCENARIOS, Scenario
from tests.framework.simulation.schedule import Fault, Schedule, draw_schedule
from tests.framework.simulation.shrink import shrink
from tests.framework.simulation.sightings import FAULTS, Sightings
from tests.framework.simulation.simulation import Simulation, simulate_schedule
from tests.framework.simulation.skewed_clock import SkewedClock
from tests.framework.simulation.small_queues import LIMITS, SmallQueues
from tests.framework.simulation.virtual_clock import STALE_MAX, Nap, virtual_clock
from unchained.node.transport.address_groups import network_group
from unchained.storage.errors import StoreCorruptError, StoreError, StoreFullError
from unchained.storage.kv import Batch


def batch(**values: bytes | None) -> Batch:
    made = Batch()
    for key, value in values.items():
        if value is None:
            made.delete(key.encode())
        else:
            made.put(key.encode(), value)
    return made


def contents(disk: FaultyDisk) -> dict[bytes, bytes]:
    return dict(FaultyStore(disk).items())


class LosesAll(random.Random):
    """Loses as much as there is."""

    def randint(self, a: int, b: int) -> int:
        return b


def test_a_power_cut_loses_the_last_of_what_was_not_synced() -> None:
    disk = FaultyDisk()
    store = FaultyStore(disk)
    store.write(batch(a=b"1", b=b"1"), sync=False)
    store.write(batch(c=b"1"), sync=True)
    store.write(batch(a=b"2", c=None, d=b"2"), sync=False)
    store.write(batch(a=b"3"), sync=False)
    assert disk.lose_power(LosesAll()) == 2
    assert contents(disk) == {b"a": b"1", b"b": b"1", b"c": b"1"}


def test_a_power_cut_may_lose_a_part_but_never_out_of_order() -> None:
    left = set()
    for seed in range(30):
        disk = FaultyDisk()
        store = FaultyStore(disk)
        for number in range(3):
            store.write(batch(**{f"k{number}": b"x"}), sync=False)
        disk.lose_power(random.Random(seed))
        left.add(tuple(contents(disk)))
    assert left == {(), (b"k0",), (b"k0", b"k1"), (b"k0", b"k1", b"k2")}


def test_the_nth_write_fails_and_all_that_follow_until_it_is_opened_anew() -> None:
    disk = FaultyDisk()
    store = FaultyStore(disk)
    disk.at_write(2, full)
    store.write(batch(a=b"1"), sync=True)
    for _ in range(2):
        with pytest.raises(StoreFullError):
            store.write(batch(b=b"1"), sync=True)
    FaultyStore(disk).write(batch(c=b"1"), sync=True)
    assert contents(disk) == {b"a": b"1", b"c": b"1"}


def test_a_process_that_dies_at_a_write_has_not_written_and_writes_no_more() -> None:
    disk = FaultyDisk()
    store = FaultyStore(disk)

    def die() -> StoreError | None:
        store.is_dead = True
        return None

    disk.at_write(1, die)
    store.write(batch(a=b"1"), sync=True)
    store.write(batch(b=b"1"), sync=True)
    assert contents(disk) == {}


def test_what_has_rotted_is_found_when_it_is_read_and_gone_when_it_is_written_anew() -> None:
    disk = FaultyDisk()
    store = FaultyStore(disk)
    store.write(batch(a=b"1", b=b"1"), sync=True)
    read_rot: list[bool] = []
    assert disk.rot(random.Random(3), lambda: read_rot.append(True), entries=1) == 1
    assert list(disk.damaged) == [b"a"]
    with store.snapshot() as view:
        for read in (store, view):
            assert read.get(b"b") == b"1"
            with pytest.raises(StoreCorruptError):
                read.get(b"a")
            with pytest.raises(StoreCorruptError):
                list(read.items())
    assert len(read_rot) == 4
    store.write(batch(a=b"2"), sync=True)
    assert contents(disk) == {b"a": b"2", b"b": b"1"}


def test_what_was_compacted_outlives_a_power_cut_once_that_is_done() -> None:
    disk = FaultyDisk()
    store = FaultyStore(disk)
    store.write(batch(a=b"x" * COMPACTION_BYTES), sync=False)
    for _ in range(COMPACTION_WRITES - 1):
        store.write(batch(b=b"1"), sync=False)
    assert len(disk.unsynced) == COMPACTION_WRITES
    store.write(batch(b=b"2"), sync=False)
    assert disk.lose_power(LosesAll()) == COMPACTION_WRITES
    assert contents(disk).keys() == {b"a"}
    assert not disk.give_up_compaction()


def test_a_compaction_that_a_crash_ends_has_saved_nothing() -> None:
    disk = FaultyDisk()
    store = FaultyStore(disk)
    store.write(batch(a=b"x" * COMPACTION_BYTES), sync=False)
    assert disk.give_up_compaction()
    assert disk.lose_power(LosesAll()) == 1
    assert contents(disk) == {}


def test_rot_hits_as_many_entries_in_a_row_as_asked() -> None:
    disk = FaultyDisk()
    FaultyStore(disk).write(batch(**{f"k{n}": b"x" for n in range(9)}), sync=True)
    found = pytest.fail
    assert disk.rot(random.Random(1), found, entries=3) == len(disk.damaged) <= 3
    assert FaultyDisk().rot(random.Random(1), found, entries=3) == 0


@pytest.mark.parametrize("number", range(4))
def test_quick_signatures_are_those_of_dilithium_py(number: int) -> None:
    rng = random.Random(number)
    seed, message, context = rng.randbytes(32), rng.randbytes(100 * number), rng.randbytes(number)
    _, private = ML_DSA_65.key_derive(seed)
    expected = ML_DSA_65.sign(private, message, ctx=context, deterministic=True)
    assert fast_ml_dsa.sign(seed, message, context) == expected


def test_virtual_time_is_at_the_next_deadline_when_no_task_can_run() -> None:
    seen: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        for _ in range(2):
            await trio.sleep(seconds)
            await trio.lowlevel.checkpoint()
            seen.append((name, trio.current_time()))

    async def main() -> None:
        with trio.move_on_at(7.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sleeper, "a", 2.0)
                nursery.start_soon(sleeper, "b", 3.0)
                await trio.sleep_forever()
        assert trio.current_time() == 7.0

    with virtual_clock() as clock:
        run_virtual(main, clock=clock)
    assert seen == [("a", 2.0), ("b", 3.0), ("a", 4.0), ("b", 6.0)]


def test_who_sleeps_in_virtual_time_can_be_cancelled_and_wakes_in_order() -> None:
    seen: list[str] = []

    async def sleeper(name: str, until_s: float) -> None:
        await trio.sleep_until(until_s)
        seen.append(name)

    async def main() -> None:
        with pytest.raises(ValueError, match="-1"):
            await trio.sleep(-1)
        await trio.sleep_until(-5.0)
        assert trio.current_time() == 0.0
        for _ in range(3 * STALE_MAX):
            with trio.move_on_after(0.001) as scope:
                await trio.sleep(1000)
            assert scope.cancelled_caught
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper, "later", begun + 3)
            nursery.start_soon(sleeper, "sooner", begun + 2)
            with trio.move_on_at(begun + 2.5):
                await trio.sleep_forever()
            assert seen == ["sooner"]
        assert trio.current_time() == begun + 3
        with trio.move_on_after(1):
            await trio.sleep(math.inf)

    before = trio.sleep
    with virtual_clock() as clock:
        run_virtual(main, clock=clock)
    assert seen == ["sooner", "later"]
    assert trio.sleep is before


@pytest.mark.parametrize("is_virtual", [True, False])
def test_a_nap_ends_at_its_time_or_before(is_virtual: bool) -> None:
    seen: list[float] = []

    async def main() -> None:
        nap = Nap()

        async def sleeper() -> None:
            for deadline in (2.0, 9.0, math.inf, 20.0):
                await nap.until(deadline)
                seen.append(trio.current_time())

        nap.end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
            for seconds in (5, 1):
                await trio.sleep(seconds)
                nap.end()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

    if is_virtual:
        with virtual_clock() as clock:
            run_virtual(main, clock=clock)
    else:
        run_virtual(main)
    assert seen == [2.0, 5.0, 6.0]


async def test_a_clock_can_be_set_and_can_drift_and_be_corrected() -> None:
    clock = SkewedClock(1_000)
    await trio.sleep(10)
    assert clock.now_ms() == 11_000
    clock.step(-500)
    assert clock.now_ms() == 10_500
    clock.drift(1.1)
    await trio.sleep(10)
    assert clock.now_ms() == 21_500
    clock.drift(0.9)
    await trio.sleep(10)
    assert clock.now_ms() == 30_500
    clock.correct()
    assert clock.now_ms() == 31_000


async def test_queues_are_as_small_as_the_least_that_is_asked_and_then_as_they_were() -> None:
    def found() -> list[int]:
        return [getattr(limit.module, limit.name) for limit in LIMITS]

    usual = found()
    queues = SmallQueues()
    await trio.sleep(5)
    with queues.of(8):
        assert queues
        with queues.of(1):
            assert found() == [limit.size for limit in LIMITS]
        await trio.sleep(1)
        assert queues.since == 5
        assert found() == [8 * limit.size for limit in LIMITS]
    assert (bool(queues), queues.since, found()) == (False, 0.0, usual)


async def test_a_log_has_one_hash_for_one_run() -> None:
    logs = [EventLog() for _ in range(3)]
    for log in logs[:2]:
        log.note("n", "kind", id=b"\1", value=2)
    logs[2].note("n", "kind", id=b"\1", value=3)
    assert logs[0].hash() == logs[1].hash() != logs[2].hash()
    logs[0].note_hashed("line")
    assert logs[0].hash() != logs[1].hash()


@pytest.mark.parametrize("needed", [set(), {3}, {0, 19}, {4, 5, 6}, {1, 7, 13, 18}])
def test_shrinking_leaves_what_it_takes_to_fail(needed: set[int]) -> None:
    tries = 0

    def fails(items: Sequence[int]) -> bool:
        nonlocal tries
        tries += 1
        return needed <= set(items)

    assert shrink(range(20), fails, 200) == sorted(needed)
    assert tries <= 200


def test_what_is_likely_to_suffice_is_tried_before_it_is_cut_down() -> None:
    asked: list[list[int]] = []

    def fails(items: Sequence[int]) -> bool:
        asked.append(list(items))
        return 2 in items

    assert shrink(range(100), fails, 50, first=4) == [2]
    assert asked[:2] == [[], [0, 1, 2, 3]]
    assert len(asked) <= 7


def test_a_failure_is_cut_down_by_runs_that_end_soon_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = tuple(Fault(1000 * at, "crash", {"node": at}) for at in range(30))
    log = EventLog()
    log.events += [LoggedEvent(fault.at_ms, "", "fault", {}) for fault in faults[:6]]
    failed = msgspec.structs.replace(
        simulate_schedule(SCENARIOS["calm"], 1, (), until_s=1.0),
        schedule=faults,
        failure="node 1 has lost all",
        events=log.events,
        seconds=100.0,
    )
    runs: list[tuple[int, float]] = []

    def run(_scenario: object, _seed: int, schedule: Schedule, until_s: float) -> Outcome:
        runs.append((len(schedule), until_s))
        holds = faults[4] not in schedule
        return msgspec.structs.replace(
            failed, schedule=schedule, failure="" if holds else failed.failure
        )

    monkeypatch.setattr(command, "run_once", run)
    assert command.cut_down(failed).schedule == (faults[4],)
    assert [count for count, _ in runs[:2]] == [0, 6]
    assert {until_s for _, until_s in runs} == {150.0}


def test_a_simulation_that_is_cut_off_has_held_so_far() -> None:
    outcome = simulate_schedule(SCENARIOS["calm"], 1, (), until_s=7.0)
    assert (outcome.failure, outcome.seconds) == ("", 7.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("node 5: not as the model: x", "node 4: not as the model: y", True),
        ("node 4 has lost anchor 08d80967 that it", "node 1 has lost anchor ff01e2 that it", True),
        ("node 5: not as the model: x", "node 5: the event log tells another main chain", False),
        ("", "node 5: not as the model: x", False),
    ],
)
def test_failures_are_of_one_kind_but_for_names_and_numbers(
    one: str, other: str, same: bool
) -> None:
    assert (kind_of(one) == kind_of(other)) is same


def test_shrinking_stops_when_its_tries_are_used_up() -> None:
    asked: list[int] = []

    def fails(items: Sequence[int]) -> bool:
        asked.append(len(items))
        return len(items) == 100

    assert shrink(range(100), fails, 10) == list(range(100))
    assert len(asked) <= 10


def test_a_schedule_follows_from_its_seed_and_some_kinds_are_switched_off() -> None:
    scenario = SCENARIOS["storm"]
    assert draw_schedule(scenario, 1) == draw_schedule(scenario, 1) != draw_schedule(scenario, 2)
    schedules = [draw_schedule(scenario, seed) for seed in range(40)]
    kinds = [{fault.kind for fault in schedule} for schedule in schedules]
    assert set().union(*kinds) == {*EVERYTHING, *HOSTILE_KINDS}
    for kind in set().union(*kinds):
        assert any(kind not in found for found in kinds)
    for schedule in schedules:
        times = [fault.at_ms for fault in schedule]
        assert times == sorted(times)
        assert all(0 <= at <= scenario.seconds * 1000 for at in times)
        for fault in schedule:
            assert plain_record(fault.parameters) == fault.parameters


def test_every_kind_of_fault_is_counted_and_belongs_to_a_scenario() -> None:
    assert set(FAULT_KINDS) == {*EVERYTHING, *HOSTILE_KINDS}
    # What a power cut loses is counted beside the cut.
    assert set(FAULT_KINDS) | {"unsynced writes lost"} == FAULTS
    for scenario in SCENARIOS.values():
        assert set(scenario.faults) <= set(EVERYTHING)


def test_hostile_nodes_meet_faults_in_every_mix() -> None:
    met: set[tuple[str, str]] = set()
    mixes = set()
    for seed in range(60):
        for name in ("storm", "siege", "main"):
            kinds = {fault.kind for fault in draw_schedule(SCENARIOS[name], seed)}
            policies = kinds & set(HOSTILE_KINDS)
            mixes.add(frozenset(policies))
            met.update((policy, kind) for policy in policies for kind in kinds - policies)
    assert met == {(policy, kind) for policy in HOSTILE_KINDS for kind in EVERYTHING}
    assert len(mixes) > 60
    assert frozenset() in mixes


def test_a_hostile_node_is_left_out_like_any_fault_and_leaves_the_others_as_they_were(
    tmp_path: Path,
) -> None:
    scenario = msgspec.structs.replace(SCENARIOS["siege"], wallets=0)
    schedule = draw_schedule(scenario, 7)
    hostile = [fault for fault in schedule if fault.kind in HOSTILE_KINDS]
    assert len(hostile) >= 2
    names = {}
    for left in (schedule, [fault for fault in schedule if fault is not hostile[0]]):
        simulation = Simulation(scenario, 7, tuple(left), tmp_path)
        names[len(left)] = {
            kind: (node.name, node.ip, node.share, node.locks)
            for kind, node in simulation.hostile.items()
        }
    whole, rest = names[len(schedule)], names[len(schedule) - 1]
    assert whole.keys() == {fault.kind for fault in hostile}
    assert rest == {kind: node for kind, node in whole.items() if kind != hostile[0].kind}


async def test_no_two_names_of_a_policy_have_one_address(tmp_path: Path) -> None:
    scenario = SCENARIOS["siege"]
    schedule = tuple(
        Fault(0, kind, {"share_percent": 10, "ms": 1_000}) for kind in sorted(HOSTILE_KINDS)
    )
    simulation = Simulation(scenario, 7, schedule, tmp_path)
    peers = [node.new_peer() for node in simulation.hostile.values() for _ in range(600)]
    ips = {peer.transport.ip for peer in peers}
    assert len(ips) == len(peers) == 600 * len(HOSTILE_KINDS)
    assert len({network_group(ip) for ip in ips}) == len(HOSTILE_KINDS)


def test_a_policy_takes_fifty_lines_at_most() -> None:
    folder = Path(__file__).parents[2] / "framework" / "simulation" / "policies"
    for path in folder.glob("*.py"):
        if path.stem not in ("__init__", "policy"):
            assert len(path.read_text().splitlines()) <= 50, path.name


def test_sightings_name_what_never_happened() -> None:
    seen = Sightings()
    seen.note("partition", 2)
    other = Sightings([("crash", 1)])
    seen.add(other)
    assert seen.never(["crash", "partition", "power cut"]) == ["power cut"]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_recording_keeps_all_of_every_scenario(scenario: Scenario, tmp_path: Path) -> None:
    schedule = draw_schedule(scenario, 3)
    outcome = Outcome(
        scenario, 3, schedule, failure="", trace="", hash="", start_ms=0, nodes=(), seconds=0.0,
        cpu_s=0.0, height=0, sightings=Sightings(), events=(), coins={}, bodies={},
    )  # fmt: skip
    save(record(outcome), tmp_path / "kept.json")
    kept = load(tmp_path / "kept.json")
    assert (kept.scenario(), kept.schedule) == (scenario, schedule)
    save(kept, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "kept.json").read_bytes()


def test_a_recording_comes_back_as_it_was_and_runs_again(tmp_path: Path) -> None:
    scenario = SCENARIOS["calm"]
    outcome = simulate_schedule(scenario, 3, ())
    path = tmp_path / "calm.json"
    save(record(outcome), path)
    recording = load(path)
    assert recording == record(outcome)
    assert (recording.failure, recording.hash) == ("", outcome.hash)
    known = {coin.id for coin in recording.coins}
    for body in recording.bodies:
        assert {*body.fresh, *body.uncles} <= known
    connected = [event for event in recording.events if event.kind == "connected"]
    assert connected
    assert {event.data["id"] for event in connected} <= known


def test_hostile_nodes_of_the_first_version_are_in_the_schedule_of_this_one(tmp_path: Path) -> None:
    scenario = SCENARIOS["calm"]
    recording = record(simulate_schedule(scenario, 3, ()))
    raw = msgspec.json.decode(msgspec.json.encode(recording))
    raw["version"] = 1
    del raw["settings"]["hostile_chance"]
    raw["settings"].update(hostile=["selfish", "time games"], hostile_share=0.2)
    path = tmp_path / "first.json"
    path.write_bytes(msgspec.json.encode(raw))
    whole = {"share_percent": 20, "ms": int(1000 * scenario.seconds)}
    expected = (Fault(0, "selfish node", whole), Fault(0, "time games node", whole))
    assert load(path) == msgspec.structs.replace(recording, schedule=expected)
    raw["settings"]["hostile"] = ["friendly"]
    path.write_bytes(msgspec.json.encode(raw))
    with pytest.raises(RecordingError, match="policy 'friendly'"):
        load(path)


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ({"kind": "crash", "parameters": {}}, "parameters {} of a crash, expected node, steps"),
        (
            {"kind": "crash", "parameters": {"node": 9, "steps": 1, "down_ms": 1}},
            "node 9 of a crash, of 6 nodes",
        ),
        (
            {"kind": "crash", "parameters": {"node": "0", "steps": 1, "down_ms": 1}},
            "parameters .* of a crash",
        ),
        ({"kind": "partition", "parameters": {"group": [0, -1], "ms": 1}}, "node -1"),
    ],
)
def test_faults_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, fault: dict[str, object], what: str
) -> None:
    recording = record(simulate_schedule(SCENARIOS["calm"], 3, (), until_s=1.0))
    raw = msgspec.json.decode(msgspec.json.encode(recording))
    raw["schedule"] = [{"at_ms": 0, **fault}]
    path = tmp_path / "bad.json"
    path.write_bytes(msgspec.json.encode(raw))
    with pytest.raises(RecordingError, match=what) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    raw["schedule"], raw["settings"]["nodes"] = [], -1
    path.write_bytes(msgspec.json.encode(raw))
    with pytest.raises(RecordingError, match="-1 nodes, expected 1 at least"):
        load(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no recording"),
        ("{}", "no recording"),
        ('{"format": 1}', "no recording"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(RecordingError, match=what) as caught:
        load(path)
    assert "\n" not in str(caught.value)
