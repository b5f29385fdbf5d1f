"""stream: the path of the rows: what the trainer is handed, and what became of it."""
