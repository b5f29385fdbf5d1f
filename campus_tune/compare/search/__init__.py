"""search: which settings of the campus block are worth it, by trials that held-out rows rank. Start at `hunt.Hunt`.

settings    the `search:` block           space     what may be tried, and what of it goes together
sampler     which points are tried next   halving   how far each trial is trained, and which schedules allow that
hunt        the trials                    record    `search.json`
winner      is the best one better than luck: the rule by which there is none
rerun       the best one trained anew, by `compare`
"""

from campus_tune.compare.search.halving import Ladder, make_ladder
from campus_tune.compare.search.hunt import (
    RECIPE_SEEDS,
    Hunt,
    name_of,
    plan_of_trials,
    refuse_test_rows,
    shown_changes,
    trained_with,
)
from campus_tune.compare.search.record import SearchRecord, read_search, sampler_in
from campus_tune.compare.search.rerun import FOLDER, confirm, plan_of_best
from campus_tune.compare.search.sampler import refuse_nothing
from campus_tune.compare.search.settings import BLOCK, SearchSettings
from campus_tune.compare.search.space import Space, read_space
from campus_tune.compare.search.winner import Conclusion, Standing, conclude, promised

__all__ = [
    "BLOCK",
    "FOLDER",
    "RECIPE_SEEDS",
    "Conclusion",
    "Hunt",
    "Ladder",
    "SearchRecord",
    "SearchSettings",
    "Space",
    "Standing",
    "conclude",
    "confirm",
    "make_ladder",
    "name_of",
    "plan_of_best",
    "plan_of_trials",
    "promised",
    "read_search",
    "read_space",
    "refuse_nothing",
    "refuse_test_rows",
    "sampler_in",
    "shown_changes",
    "trained_with",
]
