"""testing: what every part promises, as checks that the author of a plug-in runs over their own.

Write a part in a package of yours, with a docstring that is its card:

>>> import numpy as np
>>> from campus_tune.method.pacing import PACINGS
>>> @PACINGS.register("two_steps")
... def two_steps(start: float = 0.5):
...     '''Half of the rows until half of the run, then all of them: `s(u) = s₁ for u < 0.5, else 1`.'''
...     return lambda u: np.where(u < 0.5, start, 1.0)

Tell campus_tune in your `pyproject.toml` which module registers it; from then on recipes say `pacing:
two_steps` wherever the package is installed:

    [project.entry-points."campus_tune.parts"]
    mine = "my_package.parts"

And let your tests ask whether it keeps what the rest of campus_tune relies on. A broken promise is a sentence:

>>> from campus_tune.testing import check_pacing
>>> check_pacing("two_steps")
>>> check_pacing({"name": "two_steps", "start": 1.5})
Traceback (most recent call last):
campus_tune.testing.promises.BrokenPromise: `two_steps` must give shares in (0, 1], never nothing, got 1.0 to 1.5.

`check_metric`, `check_selector`, `check_thinner` and `check_weight` do the same for the other kinds. In a script, a
part of your own is there as soon as it is registered: before `CampusCallback(…)` reads the recipe. A notebook's cell
that is run twice takes it out before:

>>> PACINGS.forget("two_steps")

A recipe says names and nothing else; no code that it names is executed.

What a run remembers: package and version of each plug-in whose parts it uses. A checkpoint of another version is
refused, with both versions; `campus: {resume: changed_future}` goes on under the new one on purpose.
"""

from campus_tune.testing.metrics import check_metric
from campus_tune.testing.pacings import check_pacing
from campus_tune.testing.promises import BrokenPromise
from campus_tune.testing.selectors import check_selector
from campus_tune.testing.thinners import check_thinner
from campus_tune.testing.weights import check_weight

__all__ = ["BrokenPromise", "check_metric", "check_pacing", "check_selector", "check_thinner", "check_weight"]
