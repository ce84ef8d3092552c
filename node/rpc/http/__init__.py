"""The HTTP server: listener, who may call, events, health."""
