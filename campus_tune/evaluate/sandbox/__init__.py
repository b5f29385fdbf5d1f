"""sandbox: runs a program that a model wrote, and judges it. Knows nothing of the rest."""
