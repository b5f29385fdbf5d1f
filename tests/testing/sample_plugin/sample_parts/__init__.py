"""A metric, a pacing, a selector, a thinner and a weight for campus_tune: a package of somebody else."""
