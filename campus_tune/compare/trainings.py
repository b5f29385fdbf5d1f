"""Makes runs, on this process's bench or side by side, and keeps those that are finished.

A comparison has one of these, and so has each command that trains the same recipe many times: on some of the rows
(`ablate`, `value`), or with other settings (`search`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from campus_tune.compare.folder import refuse_other_block, refuse_other_rows
from campus_tune.compare.plan import Plan
from campus_tune.compare.processes import Processes, plans_of_processes
from campus_tune.compare.result_file import LOG, read_run_result, run_folder
from campus_tune.compare.task import Task
from campus_tune.words.errors import CampusError
from campus_tune.words.types import Json


class Makes(Protocol):
    """What makes a run in this process: a `Bench`."""

    def make(self, task: Task) -> Json:
        """The run's result, as it is in its file."""
        ...


class Trainings:
    """The runs of one plan.

    Args:
        plan: what they share: the recipe, the test rows, the folder.
        check: called before the first run and after each; raises what shall end it there.
    """

    def __init__(self, plan: Plan, check: Callable[[], object] = lambda: None) -> None:
        self.plan, self.check = plan, check
        plans = plans_of_processes(plan)
        self.processes = Processes(plans) if plans else None

    def there(self, task: Task) -> Json | None:
        """The result of a run that is finished already; None where it is to be made.

        Raises:
            RecipeError: it is that of other settings, other rows or other steps, which are named.
            DataError: it cannot be read.
        """
        outcome = read_run_result(self.plan.out, task.name, task.seed)
        if outcome is not None:
            arm = self.plan.arm(task.arm) if isinstance(task.arm, str) else task.arm
            refuse_other_block(arm, task.seed, outcome, self.plan.out, task.recorded)
            refuse_other_rows(task, outcome, self.plan.out)
        return outcome

    def make(self, tasks: Sequence[Task], bench: Makes | None) -> Iterator[tuple[Task, Json]]:
        """Each run with its result, as they end.

        Args:
            tasks: none of which is there already.
            bench: of this process; None is enough where runs have processes of their own.

        Raises:
            CampusError: a run cannot be made; those that are finished are kept. A model that diverges is a result.
        """
        self.check()
        begun: Iterator[tuple[Task, Callable[[], Json]]]
        if self.processes is not None:
            begun = ((task, future.result) for task, future in self.processes.run(tasks))
        else:
            assert bench is not None or not tasks
            begun = ((task, partial(bench.make, task)) for task in tasks if bench is not None)
        for task, result in begun:
            try:
                outcome = result()
            except Exception as error:
                log = run_folder(self.plan.out, task.name, task.seed) / LOG
                why = str(error) or type(error).__name__
                raise CampusError(
                    f"`{task.name}`, seed {task.seed}, cannot be trained: {why}\nIts log: {log}"
                ) from error
            yield task, outcome
            self.check()

    def all_of(self, tasks: Sequence[Task], bench: Makes | None) -> Iterator[tuple[Task, Json]]:
        """Each run with its result: those that are there first, then the others as they end.

        Args:
            tasks: that are asked for.
            bench: of this process; None is enough where runs have processes of their own.

        Raises:
            CampusError: a run cannot be made, or one that is there is another.
        """
        missing = []
        for task in tasks:
            outcome = self.there(task)
            if outcome is None:
                missing.append(task)
            else:
                yield task, outcome
        yield from self.make(missing, bench)

    def close(self) -> None:
        """End all processes, with the runs in them that nobody waits for any more."""
        if self.processes is not None:
            self.processes.close()
