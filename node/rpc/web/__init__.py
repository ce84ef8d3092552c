"""The page: what a browser sees of the node."""
