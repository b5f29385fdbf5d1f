"""A metric, a pacing and a selector for campus_tune: a package of somebody else."""
