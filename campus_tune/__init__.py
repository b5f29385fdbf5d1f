"""campus_tune: curriculum instruction tuning for the Hugging Face Trainer and TRL.

    from campus_tune import CampusCallback
    trainer = SFTTrainer(model, args=config, train_dataset=train, callbacks=[CampusCallback("recipes/campus.yaml")])

Its rooms, of which each opens only those below it (`tests/test_layers.py`); `demo` opens `words` alone:

      demo       material for a first run: graded tasks, a real small model, a tiny random one
      cli        the command line, a file for each command
      read       a finished run, read back
      report     the pages that a person looks at
      compare    did it help? `verdict` is the arithmetic
      run        one run inside the trainer; `stream` the rows' path, `prompts` by reward, `told` who tells
      preview    before a step is trained: check, simulate, the health of scores, the bill
      evaluate   official tasks by lm-eval; `sandbox` runs what a model wrote
      scores     one number per row: how it is asked for, and where it is kept
      model      asking a model, and leaving it as it was
      recipe     YAML → frozen settings, or all that is wrong
      testing    checks for parts of your own
      metrics    what makes a row hard, a card each
      data       rows: files, shapes, tokens, domains, probes
      method     what is trained next, in numpy: start here
      words      what all share: types, errors, files, hashes, wording

Importing this package loads none of its rooms and no library; each of its names is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from campus_tune.method.curriculum import Curriculum, Schedule
    from campus_tune.preview.check import RecipeCheck, check_recipe
    from campus_tune.read.compared import ComparisonResult, open_comparison, run_comparison
    from campus_tune.read.opened_run import OpenedRun, open_run
    from campus_tune.recipe.config import CampusConfig, load_recipe
    from campus_tune.report.callback import CampusCallback, attach
    from campus_tune.words.errors import CampusError

__version__ = "0.3.0"
__all__ = [
    "CampusCallback",
    "CampusConfig",
    "CampusError",
    "ComparisonResult",
    "Curriculum",
    "OpenedRun",
    "RecipeCheck",
    "Schedule",
    "attach",
    "check_recipe",
    "load_recipe",
    "open_comparison",
    "open_run",
    "run_comparison",
]

_HOMES = {
    "CampusCallback": "report.callback",
    "CampusConfig": "recipe.config",
    "CampusError": "words.errors",
    "ComparisonResult": "read.compared",
    "Curriculum": "method.curriculum",
    "OpenedRun": "read.opened_run",
    "RecipeCheck": "preview.check",
    "Schedule": "method.curriculum",
    "attach": "report.callback",
    "check_recipe": "preview.check",
    "load_recipe": "recipe.config",
    "open_comparison": "read.compared",
    "open_run": "read.opened_run",
    "run_comparison": "read.compared",
}


def __getattr__(name: str) -> Any:
    """A public name, from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'campus_tune' has no attribute {name!r}")
    return getattr(import_module(f"campus_tune.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What a shell completes: the public names too that were not used yet."""
    return sorted({*globals(), *__all__})
