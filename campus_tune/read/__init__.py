"""read: a finished run, read back."""
