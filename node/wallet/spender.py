"""Makes transfers of a wallet's coins: payments, sweeps, replacements, claims and refunds.

What is made here is unsigned; nothing is written and nothing is sent. Amounts in grains, rates in
grains per byte of size (Protocol §8.2).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from unchained.node.base.randomness import SYSTEM, Randomness
from unchained.node.consensus.params import Network
from unchained.node.consensus.policy import DUST
from unchained.node.consensus.transfers import MAX_INPUTS, MAX_OUTPUTS, validate_transfer
from unchained.node.crypto.accounts import WatchAccount
from unchained.node.crypto.addresses import OutputPlace, Paycode, address_lock
from unchained.node.primitives.amounts import shortest
from unchained.node.primitives.conditions import KeyCondition
from unchained.node.primitives.transfer import Output, Transfer, output_id
from unchained.node.primitives.types import CoinId, Lock
from unchained.node.wallet import spending
from unchained.node.wallet.errors import (
    BadPaymentError,
    ConsolidationNeededError,
    FeeAboveMaxError,
    HighFeeError,
    InsufficientFundsError,
    NoSuchAccountError,
    NoSuchCoinError,
    NoSuchTransferError,
    NothingToDoError,
    SpendingError,
)
from unchained.node.wallet.fee import Fee
from unchained.node.wallet.payee_book import AccountNames, PayeeBook
from unchained.node.wallet.payment_request import Draft, draft_for, memo_for
from unchained.node.wallet.plan import Plan, Prepared, assemble, costs_of, subtract
from unchained.node.wallet.records import AccountRef, Outgoing, OutgoingState, Payee, WalletCoin
from unchained.node.wallet.replacement import check_replaces, rate_that_replaces, with_descendants
from unchained.node.wallet.selection import (
    MAX_SEARCHED,
    Candidate,
    Selection,
    SelectionCosts,
    select,
    what_waits,
    why_nothing,
    worth_spending,
)
from unchained.node.wallet.wallet_store import WalletStore

MAX_TRANSFERS: Final = 64
"""Most transfers that a sweep or a consolidation makes at a time."""


class Spender:
    """Makes transfers for one wallet, as it is at its last anchor."""

    def __init__(
        self,
        store: WalletStore,
        network: Network,
        accounts: Mapping[int, WatchAccount],
        randomness: Randomness = SYSTEM,
    ) -> None:
        self._store = store
        self._network = network
        self._accounts = accounts
        self._randomness = randomness

    @property
    def next_height(self) -> int:
        """Height of the anchor that could include a transfer made here."""
        last = self._store.last_anchor()
        return 1 if last is None else last[0] + 1

    @property
    def mature_below(self) -> int:
        """Height of inclusion from which on a minted coin cannot be spent yet."""
        # Protocol §8.3: IMMATURE_COIN
        return self.next_height - self._network.maturity + 1

    def account_index(self, which: AccountRef) -> int:
        """Return the number of an account that is told by its number or its name. Raises
        `NoSuchAccountError`."""
        index = which if isinstance(which, int) else AccountNames(self._store).find(which)
        if index is None or index not in self._accounts:
            raise NoSuchAccountError(which)
        return index

    def _resolved(self, payees: Sequence[Payee]) -> list[Payee]:
        """Return payees with what their names in the address book stand for, as they are paid."""
        return PayeeBook(self._store, self._network).resolve_all(payees)

    def _account(self, index: int) -> WatchAccount:
        account = self._accounts.get(index)
        if account is None:
            raise NoSuchAccountError(index)
        return account

    def _to_self(self, index: int, value: int = 0) -> Draft:
        """Return an output to the account's own paycode."""
        account = self._account(index)
        paycode = Paycode(self._network.chain_id, account.key_hash, account.view.public_key)
        return Draft(value, paycode)

    # Payments

    def to_others(self, payees: Sequence[Payee]) -> int:
        """Return how many grains some payees get that are none of the wallet's accounts. Raises
        `BadPaymentError`."""
        keys = {account.key_hash for account in self._accounts.values()}
        own = {address_lock(key) for key in keys}
        drafts = [draft_for(self._network, payee) for payee in self._resolved(payees)]
        return sum(
            draft.value
            for draft in drafts
            if not (draft.to.key_hash in keys if isinstance(draft.to, Paycode) else draft.to in own)
        )

    def pay(
        self,
        payees: Sequence[Payee],
        fee: Fee,
        *,
        account: AccountRef = 0,
        coins: Sequence[bytes] | None = None,
        lock_height: int = 0,
        subtract_fee: bool = False,
    ) -> Prepared:
        """Pay from an account's coins, or from those named; with `subtract_fee` the payees bear
        the fee, in equal parts.

        Confirmed coins are taken if they suffice, else also the change of the wallet's own
        waiting transfers. Raises a `SpendingError`, `NoSuchCoinError`, `NoSuchAccountError`.
        """
        if not 0 < len(payees) < MAX_OUTPUTS:
            raise BadPaymentError(
                f"a transfer pays 1 to {MAX_OUTPUTS - 1} payees, got {len(payees)}"
            )
        account, payees = self.account_index(account), self._resolved(payees)
        outputs = tuple(draft_for(self._network, payee) for payee in payees)
        plan = self._key_plan(account, outputs, lock_height)
        if subtract_fee:
            return self._prepare_subtracting(plan, fee, account, payees, coins)
        return self._prepare(plan, fee, account, payees, coins)

    def _prepare_subtracting(
        self,
        plan: Plan,
        fee: Fee,
        account: int,
        payees: Sequence[Payee],
        coins: Sequence[bytes] | None,
    ) -> Prepared:
        fee.check()
        costs = costs_of(plan, fee)
        amount = sum(output.value for output in plan.outputs)
        # the payees bear what coins and change cost; what is too little for change bears a part
        free = msgspec.structs.replace(costs, per_input=0, change=0, waste=costs.least - 1)
        selection = self._choose(amount, account, coins, free, (), least=costs.per_input)
        borne = selection.total - amount - selection.change
        due = costs.bare + costs.per_input * len(selection.coins)
        due += costs.change if selection.change else 0
        plan, paid = subtract(plan, payees, max(0, due - borne))
        chosen = self._store.coins_by_id(selection.coins)
        prepared = assemble(
            self._network,
            plan,
            chosen,
            selection.change,
            paid,
            b"",
            fee=fee,
            randomness=self._randomness,
        )
        if not borne:
            return prepared
        why = (
            f"the coins hold {shortest(borne)} UNC more than the amount, too little to come back: "
            "that bears a part of the fee"
        )
        return msgspec.structs.replace(prepared, warning=why)

    def _key_plan(
        self,
        account: int,
        outputs: tuple[Draft, ...],
        lock_height: int = 0,
        fixed: Sequence[WalletCoin] = (),
    ) -> Plan:
        condition = KeyCondition(self._account(account).key_hash).to_bytes()
        back = self._to_self(account)
        return Plan(tuple(fixed), outputs, condition, 1, (), lock_height, back)

    def _prepare(
        self,
        plan: Plan,
        fee: Fee,
        account: int | None,
        payees: Sequence[Payee],
        coins: Sequence[bytes] | None = None,
        replaces: bytes = b"",
        doomed: Collection[bytes] = (),
    ) -> Prepared:
        """Choose coins beside the fixed ones, and bring back what is left. `doomed` are txids
        whose change will never come."""
        fee.check()
        costs = costs_of(plan, fee)
        amount = sum(output.value for output in plan.outputs)
        have = sum(coin.value for coin in plan.fixed)
        need = amount + costs.bare + costs.per_input * len(plan.fixed) - have
        if plan.fixed and need <= 0:
            left = -need
            worth_it = left >= costs.change + costs.least
            selection = Selection((), 0, left - costs.change if worth_it else 0)
        elif account is None:
            raise InsufficientFundsError(need + have, have)
        else:
            selection = self._choose(need, account, coins, costs, doomed)
        chosen = (*plan.fixed, *self._store.coins_by_id(selection.coins))
        return assemble(
            self._network,
            plan,
            chosen,
            selection.change,
            payees,
            replaces,
            fee=fee,
            randomness=self._randomness,
        )

    def _choose(
        self,
        need: int,
        account: int,
        coins: Sequence[bytes] | None,
        costs: SelectionCosts,
        doomed: Collection[bytes],
        least: int | None = None,
    ) -> Selection:
        """Choose coins worth more than `least` grains each, by default more than they cost."""
        costs = msgspec.structs.replace(costs, bare=0)
        if coins is not None:
            named = sorted(self._named(account, coins), key=lambda coin: -coin[1])
            return select(need, named, named, costs)
        store, mature = self._store, self.mature_below
        least = costs.per_input if least is None else least
        largest = store.spendable(account, mature, most=MAX_INPUTS + 1, above=least)
        exactly = min(need + costs.waste + costs.per_input, 2**63 - 1)
        fitting = store.spendable(account, mature, most=MAX_SEARCHED, above=least, at_most=exactly)
        try:
            try:
                return select(need, largest, fitting, costs)
            except (InsufficientFundsError, ConsolidationNeededError):
                change = worth_spending(store.own_change(account, doomed), costs)
                if not change:
                    raise
            every = sorted((*largest, *change), key=lambda coin: -coin[1])
            return select(need, every, every, costs)
        except InsufficientFundsError as error:
            waits = what_waits(store.balance(account, mature))
            raise InsufficientFundsError(error.needed, error.available, waits) from None

    def _named(self, account: int, coins: Sequence[bytes]) -> list[Candidate]:
        found = self._store.coins_by_id(list(dict.fromkeys(coins)))
        for coin in found:
            for wrong, why in (
                (coin.account != account, f"is not of account {account}"),
                (coin.spent_height is not None or coin.leaving, "is spent"),
                (coin.height is None, "is not confirmed"),
                # who froze it may name it all the same; a token's bearer may do neither
                (coin.frozen and spending.is_limited(), "is frozen: a token does not spend it"),
                (self._is_immature(coin), "is not mature"),
            ):
                if wrong:
                    raise NoSuchCoinError(f"coin {coin.coin_id.hex()} {why}")
        return [(coin.coin_id, coin.value) for coin in found]

    # Everything at once

    def sweep(
        self,
        to: str,
        fee: Fee,
        *,
        account: AccountRef = 0,
        memo: bytes = b"",
        coins: Sequence[bytes] | None = None,
    ) -> list[Prepared]:
        """Pay an account's coins, or those named, to one payee, the largest first, in several
        transfers if need be, at most `MAX_TRANSFERS`.

        Raises `NothingToDoError` if no coin is worth its fee, `NoSuchCoinError`, `BadPaymentError`.
        """
        account = self.account_index(account)
        (payee,) = self._resolved([Payee(to, DUST, memo)])
        return self._gather(account, fee, payee, least_inputs=1, named=coins)

    def consolidate(
        self, fee: Fee, *, account: AccountRef = 0, below: int | None = None
    ) -> list[Prepared]:
        """Join an account's coins, the smallest first, into few; with `below` only those of a
        lower value. Raises `NothingToDoError` if there is nothing to join."""
        index = self.account_index(account)
        return self._gather(index, fee, None, least_inputs=2, below=below)

    def join_largest(self, fee: Fee, account: int) -> Prepared | None:
        """Join as many of an account's largest coins as one transfer holds; None where there are no
        two."""
        costs = costs_of(self._gathered(account, None, DUST), fee)
        share = self._store.spendable(
            account, self.mature_below, most=costs.max_inputs, above=costs.per_input
        )
        return self._joined(account, fee, None, share) if len(share) > 1 else None

    def _joined(
        self, account: int, fee: Fee, payee: Payee | None, share: Sequence[Candidate]
    ) -> Prepared | None:
        """Pay some coins to a payee, or to the account itself; None where they do not cover the
        fee."""
        costs = costs_of(self._gathered(account, payee, DUST), fee)
        value = sum(value for _, value in share) - costs.bare - costs.per_input * len(share)
        if value < DUST:
            return None
        plan = self._gathered(account, payee, value)
        paid = () if payee is None else (msgspec.structs.replace(payee, value=value),)
        chosen = self._store.coins_by_id([coin_id for coin_id, _ in share])
        return assemble(
            self._network, plan, chosen, 0, paid, b"", fee=fee, randomness=self._randomness
        )

    def _gather(
        self,
        account: int,
        fee: Fee,
        payee: Payee | None,
        *,
        least_inputs: int,
        below: int | None = None,
        named: Sequence[bytes] | None = None,
    ) -> list[Prepared]:
        fee.check()
        if fee.exact is not None:
            raise BadPaymentError("several transfers take a fee rate, not a fee")
        costs = costs_of(self._key_plan(account, ()), fee)
        if named is None:
            worth = self._store.spendable(
                account,
                self.mature_below,
                most=MAX_INPUTS * MAX_TRANSFERS,
                above=costs.per_input,
                at_most=None if below is None else below - 1,
                smallest=payee is None,
            )
        else:
            worth = worth_spending(self._named(account, named), costs)
        prepared = []
        failure: SpendingError | None = None
        most = fee.most
        for start in range(0, len(worth), MAX_INPUTS):
            share = worth[start : start + MAX_INPUTS]
            if most is not None:
                # coins that came since that was agreed to stay where they are
                bare = costs_of(self._gathered(account, payee, DUST), fee).bare
                due = bare + costs.per_input * len(share)
                if due > most and len(share) >= least_inputs:
                    failure = FeeAboveMaxError(due, most)
                share = share[: max(0, most - bare) // costs.per_input]
            if len(share) < least_inputs:
                continue
            try:
                made = self._joined(account, fee, payee, share)
            except HighFeeError as error:
                # of other coins it may be worth it
                failure = error
                continue
            if made is not None:
                prepared.append(made)
                most = None if most is None else most - made.unsigned.fee
        if not prepared:
            raise failure or NothingToDoError(
                why_nothing(self._store.balance(account, self.mature_below))
            )
        return prepared

    def _gathered(self, account: int, payee: Payee | None, value: int) -> Plan:
        if payee is None:
            output = self._to_self(account, value)
        else:
            output = draft_for(self._network, msgspec.structs.replace(payee, value=value))
        return self._key_plan(account, (output,))

    # Replacing

    def bump(self, txid: bytes, fee: Fee, *, at_least: bool = False) -> Prepared:
        """Make a transfer that replaces a waiting one and pays more; with `at_least` its rate is
        raised to the lowest that replaces it.

        Raises `NoSuchTransferError`, and `BadPaymentError` for a fee that no node would replace
        for.
        """
        old = self._store.outgoing(txid)
        if old.height is not None or old.state is not OutgoingState.WAITING:
            raise NoSuchTransferError(f"transfer {txid.hex()} does not wait any more")
        # What came by a backup may have been altered there: the wallet's own signature holds for
        # what it once agreed to, and nothing else is signed anew.
        if not validate_transfer(old.raw, self._network).is_good:
            raise NoSuchTransferError(
                f"transfer {txid.hex()} is not signed by its owner's keys: it cannot be replaced, "
                "abandon it"
            )
        raw = Transfer.from_bytes(old.raw)
        coins = self._store.coins_by_id([spent.coin_id for spent in raw.inputs])
        account = coins[0].account
        if any(coin.account != account or account < 0 for coin in coins):
            raise NoSuchTransferError("only a transfer of one account's own coins can be replaced")
        condition = KeyCondition(self._account(account).key_hash).to_bytes()
        if any(spent.condition != condition for spent in raw.inputs):
            # signed, and well, by keys of somebody else
            raise NoSuchTransferError(
                f"transfer {txid.hex()} is not signed by this wallet's keys: it cannot be "
                "replaced, abandon it"
            )
        outputs = self._drafts_of(old, raw)
        if not outputs and old.change is None:
            raise NoSuchTransferError("the transfer pays nobody: abandon it instead")
        if outputs and not old.payees and old.change is None and self._is_own(old, raw):
            # what joins coins has no change: its largest output bears the fee
            outputs = tuple(sorted(outputs, key=lambda draft: draft.value)[:-1])
        plan = self._key_plan(account, outputs, raw.lock_height, coins)
        # with the transfer goes what builds on it: none of that can be spent
        family = with_descendants(self._store, old)
        doomed = [step.txid for step in family]
        while True:
            prepared = self._prepare(
                plan, fee, account, old.payees, replaces=bytes(old.txid), doomed=doomed
            )
            rate = rate_that_replaces(old, family, prepared)
            if not at_least or rate <= fee.rate:
                break
            fee = msgspec.structs.replace(fee, rate=rate)
        check_replaces(old, family, prepared)
        return prepared

    def _is_own(self, old: Outgoing, raw: Transfer) -> bool:
        """Return whether a transfer pays the wallet's accounts alone."""
        coin_ids = [output_id(old.txid, at) for at in range(len(raw.outputs))]
        found = self._store.known_coins(coin_ids)
        return all(coin_id in found and found[coin_id].account >= 0 for coin_id in coin_ids)

    def _drafts_of(self, old: Outgoing, raw: Transfer) -> tuple[Draft, ...]:
        """Return what a transfer pays, change apart, to be sealed anew (Protocol §9).

        Raises `NoSuchTransferError` if an output is to a paycode that the wallet does not know, or
        that nothing shows to be paid by it.
        """
        places = [at for at in range(len(raw.outputs)) if at != old.change]
        payees: Sequence[Payee | None] = old.payees
        if len(payees) != len(places):
            # Made elsewhere, or joined for the wallet itself: its change is not told from the rest.
            payees = [None] * len(places)
        return tuple(
            self._draft_of(old, CoinId(raw.inputs[0].coin_id), at, raw.outputs[at], payee)
            for at, payee in zip(places, payees, strict=True)
        )

    def _draft_of(
        self, old: Outgoing, first_input: CoinId, at: int, output: Output, payee: Payee | None
    ) -> Draft:
        if payee is not None:
            shared = next((kept.shared for kept in old.secrets if kept.index == at), b"")
            place = OutputPlace(first_input, at)
            if memo_for(self._network, payee.payee, place, output, shared) is None:
                raise NoSuchTransferError(
                    f"nothing shows that output {at} of the transfer pays {payee.payee[:40]}…, "
                    "which is noted for it: it cannot be replaced"
                )
            return msgspec.structs.replace(draft_for(self._network, payee), value=output.value)
        if not output.note:
            return Draft(output.value, Lock(output.lock))
        coin_id = output_id(old.txid, at)
        own = self._store.known_coins([coin_id]).get(coin_id)
        if own is None:
            raise NoSuchTransferError(
                "the transfer was made elsewhere: whose paycode it pays is not known here, so it "
                "cannot be replaced"
            )
        return self._to_self(own.account, output.value)

    def _is_immature(self, coin: WalletCoin) -> bool:
        # a coin that was mined to a lock is minted, whatever the lock
        return not coin.txid and (coin.height or 0) >= self.mature_below
