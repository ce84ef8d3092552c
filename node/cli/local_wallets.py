"""The wallets of a data directory where no node runs: what needs no chain is done by the command's
own process, by the same methods as a node has.

The directory's lock is held meanwhile, so that no node begins to use the same files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import structlog
import trio

from unchained.node.base.clock import SystemClock
from unchained.node.base.runner import InlineRunner
from unchained.node.base.settings import Settings
from unchained.node.cli.asker import CommandFailedError
from unchained.node.consensus.coin_proof import CoinProof
from unchained.node.consensus.genesis import genesis_of
from unchained.node.consensus.params import NETWORKS, Network
from unchained.node.consensus.transfers import ProvenTransfer
from unchained.node.crypto.accounts import MnemonicError
from unchained.node.primitives.types import CoinId, Wid
from unchained.node.rpc.core.errors import WalletRefusedError
from unchained.node.rpc.core.registry import Registry
from unchained.node.rpc.core.rights import NODE_OWNER
from unchained.node.rpc.core.values import encode
from unchained.node.rpc.http.tokens import TOKENS_FILE, TokenBook
from unchained.node.rpc.methods.contracts import ContractRoom
from unchained.node.rpc.methods.keeping import KeepingRoom
from unchained.node.rpc.methods.payment import PaymentRoom
from unchained.node.rpc.methods.proofs import ProofRoom
from unchained.node.rpc.methods.wallet import WalletRoom
from unchained.node.wallet.errors import ReserveProofError, TransferRefusedError, WalletError
from unchained.node.wallet.keystore import WALLETS_NAME
from unchained.node.wallet.link import ChainTip, WaitingBids
from unchained.node.wallet.manager import WalletManager
from unchained.node.wallet.new_wallet import wallets_to_open
from unchained.storage.kv import Snapshot
from unchained.storage.lock import DirectoryLock
from unchained.storage.memory import MemoryStore


class NoChain:
    """The chain of a machine that has none (`wallet.link.ChainLink`)."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tip = ChainTip(genesis_of(network).id, 0, 0, 1.0)

    async def wait_newer(self, next_event: int) -> ChainTip:
        """Wait for ever."""
        await trio.sleep_forever()

    def snapshot(self) -> Snapshot:
        """Return an empty store."""
        return MemoryStore().snapshot()

    def prove_coin(self, view: Snapshot, coin_id: CoinId) -> CoinProof | None:
        """Raise `ReserveProofError`."""
        raise ReserveProofError("no node runs here: coins are proven by a node")

    def proven_transfer(self, wid: Wid) -> ProvenTransfer | None:
        """Return nothing."""

    async def waiting(self, txids: Collection[bytes]) -> WaitingBids:
        """Return nothing."""
        return WaitingBids({})

    async def submit(self, transfer: bytes | ProvenTransfer) -> bool:
        """Raise `TransferRefusedError`."""
        raise TransferRefusedError("NO_NODE", "no node runs here: send it by one that does")

    async def fee_rate(self, target: int) -> int:
        """Return the least."""
        return 1

    async def confirmations(self, last: CoinId, heights: Collection[int]) -> dict[int, int]:
        """Return nothing."""
        return {}


class LocalWallets:
    """Answers `LOCAL_METHODS` for a data directory, which is made if it is not there.

    Raises `StoreLockedError` while a node has it, OSError.
    """

    def __init__(self, settings: Settings) -> None:
        network = NETWORKS[settings.config.node.network]
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = DirectoryLock(settings.data_dir)
        self._directory = settings.data_dir / WALLETS_NAME
        chain = NoChain(network)
        log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger("error")
        )
        self._wallets = WalletManager(
            self._directory, chain, clock=SystemClock(), runner=InlineRunner(), log=log
        )
        self._wallets.tell_of_names(TokenBook(settings.data_dir / TOKENS_FILE, SystemClock()))
        self._methods = Registry(
            WalletRoom(self._wallets, chain),
            PaymentRoom(self._wallets),
            ProofRoom(self._wallets),
            KeepingRoom(self._wallets),
            ContractRoom(self._wallets),
        )

    def call(self, method: str, params: Mapping[str, Any] | Sequence[Any]) -> Any:
        """Return a method's result as plain JSON. Raises `RpcError` as a node answers it, and
        `CommandFailedError`."""
        given = dict(params) if isinstance(params, Mapping) else list(params)
        try:
            return trio.run(self._answer, method, given)
        except WalletError as error:
            raise WalletRefusedError(str(error), error=error.word) from None
        except MnemonicError as error:
            raise CommandFailedError(str(error)) from None

    async def _answer(self, method: str, params: dict[str, Any] | list[Any]) -> Any:
        damaged: WalletError | None = None
        for name in wallets_to_open(self._directory):
            try:
                await self._wallets.open(name)
            except WalletError as error:
                if isinstance(params, dict) and params.get("wallet", "default") == name:
                    damaged = error
        if damaged is not None:
            raise damaged
        restoring = method in ("wallet.restore", "wallet.check_new")
        if restoring and isinstance(params, dict) and params.get("birth_height"):
            raise CommandFailedError(
                "no node runs here to say whether the chain has reached that height: leave "
                "--birth-height out"
            )
        # Who has the data directory is the owner of all that is in it.
        with NODE_OWNER.acting():
            found = await self._methods.find(method).call(params)
        return msgspec.to_builtins(found, enc_hook=encode)
