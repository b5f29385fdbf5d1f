"""prompts: a run that is driven by reward: which prompts the trainer's own model answers, and what became of it."""

from campus_tune.run.prompts.prompt_run import PromptRun

__all__ = ["PromptRun"]
