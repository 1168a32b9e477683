"""How: a spec as a graph of PyTensor's, plain or fused, and the backends that run it."""
