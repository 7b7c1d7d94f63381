"""``archive-crypt audit-memory``: what is left of keys and texts in the memory of a running server."""
