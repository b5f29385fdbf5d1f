"""Where does it pay? Situations × recipes × seeds, each run through the product; start at `python -m eval.situations`.

*.yaml      a situation each: base, rows, what is planted, epochs, arms, seeds, and whether it tunes or judges
situation   such a file, read and checked
rows        the rows of one seed, which of them are wrong, and the test rows
bases       the models that every run begins with, and how they are trained
real_text   rows of shared/data for two of them, and what the tiny one has read
arms        recipes, controls and oracles by name
named       every recipe of `recipes/` as an arm, with its control      made_first   what some of them need before
peers       TRL as it comes, DataFlex's own classes (`dataflex`), in a trainer that they drive (`driven`)
runs        one run: a result as `campus-tune compare` writes it

judged      from the runs of a situation to what they say, by the arithmetic of `compare`; `gains` of the oracle's gain
honest      is the table honest? Simulated tables of which the truth is known
kept        a folder of runs, judged and corrected over the whole table
targets     what was aimed at, and what came of it       transfer   do two bases rank the arms alike?
table       all of it as Markdown      page   as a page      evidence   as the package reads it
"""
