"""An array of examples, knowing no spec."""
