"""scores: one number per row: how each metric is asked (start at `asking`), what it gave, and where it is kept."""
