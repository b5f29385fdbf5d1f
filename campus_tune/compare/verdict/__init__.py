"""verdict: the arithmetic of a verdict: arrays in, a word with its numbers out, and no files."""
