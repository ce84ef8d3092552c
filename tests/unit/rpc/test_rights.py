"""Who may call what, for every method that there is."""

from __future__ import annotations

import pytest

from tests.framework.endless_token import endless_rights
from unchained.node.rpc.core.errors import ForbiddenError, UnauthorizedError
from unchained.node.rpc.core.openrpc import Discovery
from unchained.node.rpc.core.registry import Access, Method, Registry, Scope
from unchained.node.rpc.core.rights import (
    NODE_OWNER,
    STRANGER,
    WALLET_PARAMETER,
    Caller,
    current_caller,
)
from unchained.node.rpc.methods.rooms import ROOMS
from unchained.node.wallet.errors import (
    ConsolidationNeededError,
    InsufficientFundsError,
    WalletError,
)

NODE = Registry(*ROOMS, Discovery)
SCOPED = [found for found in NODE.values() if found.scope is not None]
OF_NO_WALLET = {"chain.params", "chain.tip", "mempool.fee_estimate", "wallet.list"}
"""What tokens may call that names no wallet: of the chain alone, or filtered."""


def bearer(*scopes: Scope, wallet: str = "shop") -> Caller:
    return Caller(Access.PUBLIC, endless_rights(wallet, *scopes))


def has_wallet(found: Method) -> bool:
    return any(parameter.name == WALLET_PARAMETER for parameter in found.parameters)


def test_what_tokens_may_call_names_the_wallet_that_it_touches() -> None:
    assert {found.name for found in SCOPED if not has_wallet(found)} == OF_NO_WALLET


def test_secrets_and_the_node_are_not_for_tokens() -> None:
    closed = {found.name for found in NODE.values() if found.scope is None}
    assert {
        "wallet.mnemonic",
        "wallet.export_watch",
        "wallet.create",
        "wallet.restore",
        "wallet.change_passphrase",
        "wallet.import_watch",
        "token.create",
        "token.list",
        "token.revoke",
        "node.stop",
        "node.config",
        "debug.statistics",
        "mempool.list",
        "mine.status",
    } <= closed


@pytest.mark.parametrize("found", list(NODE.values()), ids=lambda found: found.name)
def test_each_method_for_each_scope(found: Method) -> None:
    for scope in Scope:
        caller = bearer(scope)
        if found.access is Access.PUBLIC:
            assert caller.authorize(found, {}) == {}
        elif found.scope is scope and found.reads is True and scope is not Scope.READ:
            with pytest.raises(ForbiddenError, match="needs a token with the scope read;"):
                caller.authorize(found, {})
            caller = bearer(scope, Scope.READ)
            assert caller.authorize(found, {}) == {WALLET_PARAMETER: "shop"}
        elif found.scope is scope:
            given = caller.authorize(found, {})
            assert given == ({WALLET_PARAMETER: "shop"} if has_wallet(found) else {})
        else:
            with pytest.raises(ForbiddenError) as caught:
                caller.authorize(found, {})
            assert caught.value.error == "MISSING_SCOPE"
            assert "\n" not in caught.value.message
            if found.scope is not None:
                assert f"needs a token with the scope {found.scope};" in caught.value.message


@pytest.mark.parametrize("found", list(filter(has_wallet, SCOPED)), ids=lambda found: found.name)
def test_another_wallet_is_refused_as_one_that_is_not_there(found: Method) -> None:
    caller = bearer(*Scope)
    at = [parameter.name for parameter in found.parameters].index(WALLET_PARAMETER)
    said = set()
    for other in ("default", "no-such-wallet", "", None, 7, ["shop"]):
        for params in ({WALLET_PARAMETER: other}, [*([None] * at), other]):
            with pytest.raises(ForbiddenError) as caught:
                caller.authorize(found, params)
            said.add((caught.value.error, caught.value.message))
    assert said == {("OTHER_WALLET", "the token is for the wallet 'shop' alone")}
    own = caller.authorize(found, [*([None] * at), "shop"])
    assert isinstance(own, dict)
    assert own[WALLET_PARAMETER] == "shop"


SPENDING = [found for found in SCOPED if found.scope is Scope.SPEND]
SAYS_NO_AMOUNT = {
    "wallet.htlc_claim",
    "wallet.htlc_refund",
    "wallet.lock",
    "wallet.send",
    "wallet.unlock",
}
"""What moves coins and answers nothing that its caller did not know, some parameters apart."""


def test_who_may_spend_alone_is_not_shown_what_there_is() -> None:
    assert {found.name for found in SPENDING if found.reads is not True} == SAYS_NO_AMOUNT
    for found in SPENDING:
        names = {parameter.name for parameter in found.parameters}
        if found.name not in SAYS_NO_AMOUNT:
            continue
        reads = found.reads if isinstance(found.reads, tuple) else ()
        assert set(reads) == names & {"dry_run", "coins"}, found.name
        for name in reads:
            with pytest.raises(ForbiddenError, match=f"{name}.* needs a token with the scope read"):
                bearer(Scope.SPEND).authorize(found, {name: True})
            for given in (True, []):
                bearer(Scope.SPEND, Scope.READ).authorize(found, {name: given})
            for left_out in (None, False):
                bearer(Scope.SPEND).authorize(found, {name: left_out})


@pytest.mark.parametrize(
    "refusal", [InsufficientFundsError(7_000, 12_345), ConsolidationNeededError(7_000, 12_345)]
)
def test_a_refusal_tells_no_amount_to_whom_may_not_read(refusal: WalletError) -> None:
    for caller, told in (
        (NODE_OWNER, True),
        (bearer(Scope.SPEND, Scope.READ), True),
        (bearer(Scope.SPEND), False),
    ):
        with pytest.raises(WalletError) as caught, caller.acting():
            raise refusal
        assert ("0.00012345" in str(caught.value)) is told
        assert caught.value.word == refusal.word
        assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, not told)


def test_a_page_of_a_wallet_asks_the_same() -> None:
    NODE_OWNER.check_wallet("any", Scope.SPEND)
    bearer(Scope.READ).check_wallet("shop", Scope.READ)
    with pytest.raises(ForbiddenError, match="the scope invoice"):
        bearer(Scope.READ).check_wallet("shop", Scope.INVOICE)
    with pytest.raises(ForbiddenError, match="'shop' alone"):
        bearer(Scope.READ).check_wallet("other", Scope.READ)
    for caller in (STRANGER, Caller(Access.READ), Caller(Access.MINE)):
        with pytest.raises(UnauthorizedError):
            caller.check_wallet("shop", Scope.READ)
        with pytest.raises(UnauthorizedError):
            caller.check_access(Access.FULL)


def test_who_sees_which_wallet() -> None:
    assert NODE_OWNER.may_see("any")
    assert bearer(Scope.INVOICE).may_see("shop")
    assert not bearer(*Scope).may_see("other")
    assert not Caller(Access.READ).may_see("shop")


def test_a_method_knows_its_caller_while_it_is_called() -> None:
    assert current_caller() is STRANGER
    with NODE_OWNER.acting():
        assert current_caller() is NODE_OWNER
        inner = bearer(Scope.READ)
        with inner.acting():
            assert current_caller() is inner
        assert current_caller() is NODE_OWNER
    assert current_caller() is STRANGER
