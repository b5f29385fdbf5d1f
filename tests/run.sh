#!/usr/bin/env bash
# Lint, types, doctests, tests. Sets itself up: uses the active environment, or makes .venv in the repository.
#
#   bash tests/run.sh                       everything
#   bash tests/run.sh tests/method/test_pacing.py  the checks, and only these tests (any pytest arguments)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source tests/environment.sh

ruff check .
ruff format --check .
mypy
workers=()
if python -c 'import xdist' 2>/dev/null; then
    workers=(-n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=1) # the sequence is that of tests/conftest.py
fi
if [ -n "${CI:-}" ]; then # which draws alike each time: the property tests look further, with a seed of their own
    seed=$(python -c 'import secrets; print(secrets.randbits(32))')
    fresh=(-m hypothesis --hypothesis-profile=fresh --hypothesis-seed="$seed")
    echo "property tests with a fresh seed; to repeat them: python -m pytest ${*:-tests} ${fresh[*]}"
    python -m pytest -q "${workers[@]}" "${@:-tests}" "${fresh[@]}" || [ $? -eq 5 ] # 5: there is none among the tests asked for
fi
exec python -m pytest -q "${workers[@]}" "$@"
