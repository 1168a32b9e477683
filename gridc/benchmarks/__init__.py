"""gridc beside its limit and its peers, and beside its own predictions."""
