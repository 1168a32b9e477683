"""How a schedule is shown: scenes, drawings, the explorer, and other formats."""
