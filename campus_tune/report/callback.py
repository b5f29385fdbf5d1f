"""The callback that users take: the run's, and at its end the page that shows what was trained.

The run stands below the report and knows nothing of it. Here the report is handed down, for a script, a notebook and
`campus-tune sft` alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.model.probes import Source
from campus_tune.recipe.config import CampusConfig
from campus_tune.run import callback
from campus_tune.run.attach import put_on
from campus_tune.run.told import log_plots
from campus_tune.words.console import say

if TYPE_CHECKING:
    from transformers import Trainer


class CampusCallback(callback.CampusCallback):  # of the same name: transformers finds a checkpoint's state by it
    """Trains a curriculum: `SFTTrainer(…, callbacks=[CampusCallback("recipes/campus.yaml", probes="probes.jsonl")])`.

    In TRL's `GRPOTrainer` and `RLOOTrainer` it is a curriculum of prompts, drawn by what their rewards show.

    Everything else of the script stays as it is, `trainer.train(resume_from_checkpoint=True)` included. What the run
    decided, measured and cost is in `output_dir/curriculum/`, and `report.html` in it shows it.

    Args:
        config: a recipe file (its `campus:` block counts), that block as a mapping, or `CampusConfig(…)`. None is an
            empty block: rows are shuffled, and those that look wrong count less, and are left out from half of
            the run on, once the run shows that some are.
        probes: held-out rows that the curriculum is steered by: a path or paths to JSON lines, a Dataset with a
            domain column, or a mapping domain → Dataset. None takes the recipe's.
        report: write `report.html` and its pictures when training has ended, a second or two, and hand the pictures to
            the trackers. Without it, `campus-tune report output_dir` does whenever it is wanted.
        quiet: tell nothing but warnings while the trainer trains; the ledger is the same.

    Raises:
        RecipeError: problems in the settings, all at once.

    Reference:
        CAMPUS, arXiv 2509.13790.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, object] | CampusConfig | None = None,
        *,
        probes: Source = None,
        report: bool = True,
        quiet: bool = False,
    ) -> None:
        super().__init__(config, probes=probes, quiet=quiet)
        if report:
            self.reports.append(report_on)


def attach(
    trainer: Trainer,
    config: str | Path | Mapping[str, object] | CampusConfig | None = None,
    *,
    probes: Source = None,
    report: bool = True,
    quiet: bool = False,
) -> CampusCallback:
    """Put a curriculum on a trainer that is already made: `campus_tune.attach(trainer, "recipes/campus.yaml")`.

    Args:
        trainer: a `transformers.Trainer` or `trl.SFTTrainer` whose `train()` was not called yet.
        config: a recipe file, its `campus:` block as a mapping, or settings; None is an empty block.
        probes: held-out rows: a path, a Dataset with a domain column, or a mapping domain → Dataset.
        report: as for `CampusCallback`.
        quiet: as for `CampusCallback`.

    Returns:
        The `CampusCallback` that was added to the trainer.

    Raises:
        RecipeError: problems in the settings, all at once.
        TrainerError: a trainer under which a planned order would not be trained.
    """
    added = CampusCallback(config, probes=probes, report=report, quiet=quiet)
    put_on(trainer, added)
    return added


def report_on(trainer: Trainer) -> None:
    """Write the page of a finished run and hand its pictures to the trackers. A failure is told: the run is whole.

    Args:
        trainer: that has trained, in the process that leads.
    """
    from campus_tune.report import write

    folder = trainer.args.output_dir
    try:
        page = write.write_report(str(folder))
        log_plots(trainer, write.pngs(page))
    except KeyboardInterrupt:  # somebody does not want to wait for it: what was trained is still to be saved
        say(f"warning: no report (interrupted). campus-tune report {folder}")
    except Exception as error:  # of plotting, of a full disk
        say(f"warning: no report ({type(error).__name__}: {error}). campus-tune report {folder}")
    else:
        say(f"the report: {page}")
