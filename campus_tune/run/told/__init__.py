"""told: who tells of a run: the ledger's companions, a person's lines, trackers, the model card."""
