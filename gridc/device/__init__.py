"""The sweep as a function of JAX, for GPUs and other devices."""
