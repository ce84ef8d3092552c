from __future__ import annotations

import pytest

from unchained.node.consensus import errors as rules
from unchained.node.consensus.policy import PolicyError
from unchained.node.peers.penalty import MISBEHAVIOURS, Penalty
from unchained.node.primitives.errors import ProtocolError
from unchained.node.relay.penalty_table import PENALTIES, decision_on
from unchained.node.transport.contract import Misbehaviour, Verdict

FAMILIES = {rules.CoinError, rules.AnchorError, rules.TransferError, rules.ExportError}


def leaves(family: type[Exception]) -> set[type[Exception]]:
    below = set(family.__subclasses__())
    return below.union(*(leaves(child) for child in below)) - FAMILIES


def test_every_rule_and_policy_has_a_verdict() -> None:
    expected = leaves(ProtocolError) - leaves(rules.ExportError) | leaves(PolicyError)
    ours = {error for error in expected if error.__module__.startswith("unchained.")}
    assert set(PENALTIES) == ours


def test_what_is_not_foreseen_fails_loudly() -> None:
    for error in (ValueError(), rules.ExportBadFrameError(), ProtocolError()):
        with pytest.raises(LookupError):
            decision_on(error)


def test_only_proofs_signatures_and_encodings_ban_at_once() -> None:
    banning = {error for error, found in PENALTIES.items() if found.alone is Penalty.BAN}
    assert banning == {
        rules.BadMixError,
        rules.BadSignatureError,
        rules.NonCanonicalError,
        rules.BadLengthError,
    }


@pytest.mark.parametrize(
    "error",
    [
        rules.CoinUnknownError,
        rules.CoinSpentError,
        rules.ImmatureCoinError,
        rules.LockedUntilHeightError,
        rules.StaleParentError,
        rules.BadNTotalError,
        rules.BadTargetError,
        rules.BadStateRootError,
    ],
)
def test_what_depends_on_the_view_of_the_chain_is_ignored(error: type[ProtocolError]) -> None:
    found = decision_on(error())
    assert found.verdict is Verdict.IGNORE
    assert found.alone is Penalty.COST


def test_rejected_is_what_is_punished() -> None:
    for error, found in PENALTIES.items():
        punished = found.alone in (Penalty.FAULT, Penalty.BAN)
        assert punished == (found.verdict is Verdict.REJECT), error.__name__


def test_every_misbehaviour_has_a_penalty() -> None:
    assert set(MISBEHAVIOURS) == set(Misbehaviour)
