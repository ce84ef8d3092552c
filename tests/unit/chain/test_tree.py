"""The tree of anchors by itself (§6): sums and choice against plain recursion; what hangs where."""

from __future__ import annotations

import random
from functools import cache

import pytest

from tests.framework.forge import Forge, Forged
from unchained.node.chain.tree import (
    AnchorMark,
    AnchorNode,
    AnchorStatus,
    AnchorTree,
    Validation,
)
from unchained.node.consensus.fork_choice import work
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import REG
from unchained.node.primitives.types import CoinId

WORK = work(REG.target0)
"""What one vote adds."""


def new_tree() -> AnchorTree:
    genesis = genesis_of(REG)
    return AnchorTree(genesis.coin, Validation.of_genesis(genesis, REG))


@cache
def forge() -> Forge:
    return Forge(REG)


def add(tree: AnchorTree, anchor: Forged) -> AnchorNode:
    """Let an anchor count that its parent's node is in the tree for, its own coin a vote."""
    parent = anchor.parent
    assert parent is not None
    node = tree.add_anchor(anchor.coin)
    tree.add_vote(tree.nodes[parent.id], anchor.id)
    count(tree, anchor)
    return node


def count(tree: AnchorTree, anchor: Forged) -> None:
    assert anchor.parent is not None
    context = tree.nodes[anchor.parent.id].context
    validation = Validation.of_child(anchor.coin, anchor.body, context, REG)
    tree.count_in(tree.nodes[anchor.id], validation)


def vote(tree: AnchorTree, anchor: Forged, votes: int = 1) -> list[CoinId]:
    ids = [forge().coin(anchor).id for _ in range(votes)]
    for coin_id in ids:
        tree.add_vote(tree.nodes[anchor.id], coin_id)
    return ids


class Built:
    """A tree of some shape, with the anchors that it was built of by name."""

    def __init__(self, shape: dict[str, str]) -> None:
        """`shape` has the parent of each anchor, "" for genesis."""
        self.tree = new_tree()
        self.anchors: dict[str, Forged] = {"": forge().genesis}
        for name, parent in shape.items():
            self.anchors[name] = forge().anchor(self.anchors[parent])
            add(self.tree, self.anchors[name])

    def node(self, name: str) -> AnchorNode:
        return self.tree.nodes[self.anchors[name].id]

    def names(self, nodes: object) -> list[str]:
        by_id = {anchor.id: name for name, anchor in self.anchors.items()}
        return [by_id[node.id] for node in nodes]  # type: ignore[attr-defined]

    def vote(self, name: str, votes: int = 1) -> list[CoinId]:
        return vote(self.tree, self.anchors[name], votes)

    def connect(self, *names: str) -> None:
        for name in names:
            self.tree.set_tip(self.node(name))

    def chosen(self) -> str:
        (name,) = self.names([self.tree.choose()])
        return name


# Sums and choice


def plain_sub(node: AnchorNode) -> int:
    """sub(X): the votes for it and for all that descends from it and is not set aside."""
    counting = [child for child in node.children if child.status is AnchorStatus.COUNTS]
    above = sum(plain_sub(child) for child in counting if not child.is_set_aside)
    return (len(node.bound) + node.forgotten) * WORK + above


def plain_score(node: AnchorNode) -> int:
    return 2 * plain_sub(node) + node.validated.plain_fresh * WORK


def plain_choice(root: AnchorNode) -> AnchorNode:
    while children := [
        child
        for child in root.children
        if child.status is AnchorStatus.COUNTS and child.marks == AnchorMark.NONE
    ]:
        root = max(children, key=lambda child: (plain_score(child), -int.from_bytes(child.id)))
    return root


def plain_scores(node: AnchorNode) -> dict[CoinId, int]:
    found = {}
    for child in node.children:
        if child.status is AnchorStatus.COUNTS and not child.is_set_aside:
            found[child.id] = plain_score(child)
            found |= plain_scores(child)
    return found


