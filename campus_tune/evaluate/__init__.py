"""evaluate: the bridge to lm-eval: official tasks for live models and checkpoints, online or from a folder of data."""
