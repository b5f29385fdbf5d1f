"""data: rows, before and after preparation: a user's files, TRL's shapes, tokens, domains, probes and held-out rows."""