class Shaker:
    """Does things to a tree at random."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tree = new_tree()
        self.anchors: list[Forged] = [forge().genesis]
        self.bodyless: list[Forged] = []

    def some(self) -> Forged:
        return self.rng.choice(self.anchors)

    def some_node(self) -> AnchorNode:
        return self.tree.nodes[self.some().id]

    def grow(self) -> None:
        parent = self.some()
        fresh = [forge().coin(parent) for _ in range(self.rng.randrange(3))]
        anchor = forge().anchor(parent, fresh)
        for coin in fresh:
            self.tree.add_vote(self.tree.nodes[parent.id], coin.id)
        if self.rng.random() < 0.3:
            self.tree.add_anchor(anchor.coin)
            self.tree.add_vote(self.tree.nodes[parent.id], anchor.id)
            self.bodyless.append(anchor)
        else:
            add(self.tree, anchor)
            self.anchors.append(anchor)

    def judge(self) -> None:
        if self.bodyless:
            anchor = self.bodyless.pop(self.rng.randrange(len(self.bodyless)))
            count(self.tree, anchor)
            self.anchors.append(anchor)

    def vote(self) -> None:
        vote(self.tree, self.some(), self.rng.randrange(1, 4))

    def unvote(self) -> None:
        node = self.some_node()
        plain = [coin_id for coin_id in node.bound if coin_id not in self.tree.nodes]
        if plain:
            self.tree.remove_vote(node, self.rng.choice(plain))

    def recall(self) -> None:
        node = self.some_node()
        if not node.forgotten:
            self.tree.recall_votes(node, node.votes + self.rng.randrange(-2, 3))

    def kill(self) -> None:
        node = self.some_node()
        if node is not self.tree.root:
            self.tree.mark_dead(node)

    def aside(self) -> None:
        node = self.some_node()
        if node is self.tree.root:
            return
        if node.is_set_aside:
            self.tree.take_back(node)
        else:
            self.tree.set_aside(node)

    def remove(self) -> None:
        node = self.some_node()
        if node.parent is None or self.rng.random() < 0.6:
            return
        parent = node.parent
        gone = {each.id for each in self.tree.remove(node)}
        self.tree.remove_vote(parent, node.id)
        self.anchors = [each for each in self.anchors if each.id not in gone]
        self.bodyless = [each for each in self.bodyless if each.id not in gone]

    def step(self) -> None:
        action = self.rng.choice(
            [
                *[self.grow] * 6,
                *[self.vote] * 6,
                self.judge,
                self.judge,
                self.unvote,
                self.recall,
                self.kill,
                self.aside,
                self.aside,
                self.remove,
            ]
        )
        action()


@pytest.mark.parametrize("seed", range(12))
def test_sums_and_choice_are_those_of_plain_recursion(seed: int) -> None:
    shaker = Shaker(seed)
    for _ in range(70):
        shaker.step()
        look = shaker.rng.randrange(3)
        if look == 0:
            assert shaker.tree.scores() == plain_scores(shaker.tree.root)
        elif look == 1:
            assert shaker.tree.choose() is plain_choice(shaker.tree.root)
    assert shaker.tree.choose() is plain_choice(shaker.tree.root)
    assert shaker.tree.scores() == plain_scores(shaker.tree.root)
    best = {node.id for node in shaker.tree.nodes.values() if node.on_best_path}
    assert best == {
        node.id
        for node in [shaker.tree.root, *shaker.tree.path(shaker.tree.root, shaker.tree.best)]
    }


def test_a_vote_counts_once_also_if_it_was_counted_before_it_was_forgotten() -> None:
    built = Built({"a": ""})
    node = built.node("a")
    (first, *_) = built.vote("a", 2)
    built.tree.add_vote(node, first)
    assert node.votes == 2
    built.tree.recall_votes(node, 1)
    assert (node.votes, node.forgotten) == (2, 0)
    built.tree.recall_votes(node, 5)
    assert (node.votes, node.forgotten) == (5, 3)
    assert built.tree.scores()[node.id] == 10 * WORK
    built.vote("a", 3)
    assert (node.votes, node.forgotten) == (5, 0), "they may be the three that were forgotten"
    built.vote("a")
    assert node.votes == 6
    assert built.tree.scores()[node.id] == 12 * WORK


def test_what_the_best_path_loses_is_noticed() -> None:
    built = Built({"a": "", "b": ""})
    votes = built.vote("a", 2)
    built.vote("b", 1)
    assert built.chosen() == "a"
    for coin_id in votes:
        built.tree.remove_vote(built.node("a"), coin_id)
    assert built.chosen() == "b"
    built.tree.mark_dead(built.node("b"))
    assert built.chosen() == "a"
    built.tree.mark_dead(built.node("a"))
    assert built.chosen() == ""


def test_votes_that_were_not_summed_up_yet_go_with_what_is_removed() -> None:
    built = Built({"a": "", "b": "a", "c": "b", "x": "a"})
    scores = built.tree.scores()
    own = [built.anchors[name].id for name in ("a", "x")]
    built.vote("c", 3)
    built.vote("x", 1)
    built.tree.remove(built.node("b"))
    found = built.tree.scores()
    # The coin of b goes on being a vote for a; that of c, a vote for b, is gone with it.
    assert found == {own[0]: scores[own[0]], own[1]: scores[own[1]] + 2 * WORK}
    assert built.chosen() == "x"


def test_a_plain_fresh_coin_counts_for_the_anchor_that_lists_it() -> None:
    tree = new_tree()
    genesis = forge().genesis
    fresh = [forge().coin(genesis) for _ in range(3)]
    lists = forge().anchor(genesis, [*fresh, forge().anchor(genesis).coin])
    rival = forge().anchor(genesis)
    add(tree, lists)
    add(tree, rival)
    assert tree.scores() == {lists.id: 3 * WORK, rival.id: 0}
    assert tree.choose().id == lists.id


def test_what_is_ruled_out_or_not_judged_is_no_contender() -> None:
    tree = new_tree()
    anchor = forge().anchor(forge().genesis)
    node = tree.add_anchor(anchor.coin)
    assert tree.choose() is tree.root
    assert not node.is_contender
    tree.invalidate(node)
    assert node.status is AnchorStatus.INVALID
    assert not node.is_contender
    assert tree.choose() is tree.root


def test_marks_are_on_disk_and_statuses_too() -> None:
    assert {mark.name: mark.value for mark in AnchorMark} == {"DEAD": 1, "SET_ASIDE": 2}
    assert AnchorMark.NONE == 0
    assert {status.name: status.value for status in AnchorStatus} == {
        "BODYLESS": 0,
        "COUNTS": 1,
        "INVALID": 2,
    }


# The main chain


def test_the_tip_goes_up_and_down() -> None:
    built = Built({"a": "", "b": "a", "c": "a"})
    tree = built.tree
    assert tree.tip is tree.root
    built.connect("a", "b")
    assert built.names([tree.tip]) == ["b"]
    assert built.names(tree.main_at(height) for height in range(3)) == ["", "a", "b"]
    assert tree.main_at(3) is None
    assert [built.node(name).on_main for name in ("", "a", "b", "c")] == [True, True, True, False]
    built.connect("a", "c")
    assert built.names(tree.main_at(height) for height in range(3)) == ["", "a", "c"]
    assert [built.node(name).on_main for name in ("", "a", "b", "c")] == [True, True, False, True]
    built.connect("a")
    assert tree.main_at(2) is None
    assert built.names([tree.tip]) == ["a"]


def test_ancestors_paths_and_forks() -> None:
    built = Built({"a": "", "b": "a", "c": "b", "x": "a", "y": "x", "z": "y"})
    tree, node = built.tree, built.node
    built.connect("a", "b", "c")

    def ancestor(name: str, height: int) -> str | None:
        found = tree.ancestor(node(name), height)
        return None if found is None else built.names([found])[0]

    assert [ancestor("z", height) for height in range(-1, 6)] == [
        None,
        "",
        "a",
        "x",
        "y",
        "z",
        None,
    ]
    assert [ancestor("c", height) for height in range(5)] == ["", "a", "b", "c", None]
    assert [ancestor("b", height) for height in (1, 2, 3)] == ["a", "b", None]
    assert built.names(tree.path(node("a"), node("z"))) == ["x", "y", "z"]
    assert tree.path(node("z"), node("z")) == []
    assert [built.names([tree.fork_point(node(name))])[0] for name in ("z", "x", "c", "a")] == [
        "a",
        "a",
        "c",
        "a",
    ]


def test_side_anchors_come_lowest_branch_first_parents_before_children() -> None:
    shape = {"a": "", "p": "", "q": "p", "b": "a", "x": "a", "y": "x", "c": "b", "u": "b"}
    built = Built(shape | {"v": "c"})
    built.connect("a", "b", "c")
    assert built.names(built.tree.side_nodes(0)) == ["p", "q", "x", "y", "u", "v"]
    assert built.names(built.tree.side_nodes(2)) == ["q", "x", "y", "u", "v"]
    assert built.names(built.tree.side_nodes(3)) == ["y", "u", "v"]
    assert built.names(built.tree.side_nodes(4)) == ["v"]
    assert built.names(built.tree.side_nodes(5)) == []
    assert sorted(built.names(built.tree.subtree(built.node("a")))) == list("abcuvxy")


def test_what_a_branch_lists_is_found_on_it_alone() -> None:
    tree = new_tree()
    genesis = forge().genesis
    first = forge().anchor(genesis)
    add(tree, first)
    coin = forge().coin(first)
    other = forge().coin(first)
    left, right = forge().anchor(first, [coin, other]), forge().anchor(first, [coin])
    bare = forge().anchor(first)
    nodes = [add(tree, anchor) for anchor in (left, right, bare)]
    late = forge().anchor(bare, (), [coin])
    upper = add(tree, late)
    assert tree.is_listed(coin.id)
    assert tree.lister_of(coin.id, nodes[0]) is nodes[0]
    assert tree.lister_of(coin.id, nodes[1]) is nodes[1]
    assert tree.lister_of(coin.id, nodes[2]) is None
    assert tree.lister_of(coin.id, upper) is upper
    assert tree.lister_of(other.id, upper) is None
    assert tree.lister_of(first.id, upper) is tree.nodes[first.id]
    assert tree.lister_of(left.id, nodes[0]) is nodes[0]
    tree.remove(nodes[0])
    tree.remove(nodes[1])
    assert tree.is_listed(coin.id)
    assert not tree.is_listed(other.id)
    assert not tree.is_listed(left.id)
    tree.remove(nodes[2])
    assert not tree.is_listed(coin.id)
    assert tree.is_listed(first.id)
    assert tree.is_listed(genesis.id)


def test_transfers_that_side_anchors_list_are_counted() -> None:
    tree = new_tree()
    one, two = bytes([1]) * 32, bytes([2]) * 32
    genesis = forge().genesis
    left = forge().anchor(genesis, body_fields={"transfers": (one, two)})
    right = forge().anchor(genesis, body_fields={"transfers": (one,)})
    nodes = [add(tree, anchor) for anchor in (left, right)]
    assert tree.is_listed_aside(one)
    assert tree.is_listed_aside(two)
    tree.set_tip(nodes[0])
    assert tree.is_listed_aside(one), "the other lists it still"
    assert not tree.is_listed_aside(two)
    tree.set_tip(tree.root)
    assert tree.is_listed_aside(two)
    tree.set_tip(nodes[1])
    tree.remove(nodes[0])
    assert not tree.is_listed_aside(one)
    assert not tree.is_listed_aside(two)
    assert len(tree._listed_aside) == 0, "nothing is kept of what is listed no more"


# The root


def test_the_root_rises_with_the_branches_that_leave_it_lost() -> None:
    built = Built({"a": "", "p": "", "q": "p", "b": "a", "x": "a", "r": ""})
    tree = built.tree
    bare = forge().anchor(forge().genesis)
    tree.add_anchor(bare.coin)
    built.anchors["bare"] = bare
    built.vote("b", 5)
    built.connect("a", "b")
    assert built.chosen() == "b"
    scores = tree.scores()
    gone = {name: built.anchors[name].id for name in ("", "p", "q", "r", "bare")}
    names = built.names
    old, lost = tree.advance_root()
    assert names([old]) == [""]
    assert sorted(names(lost)) == ["bare", "p", "q", "r"]
    assert names([tree.root]) == ["a"]
    assert tree.root.parent is None
    assert set(tree.nodes) == {built.anchors[name].id for name in ("a", "b", "x")}
    assert tree.main_at(0) is None
    assert not any(tree.is_listed(anchor_id) for anchor_id in gone.values())
    assert tree.choose() is built.node("b")
    kept = tree.scores()
    assert kept == {anchor_id: scores[anchor_id] for anchor_id in kept}
    assert len(kept) == 2


def test_the_best_path_leaves_with_its_branch() -> None:
    built = Built({"a": "", "b": "a", "p": "", "q": "p"})
    built.connect("a", "b")
    built.vote("q", 3)
    assert built.chosen() == "q"
    built.tree.advance_root()
    assert built.names([built.tree.best]) == ["a"]
    assert built.tree.root.on_best_path
    assert built.chosen() == "b"
    built.vote("b")
    assert built.chosen() == "b"


def test_votes_that_leave_with_a_branch_are_not_summed_up_later() -> None:
    built = Built({"a": "", "b": "a", "p": "", "q": "p"})
    built.connect("a", "b")
    built.chosen()
    built.vote("q", 3)
    built.vote("b", 1)
    built.tree.advance_root()
    assert built.chosen() == "b"
    assert built.tree.scores() == {built.anchors["b"].id: 2 * WORK}
    assert built.tree.root.sub == 2 * WORK, "that of b, and b itself"


def test_the_root_is_lowered_again() -> None:
    built = Built({"a": "", "b": "a", "x": "a"})
    built.connect("a", "b")
    built.vote("b", 2)
    scores = built.tree.scores()
    genesis = genesis_of(REG)
    built.tree.advance_root()
    built.vote("b", 1)
    root = built.tree.lower_root(genesis.coin, Validation.of_genesis(genesis, REG))
    tree = built.tree
    assert tree.root is root
    assert root.status is AnchorStatus.COUNTS
    assert root.on_main
    assert root.on_best_path
    assert tree.main_at(0) is root
    assert tree.nodes[root.id] is root
    assert tree.is_listed(root.id)
    assert built.node("a").parent is root
    assert built.names(root.children) == ["a"]
    found = tree.scores()
    assert found[built.anchors["b"].id] == scores[built.anchors["b"].id] + 2 * WORK
    assert found[built.anchors["a"].id] == scores[built.anchors["a"].id] + 2 * WORK
    assert root.sub == built.node("a").sub
    assert built.names(tree.path(root, tree.tip)) == ["a", "b"]
    rival = forge().anchor(forge().genesis)
    add(tree, rival)
    vote(tree, rival, 20)
    assert tree.choose().id == rival.id
