"""Attacks on the product's consensus: the recorded figures come out again."""

from __future__ import annotations

from math import inf

import msgspec
import pytest

from tests.framework.economics.command import main, run
from tests.framework.economics.experiments import EXPERIMENTS, SIZES, TAKES
from tests.framework.economics.figures import Figure, Outcome, Sums, count_depths, depth_figures
from tests.framework.economics.plan import PLAN, SMALL, Row
from tests.framework.economics.records import (
    DOCUMENT,
    PLOT,
    comparable,
    key_of,
    load,
    plots,
    tables,
    with_tables,
)
from tests.framework.economics.scores import CHOICES
from tests.framework.economics.search import POPULATION, SPACES, Around, search
from tests.framework.economics.search import Thresholds as Sought
from tests.framework.economics.shared import Parameters, network_of, with_attacker
from tests.framework.economics.withholding import Thresholds, Withholding, score_of
from tests.framework.economics.world import Miner, World


@pytest.mark.parametrize("row", SMALL, ids=key_of)
def test_a_small_run_of_each_policy_gives_exactly_what_is_recorded(row: Row) -> None:
    seen: set[str] = set()

    class Watched(Parameters, frozen=True):
        def __getattribute__(self, name: str) -> object:
            seen.add(name)
            return object.__getattribute__(self, name)

    watched = Watched(**msgspec.structs.asdict(row.parameters))
    assert comparable(run(row._replace(parameters=watched))) == comparable(load()[key_of(row)])
    # Whether the difficulty moves is asked for every world.
    asked = seen.intersection(Parameters.__struct_fields__) - {"retarget"}
    assert asked <= TAKES[row.name], "a parameter that is refused is acted upon"


def test_no_row_has_a_parameter_that_is_refused() -> None:
    for row in (*PLAN, *SMALL):
        assert set(msgspec.to_builtins(row.parameters)) <= TAKES[row.name], row


def test_every_experiment_has_a_small_run_a_recorded_one_and_a_size() -> None:
    names = set(EXPERIMENTS)
    assert {row.name for row in SMALL} == {row.name for row in PLAN} == set(SIZES) == names


def test_the_document_and_its_plots_say_what_is_recorded() -> None:
    outcomes = load()
    assert {key_of(row) for row in (*PLAN, *SMALL)} == set(outcomes)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(text, tables(outcomes, PLAN)) == text
    for name, picture in plots(outcomes, PLAN).items():
        path = PLOT.with_name(PLOT.name.format(name))
        assert path.read_text(encoding="utf-8") == picture
        assert f"({path.name})" in text


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the figures of race"):
        with_tables("nothing", {"race": "| |"})


def test_what_a_policy_compares_are_the_trees_own_scores() -> None:
    parameters = Parameters(0, share=0.4, delay=0.05)
    world = network_of(parameters, 3, [0.3, 0.3, 0.4])
    world.miners = [Miner(world, 0), Miner(world, 1)]
    attacker = Withholding(world, 2, Thresholds(-8, 3, 4, "first", hoards=True))
    world.miners.append(attacker)
    world.delays = with_attacker(world, 0.05, 2)
    forked = 0
    for stop in range(1, 60):
        world.run(lambda stop=stop: world.coins < 8 * stop)  # type: ignore[misc]
        tree = attacker.view.tree
        scores = tree.scores()
        assert {one: score_of(tree, tree.nodes[one]) for one in scores} == scores
        forked += any(len(node.children) > 1 for node in tree.nodes.values())
    assert forked > 0
    assert attacker.shown + attacker.given_up > 0


