"""The HTTP server: listener, who may call, events, health."""

from unchained.node.base.deferred_modules import defer

# HTTP/2 and servers of Hypercorn's own, which the listener has no use for: 1 MB. Of the events of
# HTTP/2 Hypercorn's types name one.
defer(("hypercorn.protocol", "hypercorn.trio"), {"h2.events": ()})
