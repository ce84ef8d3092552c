"""The fork choice is explained as the protocol makes it."""

from __future__ import annotations

from typing import Any

from unchained.node.rpc.web.fork_choice import contests, explain

WORK = 3


def anchor(
    name: str,
    parent: str,
    height: int,
    score: float | None,
    *,
    votes: int = 0,
    main: bool = False,
    standing: str = "",
) -> dict[str, Any]:
    """An anchor whose score is given in votes."""
    return {
        "id": name * 64,
        "parent": parent * 64,
        "height": height,
        "work": str(WORK),
        "votes": votes,
        "status": standing or ("main" if main else "side"),
        "score": None if score is None else str(int(score * 2 * WORK)),
    }


def test_without_a_fork_all_vote_for_one_chain() -> None:
    anchors = [anchor("a", "0", 1, 9, main=True), anchor("b", "a", 2, 4, main=True)]
    assert contests(anchors) == []
    assert explain([], 12) == "No fork in the last 12 epochs: every coin votes for one chain."


def test_the_leader_and_its_lead_are_named_in_votes() -> None:
    anchors = [
        anchor("a", "0", 1, 30, votes=2, main=True),
        anchor("c", "a", 2, 20, votes=20, main=True),
        anchor("b", "a", 2, 6, votes=4),
        anchor("d", "b", 3, 2, votes=2),
    ]
    (fork,) = contests(anchors)
    assert (fork.height, fork.lead) == (2, 14.0)
    assert [(branch.name, branch.votes, branch.length) for branch in fork.branches] == [
        ("A", 20, 1),
        ("B", 6, 2),
    ]
    assert explain([fork], 3) == (
        "At height 2, 2 anchors compete: A (ccccccc…cccccc, 20 votes) leads "
        "B (bbbbbbb…bbbbbb, 6 votes) by 14 votes."
    )


def test_half_a_vote_and_one_are_said_as_such() -> None:
    for score, said in ((5.5, "by 0.5 votes"), (6, "by 1 vote.")):
        rivals = [anchor("a", "0", 4, score, main=True), anchor("b", "0", 4, 5)]
        assert said in contests(rivals)[0].text


def test_a_tie_goes_to_the_lower_id() -> None:
    (fork,) = contests([anchor("b", "0", 4, 5), anchor("a", "0", 4, 5, main=True)])
    assert fork.branches[0].id == "a" * 64
    assert "are level; the lower id wins" in fork.text


def test_a_dead_rival_is_passed_by_whatever_its_score() -> None:
    (fork,) = contests([anchor("a", "0", 4, 5, main=True), anchor("b", "0", 4, 9, standing="dead")])
    assert fork.branches[0].status == "main"
    assert "B cannot be connected" in fork.text


def test_what_does_not_count_is_no_rival() -> None:
    invalid = anchor("b", "0", 4, None, standing="invalid")
    assert contests([anchor("a", "0", 4, 5, main=True), invalid]) == []


def test_the_highest_fork_is_explained_first_and_no_more_branches_than_fit() -> None:
    low = [
        anchor(name, "0", 4, 5 - number, main=name == "a") for number, name in enumerate("abcdef")
    ]
    high = [anchor("8", "a", 5, 2, main=True), anchor("9", "a", 5, 1)]
    found = contests([*low, *high])
    assert [fork.height for fork in found] == [5, 4]
    assert len(found[1].branches) == 4
    assert "6 anchors compete" in found[1].text
