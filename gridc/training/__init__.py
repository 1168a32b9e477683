"""Optimisers, metrics, checkpoints, and the loop that uses them."""
