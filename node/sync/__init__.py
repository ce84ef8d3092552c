"""Catching up with the network: a pure planner and the service that follows it."""
