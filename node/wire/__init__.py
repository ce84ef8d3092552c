"""Messages between peers and their limits, without I/O (Protocol §11)."""
