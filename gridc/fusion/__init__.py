"""The fused sweep: cells as compiled kernels, and the machine that drives them over a program."""
