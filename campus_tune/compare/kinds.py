"""What a folder of many runs is: the file in it that says so. Known here without what writes it."""

COMPARISON, ABLATION, SHAPLEY, SEARCH = "compare.json", "ablation.json", "shapley.json", "search.json"
