"""report: the pages a person looks at: one self-contained `report.html` for a run, one for a comparison of recipes."""
