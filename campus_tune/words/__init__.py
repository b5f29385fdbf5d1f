"""words: what all parts share and nothing of the curriculum: types, errors, files, hashes, and how things are said."""
