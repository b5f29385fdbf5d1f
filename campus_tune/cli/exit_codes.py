"""What a command's exit code says: written here once, for the commands and their help."""

from __future__ import annotations

from campus_tune.words.errors import INTERRUPTED

DONE = 0
FOUND = 1
WRONG = 2

MEANINGS = {
    DONE: "done",
    FOUND: "the answer is no, nothing was found, or a crash",
    WRONG: "wrong usage or input, which the message names",
    INTERRUPTED: "Ctrl-C",
}
"""By code; commands on many processes end with the code of the process that failed first."""
