"""run: one run inside the trainer: from the first look at the training set to the last line."""
