"""When: the steps of a grid, their order, what it costs and what would change it."""
