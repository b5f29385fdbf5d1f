"""sandbox: runs a program that a model wrote, and judges it. Knows nothing of the rest.

Start at `sandbox.run_program`; the two sides are `judge` and `judged`.
"""

from campus_tune.evaluate.sandbox.isolation import Limits, ProgramResult
from campus_tune.evaluate.sandbox.sandbox import SandboxError, probe, run_many, run_program, sandbox_kind

__all__ = ["Limits", "ProgramResult", "SandboxError", "probe", "run_many", "run_program", "sandbox_kind"]
