"""model: asking a model: what it loses on which rows, which one it is, and how to leave it as it was."""
