"""The chain of one node: the single writer of its state, its fork choice, its mempool."""
