"""Data as people have it, text and tasks, as arrays for a spec."""
