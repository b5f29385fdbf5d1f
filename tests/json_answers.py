"""What a command answers with `--json`: one document on standard output, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from campus_tune.cli.main import in_full, main, make_parser
from campus_tune.cli.parser import CommandParser


def answer(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    """The document of a command.

    Args:
        capsys: pytest's.
        words: of the command line, `--json` left out.
        code: the exit code that it must end with.
    """
    capsys.readouterr()
    typed = [*map(str, words), "--json"]
    assert main(typed) == code
    document = json.loads(capsys.readouterr().out)
    parser = make_parser(typed).parse_known_args(in_full(typed))[0].parser
    assert isinstance(parser, CommandParser)
    assert "more" in parser.keys or set(document) <= set(parser.keys), "a key that --help-all does not tell"
    return document
