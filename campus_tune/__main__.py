"""`python -m campus_tune …`, which `accelerate launch -m campus_tune …` uses too."""

import sys

from campus_tune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
