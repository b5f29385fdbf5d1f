"""compare: did the curriculum help? Arms, seeds, and the statistics of their comparison."""
