"""Tables of what varies: cells, tasks, optimisers, schedules; nothing here runs a grid."""
