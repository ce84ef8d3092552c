"""Real processes and real disks, tortured: `scripts/torture` (docs/testing.md)."""
