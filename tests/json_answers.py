"""What a command answers with `--json`: one document on standard output, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from campus_tune.cli.main import main


def answer(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    """The document of a command.

    Args:
        capsys: pytest's.
        words: of the command line, `--json` left out.
        code: the exit code that it must end with.
    """
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)
