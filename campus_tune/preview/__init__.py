"""preview: what can be said before a step is trained: `check`, `simulate`, the health of scores, the bill."""