def test_a_search_comes_to_what_pays_most() -> None:
    def pays(thresholds: Sought, seed: int) -> float:
        far = abs(float(thresholds["alone"]) + 9) + abs(float(thresholds["give_up"]) - 6)
        return 0.5 - far / 100 + 0.1 * (thresholds["lists"] == "first")

    best = list(search(SPACES["withholding"], pays, 30, 1))[-1]
    assert best.thresholds["lists"] == "first"
    assert best.paid > 0.58
    again = [list(search(SPACES["withholding"], pays, 3, 1)) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(("value", "nearest"), [(0.2, 0.25), (0.7, 0.75), (-3.0, 0.0)])
def test_a_search_draws_what_a_threshold_can_be(value: float, nearest: float) -> None:
    assert Around(0.25, 0.25, 0.0, 0.25).nearest(value) == nearest


def test_a_search_prints_the_best_of_each_generation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []

    def one(parameters: Parameters, seed: int) -> Outcome:
        tried.append(seed)
        sums = Sums()
        sums.add(0.4 + parameters.give_up / 1000)
        return Outcome("withholding", {}, [Figure("share of all grains", sums)], {})

    monkeypatch.setitem(EXPERIMENTS, "withholding", one)
    assert main(["withholding", "--share", ".4", "--search", "2", "--seed", "5"]) == 0
    assert tried == [5] * POPULATION + [6] * POPULATION
    assert capsys.readouterr().out.count("generation") == 2


def _in_a_line(count: int) -> World:
    """A world whose first miner finds all coins, and whose nodes know their neighbours alone."""
    parameters = Parameters(0, delay=0.01, verification=0.001)
    world = network_of(parameters, 3, [1.0] + [0.0] * (count - 1))
    world.miners = [Miner(world, index) for index in range(count)]
    world.delays = [
        [1_200.0 if abs(one - two) == 1 else inf for two in range(count)] for one in range(count)
    ]
    world.relays = True
    return world


def test_a_hop_is_the_delay_and_the_verification_of_each_node_on_the_way() -> None:
    world = _in_a_line(4)
    world.run(lambda: world.coins < 1)
    found = world.now
    (find,) = world.finds.values()
    assert world.miners[0].view.has(find), "what it has found itself it need not verify"
    for hops, node in enumerate(world.miners[1:], 1):
        world.run(lambda view=node.view: not view.has(find))  # type: ignore[misc]
        assert world.now == pytest.approx(found + hops * (1_200 + 120))


def test_a_node_verifies_one_coin_after_another_and_an_anchors_own_last() -> None:
    world = _in_a_line(2)
    miner, node = world.miners
    world.delays[0][1] = inf
    world.run(lambda: miner.view.tip.height < 1)
    anchor = world.finds[miner.view.tip.id]
    assert anchor.body is not None
    wanted = len(anchor.body.fresh)
    assert wanted > 2
    # Whoever is told the anchor alone asks for the rest; and it is busy with something forged.
    told, came = world.now, []
    node.verify(3)
    world.send([node], anchor, 0)
    world.send([node], anchor, 0)
    while not node.view.has(anchor):
        before = node.view.tree.root.votes
        world.run(lambda before=before: node.view.tree.root.votes == before)  # type: ignore[misc]
        came.append(world.now)
    assert came == pytest.approx([told + 120 * (3 + count) for count in range(1, wanted + 2)])
    assert node.view.tip.id == anchor.coin.id


def test_who_tells_half_of_the_nodes_has_the_others_told_a_delay_later() -> None:
    parameters = Parameters(0, delay=0.01)
    world = network_of(parameters, 3, [0.0] * 4 + [1.0])
    world.miners = [Miner(world, index) for index in range(4)]
    attacker = Withholding(world, 4, Thresholds(-1000))
    world.miners.append(attacker)
    world.delays = with_attacker(world, 0.01, 4)
    world.relays = True
    find = world.mine(attacker.view, attacker, 1 << 243)
    assert find is not None
    world.tell_half(4, find)
    times = []
    for node in (0, 2, 1, 3):
        view = world.miners[node].view
        world.run(lambda view=view: not view.has(find))  # type: ignore[misc]
        times.append(world.now)
    assert times == [1_200, 1_200, 2_400, 2_400]


def test_every_score_chooses_the_only_chain() -> None:
    world = network_of(Parameters(0), 5, [1.0])
    world.miners = [Miner(world, 0)]
    world.delays = [[0.0]]
    tree = world.miners[0].view.tree
    world.run(lambda: tree.tip.height < 3)
    assert {choice(tree) for choice in CHOICES.values()} == {tree.tip}


def test_a_race_with_leaning_luck_ends_as_one_without() -> None:
    even, leaning = (
        run(Row("race", Parameters(60, share=0.4, leans=leans))).figures[0]
        for leans in (False, True)
    )
    assert even.name == leaning.name == "undone after 16 votes"
    assert even.sums.total > 0
    assert leaning.sums.events > 10
    (low, high), (least, most) = even.interval(), leaning.interval()
    assert low <= most
    assert least <= high


def test_a_figure_of_few_heavy_weights_is_not_resolved() -> None:
    few, many, cases = Sums(), Sums(), Sums()
    for number in range(1_000):
        few.add(1e-3 if number < 3 else 0.0)
        many.add(1e-3 if number < 300 else 0.0)
    cases.add_cases(3, 1_000)
    assert Figure("undone", few, "p").text() == "not resolved: 3.0e-06 by 3 events"
    assert Figure("undone", many, "p").text().endswith("; 300 events)")
    assert Figure("undone", cases, "p").is_resolved, "Wilson's interval is for few cases, too"


def test_an_outcome_says_how_deep_its_reorganisations_were() -> None:
    depths = [1, 1, 1, 2, 3, 5, 6, 40]
    outcome = Outcome("cut", {}, [], {"reorganisations": len(depths), **count_depths(depths)})
    figures = depth_figures(outcome)
    assert [figure.sums.total for figure in figures] == [3, 1, 2, 2]
    assert {figure.sums.count for figure in figures} == {len(depths)}
    assert depth_figures(Outcome("cut", {}, [], {"reorganisations": 0, **count_depths([])})) == []
    assert depth_figures(Outcome("cut", {}, [], {"reorganisations": 3})) == []
