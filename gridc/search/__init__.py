"""Many trainings of one page: what is searched, who trains what, and what came of it."""
