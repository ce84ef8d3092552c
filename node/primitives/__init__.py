"""Values of the protocol and their bytes: hashes, codec, coins, bodies, transfers."""
