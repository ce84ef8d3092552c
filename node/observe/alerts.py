"""The table of alerts: from it come the rules for Prometheus and a runbook page for each.

Made by ``python -m unchained.node.observe.alerts``, which writes packaging/prometheus and
docs/runbooks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

RULES_FILE: Final = "packaging/prometheus/unchained.rules.yml"
RUNBOOKS: Final = "docs/runbooks"


class Alert(msgspec.Struct, frozen=True):
    """One alert: fires once `expr` has held for `hold`. `within_s`: seconds after the fault begins
    within which it fires, and after it is mended within which it clears. `means`, `look` and `do`
    are its page."""

    name: str
    expr: str
    hold: str
    severity: Literal["warning", "critical"]
    within_s: int
    summary: str
    means: str
    look: str
    do: str

    @property
    def page(self) -> str:
        """The file of its runbook page."""
        return f"{RUNBOOKS}/{self.name}.md"


ALERTS: Final = (
    Alert(
        "UnchainedChainStalled",
        "(unchained_chain_tip_age_seconds > 20 * unchained_chain_epoch_target_seconds) "
        "unless on (job, instance) (unchained_sync_running == 1)",
        "1m",
        "critical",
        420,
        "The chain has not grown for twenty epochs.",
        "No anchor has come for twenty times as long as an epoch takes on average, and the node is "
        "not catching up. By chance that happens once in some hundred million epochs.",
        "`unchained-node status`, `unchained-node peers`: are there peers, and at which height? "
        "`/readyz`. Other nodes' `unchained_chain_height`.",
        "Where others go on, this node is cut off: see UnchainedFewPeers and "
        "UnchainedSilentPeers. Where nobody goes on, nobody mines: start miners. A clock that is "
        "wrong stops mining too (UnchainedClockBehindChain).",
    ),
    Alert(
        "UnchainedForkWithPeer",
        "unchained_peers_apart > 0",
        "5m",
        "critical",
        600,
        "A peer has been on another chain for five minutes.",
        "A peer names a tip that this node never had, and has not come to it since: one of the two "
        "does not follow the chain with most votes.",
        "`unchained-node peers` (their tips and heights), `unchained-node chain forks`, "
        "`anchor.invalid` and `chain.reorg_refused` in the log.",
        "If the log says that an anchor is invalid or a reorganisation was refused, decide which "
        "chain is right: UnchainedReorgRefused. If the peer is an older version, it follows other "
        "rules: ask its operator.",
    ),
    Alert(
        "UnchainedReorgRefused",
        "unchained_chain_reorg_refused_depth > 0",
        "0m",
        "critical",
        120,
        "A better chain waits for the operator: it would undo more than MAX_REORG anchors.",
        "The node has found a chain with more votes that leaves its own so far below that it does "
        "not follow by itself (Protocol §6). Payments may be undone.",
        "`unchained-node status` (its winner), `unchained-node chain forks`, and what others "
        "say is the chain.",
        "If the other chain is right: `unchained-node chain set-aside HEIGHT` on the first anchor "
        "above the fork. If yours is: nothing; the alert ends once yours has made up for it.",
    ),
    Alert(
        "UnchainedDeepReorg",
        "unchained_chain_reorg_last_depth >= 6 "
        "and on (job, instance) increase(unchained_chain_reorgs_total[10m]) > 0",
        "0m",
        "warning",
        720,
        "A reorganisation has undone six anchors or more.",
        "By chance a reorganisation undoes one or two anchors. Six mean that the network was cut "
        "in two, or that somebody mined a branch in secret.",
        "`anchor.disconnected` in the log; `unchained-node chain forks`; peers' latencies.",
        "Wait for more confirmations than usual before goods are handed over. If it happens again, "
        "tell others: it may be an attack.",
    ),
    Alert(
        "UnchainedFewPeers",
        "unchained_peers_greeted < 3",
        "5m",
        "warning",
        600,
        "The node has fewer than three peers.",
        "With so few peers one of them can keep news from the node.",
        "`unchained-node peers`, `unchained-node net info`; `peer.dial_failed` in the log.",
        "Open the port (see UnchainedNoInbound), name more nodes by `network.bootstrap`, look at "
        "the firewall and at `network.only`.",
    ),
    Alert(
        "UnchainedNoInbound",
        'unchained_peers{direction="inbound"} == 0',
        "15m",
        "warning",
        1_200,
        "Nobody has connected to the node for fifteen minutes.",
        "The node cannot be reached from outside, or its address is not known.",
        "`unchained-node doctor`; from another machine: `nc -vz ADDRESS PORT`.",
        "Forward the port of `network.listen` on the router, open it in the firewall, and say by "
        "`network.announce` under which address others reach it.",
    ),
    Alert(
        "UnchainedSilentPeers",
        'increase(unchained_gossip_messages_total{kind="gossip_received"}[10m]) == 0 '
        "and on (job, instance) unchained_peers_greeted > 0",
        "5m",
        "critical",
        1_080,
        "Peers are connected, and none has said anything for ten minutes.",
        "A network with miners is never silent so long: the peers hold back what happens (an "
        "eclipse), or a line drops what it does not reset.",
        "`unchained-node peers`: are they all of one operator or network? Other nodes' heights.",
        "Restart with other peers: `unchained-node net ban PEER`, `network.bootstrap`. Until then "
        "trust no confirmations.",
    ),
    Alert(
        "UnchainedClockOff",
        "abs(unchained_peers_clock_offset_seconds) > 5",
        "5m",
        "warning",
        600,
        "This machine's clock differs from its peers' by more than five seconds.",
        "Coins carry times. Those of a clock that is ahead are held by others until their time "
        "comes, those of one that is behind may be late.",
        "`timedatectl`, `chronyc tracking`; `net.clock_off` in the log.",
        "Let the machine set its clock (chrony, systemd-timesyncd). The node needs no restart.",
    ),
    Alert(
        "UnchainedClockBehindChain",
        "unchained_chain_clock_behind_seconds > 0",
        "1m",
        "critical",
        180,
        "The clock is behind the chain by more than FUTURE_LIMIT: nothing is mined.",
        "The tip is from the future, as this machine sees it (Protocol §6).",
        "`date -u`; `chain.clock_behind` in the log names the ways out.",
        "Set the clock. If it is right, the tip is wrong: `unchained-node chain set-aside`.",
    ),
    Alert(
        "UnchainedDiskFilling",
        "predict_linear(unchained_disk_free_bytes[30m], 86400) < 0",
        "10m",
        "warning",
        2_700,
        "The disk is full within a day at this rate.",
        "The last half hour, continued, leaves no room tomorrow.",
        "`df -h`, `du -sh DATA_DIRECTORY/*`: is it the node that grows, or another?",
        "Make room, or move the data directory: stop, copy, start with `--data-dir`.",
    ),
    Alert(
        "UnchainedDiskLow",
        'unchained_ready_criterion{criterion="disk"} == 0',
        "1m",
        "critical",
        180,
        "Less than 512 MiB are free on the data directory's disk.",
        "A node whose disk is full stops: it loses nothing, and does not go on either.",
        "`df -h`, `du -sh DATA_DIRECTORY/*`.",
        "Make room now. Logs go by `node.log_days`; the store is never to be thinned by hand.",
    ),
    Alert(
        "UnchainedStoreFailed",
        "unchained_store_failed == 1",
        "0m",
        "critical",
        120,
        "A write to the store has failed: the node takes in nothing any more.",
        "The disk is full, read-only or broken. Nothing that was acknowledged is lost.",
        "The log's last errors; `dmesg`; `mount`; `df -h`.",
        "Mend the disk and start the node again. If the store is damaged: "
        "`unchained-node db check --repair`.",
    ),
    Alert(
        "UnchainedLoopLag",
        "sum without (task) (increase(unchained_loop_slow_steps_total[5m])) > 10",
        "1m",
        "warning",
        600,
        "Tasks hold the event loop: everything else waits.",
        "More than ten steps in five minutes took longer than 50 ms. Those of the task `waiting` "
        "worked less: something else had the processor, or a call in them waited, as for the disk: "
        "`loop.waited` names them.",
        "`unchained-node node tasks` (slowest steps), `loop.blocked` and `loop.waited` in the log, "
        "`unchained-node node trace`.",
        "On a machine that does too much else: give the node a core (`mining.workers`, "
        "`mining.nice`). Otherwise it is a fault of ours: send the trace.",
    ),
    Alert(
        "UnchainedMemoryHigh",
        "unchained_process_resident_bytes > 400e6",
        "5m",
        "warning",
        900,
        "The node uses more than 400 MB of memory.",
        "It needs some 100 to 200 MB with all its peers; miners count apart.",
        "`unchained-node node memory`: which kind of object is there most of?",
        "Note what it says, and restart. `storage.cache_mib` and `network.inbound` bound what is "
        "wanted; what goes beyond is a fault of ours.",
    ),
    Alert(
        "UnchainedMinerStalled",
        "(unchained_miner_mining == 1 and on (job, instance) "
        "rate(unchained_miner_hashes_total[5m]) == 0) "
        'unless on (job, instance) (unchained_miner_workers{state="paused"} > 0)',
        "2m",
        "warning",
        720,
        "The miner has work, no pause, and makes no hashes.",
        "Its workers hang, or are all gone.",
        "`unchained-node mine status`; `miner.worker_lost` in the log; `top`.",
        "`unchained-node mine set-workers N` starts them anew; else restart the node.",
    ),
    Alert(
        "UnchainedWorkersCrash",
        "increase(unchained_miner_worker_restarts_total[10m]) > 3",
        "0m",
        "warning",
        900,
        "Mining workers crash again and again.",
        "More than three worker processes ended by themselves in ten minutes.",
        "`miner.worker_lost` in the log says why; `dmesg` shows the kernel's out-of-memory killer.",
        "Fewer workers (`mining.workers`), no huge pages, another backend "
        "(`UNCHAINED_POW_BACKEND`). Crashes without a reason may be broken memory.",
    ),
    Alert(
        "UnchainedCoinsRejected",
        'increase(unchained_miner_coins_total{kind="coins_rejected"}[10m]) > 0',
        "0m",
        "warning",
        900,
        "The chain has rejected a coin that was mined here.",
        "A coin of one's own broke a rule: hashing is wrong, or the clock is.",
        "`coin.rejected` in the log names the rule; `unchained-node bench pow` checks the backend.",
        "TIME rules: set the clock. BAD_MIX: memory or processor fail, or the backend is broken: "
        "try `UNCHAINED_POW_BACKEND=cryptography`, and tell us.",
    ),
    Alert(
        "UnchainedRpcErrors",
        "increase(unchained_rpc_failed_calls_total[5m]) > 0",
        "0m",
        "warning",
        420,
        "Calls fail by a fault of the node.",
        "A method ended in INTERNAL_ERROR, which is always our bug.",
        "`rpc.failed` in the log: method, error and place.",
        "Report it with that line. Other calls are not affected.",
    ),
    Alert(
        "UnchainedMempoolFull",
        "unchained_mempool_bytes / unchained_mempool_capacity_bytes > 0.9",
        "5m",
        "warning",
        600,
        "The mempool is full: cheap transfers are dropped.",
        "More transfers come than anchors include, or somebody floods.",
        "`unchained-node mempool`: what do they pay?",
        "Pay more (`wallet bump-fee`), or wait: what is dropped is sent again by its wallet.",
    ),
    Alert(
        "UnchainedSyncStuck",
        "(unchained_peers_claimed_height - on (job, instance) unchained_chain_height > 10) "
        "and on (job, instance) increase(unchained_chain_anchors_connected_total[5m]) == 0",
        "2m",
        "warning",
        600,
        "A peer claims a longer chain, and nothing has been connected for five minutes.",
        "Peers name anchors that they do not give, the disk is too slow, or the peer lies: what it "
        "claims decides nothing.",
        "`sync.not_followed` at level debug; `unchained-node peers`; the time of synced batches.",
        "Ban the peer that leads (`unchained-node net ban`), or add others by `network.bootstrap`.",
    ),
    Alert(
        "UnchainedWalletBehind",
        "unchained_wallet_scan_lag > 10",
        "5m",
        "warning",
        600,
        "A wallet has not read the last anchors: its balance is old.",
        "The scan is slower than the chain, or fails.",
        "`wallet.not_followed` in the log; `unchained-node wallet list`.",
        "A first scan takes its time. One that fails: make room on the disk, or restore the wallet "
        "from its words.",
    ),
    Alert(
        "UnchainedLogDropped",
        "increase(unchained_log_dropped_total[5m]) > 0 "
        "or increase(unchained_log_failed_total[5m]) > 0",
        "0m",
        "warning",
        600,
        "The log has lost events.",
        "Its queue was full, or the disk did not take them.",
        "`log.dropped` in the log; the disk; the terminal that the node prints to.",
        "Make room; lower the level (`unchained-node node log-level info`); do not print to a "
        "terminal that stands still.",
    ),
    Alert(
        "UnchainedBanStorm",
        "increase(unchained_peers_bans_total[10m]) > 10",
        "0m",
        "warning",
        900,
        "More than ten groups of peers were banned in ten minutes.",
        "An attack, or a version that breaks rules and is widespread - which may be yours.",
        "`peer.banned` in the log: which rule, which addresses?",
        "One rule and many honest addresses: compare versions with others at once, since you may "
        "be about to fork. Otherwise the bans do their work.",
    ),
    Alert(
        "UnchainedServiceRestarts",
        "increase(unchained_service_restarts_total[15m]) > 2",
        "0m",
        "warning",
        1_200,
        "A service of the node fails again and again.",
        "It was restarted more than twice in a quarter of an hour.",
        "`service.failed` in the log, with the traceback.",
        "Report it with that event. The rest of the node goes on.",
    ),
    Alert(
        "UnchainedNotReady",
        "unchained_ready == 0",
        "10m",
        "warning",
        900,
        "The node has not been ready for ten minutes.",
        "One of the criteria of `/readyz` is not met.",
        "`curl http://127.0.0.1:8645/readyz`, `unchained-node doctor`: which one, and by how much.",
        "As the criterion says; a first sync is no fault.",
    ),
)
"""All alerts."""


def rules() -> str:
    """Return the file of rules, as Prometheus reads it."""
    lines = [
        "# Generated by `python -m unchained.node.observe.alerts`; do not edit.",
        "groups:",
        "  - name: unchained",
        "    rules:",
    ]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {_quoted(alert.expr)}",
            f"        for: {alert.hold}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {_quoted(alert.summary)}",
            f"          runbook: {_quoted(alert.page)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def runbook(alert: Alert) -> str:
    """Return the page of an alert."""
    return (
        f"# {alert.name}\n\n"
        "Generated by `python -m unchained.node.observe.alerts`; do not edit.\n\n"
        f"**{alert.summary}** ({alert.severity})\n\n"
        f"```\n{alert.expr}\n```\n\n"
        f"It fires once this has held for {alert.hold}.\n\n"
        f"## What it means\n\n{alert.means}\n\n"
        f"## Where to look\n\n{alert.look}\n\n"
        f"## What to do\n\n{alert.do}\n"
    )


def write(root: Path) -> None:
    """Write rules and pages under the root of the project."""
    for path in (root / RULES_FILE, root / RUNBOOKS / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (root / RULES_FILE).write_text(rules(), encoding="utf-8")
    for alert in ALERTS:
        (root / alert.page).write_text(runbook(alert), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
