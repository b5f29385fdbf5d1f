"""scores: one number per row: what each metric gave each row, how it was asked, and where it is kept."""
