"""gridc: a symbolic graph compiler for Grid LSTMs."""
