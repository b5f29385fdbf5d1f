"""`campus-tune init`: from rows and a model to a recipe that can be trained, asked for or by flags."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from campus_tune.cli.answer import Answer
from campus_tune.cli.options import COMMANDS, Commands, add_command, held_out
from campus_tune.cli.probes import add_rows, as_document
from campus_tune.words.errors import RecipeError

EXAMPLE = """\
Looks at your rows, says what they are and what is odd about them, converts them where TRL would not train them as they
are (Alpaca, ShareGPT, questions and answers), cuts probes and test rows off them, and writes a recipe with a comment
behind each line that you may want to change. In a terminal it asks for what no flag says; --yes takes what is
likeliest. Nothing is written over.

example:
  campus-tune init
  campus-tune init --model HuggingFaceTB/SmolLM2-135M-Instruct --data rows.jsonl --out recipe.yaml --yes
"""
RECIPE = "recipe.yaml"
NO_GROUPS = "none"
FEWEST_TO_JUDGE = 30  # test rows that `compare` asks for


def add_parser(commands: Commands) -> None:
    """Add `init` to the commands of `campus-tune`."""
    kept = "No recipe was written; the same command begins anew."
    parser = add_command(commands, "init", COMMANDS["init"], EXAMPLE, main, interrupted=kept)
    parser.add_argument("--model", metavar="NAME", help="a folder or a hub id")
    add_rows(parser)
    parser.add_argument("--out", type=Path, metavar="YAML", help="the recipe; its rows go into a folder beside it")
    parser.add_argument("--full", action="store_true", help="train all weights, not an adapter (LoRA)")
    parser.add_argument("--yes", action="store_true", help="ask nothing: what no flag says is as it is likeliest")


def main(options: argparse.Namespace) -> Answer:
    """Write a recipe and its rows, and say what to run next.

    Raises:
        RecipeError: nobody can be asked for what no flag says.
    """
    asking = not (options.yes or options.json) and at_terminal()
    ask = _ask if asking else _refuse
    model = options.model or ask("--model", "the model, a folder or a hub id", "")
    data = options.data or ask("--data", "the rows, a file, a folder or a hub id", "")
    out = options.out or Path(ask("--out", "the recipe to write", RECIPE) if asking else RECIPE)

    from campus_tune.data.plain import load_rows
    from campus_tune.data.split import PROBES, TEST, part_files, quotas, refuse_written, split, write_parts
    from campus_tune.preview.first_look import first_look, lengths_in_words
    from campus_tune.preview.first_recipe import Machine, first_recipe, next_steps
    from campus_tune.words.files import atomic_write

    folder = out.with_name(f"{out.stem}-data")
    refuse_written([out, *part_files(folder).values()], "--out")
    look = first_look(data, load_rows(data, config=options.data_config, split=options.split), options.domain_column)
    print(*look.sentences(), sep="\n")
    if asking and options.domain_column is None:
        look = look.with_column(ask("--domain-column", "the column of the domains, or none", look.column or NO_GROUPS))
    tokens, counted, troubles = look.count_tokens(model)
    findings = [*troubles, *look.findings()]
    print(f"lengths: {lengths_in_words(tokens, counted)}", *findings, sep="\n")

    probes, test, n_of = options.probes, options.test, look.domains.counts(len(look.rows))
    if asking and probes is None:
        usual = quotas(PROBES, None, n_of).sum()
        probes = _ask_number("--probes", "probes to hold out, rows or a share; 0 for none", str(usual))
    if test is None and quotas(TEST, None, n_of).sum() < FEWEST_TO_JUDGE:
        test = 0
        print(f"no test rows: a comparison asks for {FEWEST_TO_JUDGE}, too many of so few rows (--test holds them out)")
    if test is None and not look.judges:
        test = 0
        print("no test rows: a comparison asks for rows that tell an answer from what is asked")
    cut = split(look.texts, look.said.prompts, look.domains, probes=probes, test=test, seed=options.seed)
    machine = Machine.here(model)  # takes seconds: nothing is written yet if it is interrupted
    files = write_parts(folder, look.written, cut)
    made = first_recipe(
        look,
        model=model,
        machine=machine,
        tokens=tokens if counted == "tokens" else None,
        files=files,
        cut=cut,
        recipe=out,
        lora=not options.full,
    )
    atomic_write(out, made)
    print(*cut.sentences(), f"wrote {', '.join([*files.values(), str(out)])}", "next:", sep="\n")
    steps = next_steps(out, judged=bool(len(cut.test)))
    print(*(f"  {what:<9}{command}" for what, command in steps), sep="\n")
    told = {"recipe": out, "model": model, "counted": counted, "longest": tokens.max(), "next": dict(steps)}
    return Answer({**as_document(look, cut, files), "findings": [*map(str, findings)], **told})


def at_terminal() -> bool:
    """A person reads and can answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _ask(flag: str, what: str, default: str) -> str:
    """What a person answers; the default for an empty line.

    Raises:
        RecipeError: the input ended.
    """
    while True:
        try:
            answer = input(f"{what}{f' [{default}]' if default else ''}: ").strip() or default
        except EOFError:
            raise RecipeError(
                f"`{flag}` must be answered, or given as a flag, got the end of the input. Write {flag} and {what}."
            ) from None
        if answer:
            return answer


def _ask_number(flag: str, what: str, default: str) -> float:
    """The same, until it is a number of rows or a share."""
    while True:
        try:
            return held_out(_ask(flag, what, default))
        except argparse.ArgumentTypeError as error:
            print(error)


def _refuse(flag: str, what: str, default: str) -> str:
    """Nobody is there to be asked."""
    del default
    raise RecipeError(
        f"`{flag}` must be given where nobody is asked (no terminal, or --yes), got nothing. Write {flag} and {what}."
    )
