"""Mining: epochs and their templates, whom coins pay, what was found, what governs the miner."""
