"""How a process runs its work: what the garbage collector looks through, and when."""

from __future__ import annotations

import gc

from unchained.node.base.runner import freeze_imports, freeze_made, rest_collector


def test_the_collector_never_looks_through_what_a_node_is_made_of() -> None:
    """A full collection of what a node has imported takes 100 ms, in which no thread runs."""
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
        frozen = gc.get_freeze_count()
        kept = [[] for _ in range(1000)]
        freeze_made()
        assert gc.get_freeze_count() >= frozen + len(kept)
        assert gc.isenabled()
        assert full == []
    finally:
        gc.callbacks.remove(note)
        gc.unfreeze()
        if was_enabled:
            gc.enable()
