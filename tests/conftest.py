"""What every test runs under: no network, one thread, and hypothesis without a stopwatch."""

from __future__ import annotations

import os

# before anything imports torch or transformers, for a plain `pytest` as for tests/run.sh
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "campus_tune",
    max_examples=60,
    deadline=None,  # a busy machine is not a bug
    derandomize="CI" in os.environ,  # what CI checks today it checks tomorrow; at home every run looks further
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("campus_tune")
