"""The rules that every node must agree on, as pure functions (Protocol §3-§8, §10)."""
