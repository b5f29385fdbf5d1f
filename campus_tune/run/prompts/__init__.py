"""prompts: a run that is driven by reward: which prompts the trainer's own model answers, and what became of it."""
