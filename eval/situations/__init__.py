"""Where does it pay? Situations × recipes × seeds, each run through the product; start at `python -m eval.situations`.

*.yaml      a situation each: base, rows, what is planted, epochs, arms, seeds, and whether it tunes or judges
situation   such a file, read and checked
rows        the rows of one seed, which of them are wrong, and the test rows
bases       the models that every run begins with, and how they are trained
arms        recipes, controls and oracles by name
runs        one run: a result as `campus-tune compare` writes it
"""
