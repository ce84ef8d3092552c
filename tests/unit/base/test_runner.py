"""How a process runs its work: what the garbage collector looks through, and when."""

from __future__ import annotations

import gc

from unchained.node.base.runner import freeze_imports, freeze_made, rest_collector


def test_the_collector_looks_through_everything_before_the_event_loop_runs_alone() -> None:
    """A full collection of what a node has imported held the loop up for 100 ms at its start."""
    full: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            full.append(phase)

    was_enabled = gc.isenabled()
    gc.callbacks.append(note)
    try:
        rest_collector()
        assert not gc.isenabled()
        freeze_imports()
        assert len(full) == 1
        frozen = gc.get_freeze_count()
        kept = [[] for _ in range(1000)]
        freeze_made()
        assert gc.get_freeze_count() >= frozen + len(kept)
        assert gc.isenabled()
        assert len(full) == 1
    finally:
        gc.callbacks.remove(note)
        gc.unfreeze()
        if was_enabled:
            gc.enable()
