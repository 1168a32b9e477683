"""A sweep on an NVIDIA GPU as kernels of our own."""
