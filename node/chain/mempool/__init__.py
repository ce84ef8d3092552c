"""Transfers that wait for an anchor."""
