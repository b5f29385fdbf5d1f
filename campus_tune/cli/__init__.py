"""cli: the command line: a file for each command, `main` lists them, `options` is what they share."""
