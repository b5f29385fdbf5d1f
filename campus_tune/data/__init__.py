"""data: rows, before and after preparation: a user's files, tokens, domains, probes and held-out rows."""
