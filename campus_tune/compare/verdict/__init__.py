"""verdict: the arithmetic of a verdict: arrays in, a word with its numbers out, and no files. Start at `verdict.judge`.

inputs          an arm's finished runs as arrays          misfits     why two arms bear no comparison
bootstrap       how sure a mean over seeds and items is   difference  an arm against another, and one of four words
judgement       an arm at the end of training             speed       how much sooner it got there, by domain too
pair            two arms and one measure                  ablation    what leaving a domain out did to each
readings        generalisation gap and sharpness beside it      equal_tokens  rewards at equal generated tokens
verdict         all arms: what `verdict.json` holds       power       what could be found, before anything is trained
sentences, console_lines                                  all of it in words
"""

from campus_tune.compare.verdict.ablation import (
    ABLATION_WORDS,
    Ablation,
    AblationPart,
    Effect,
    graph_of,
    judge_ablation,
    times_its_error,
)
from campus_tune.compare.verdict.ablation_text import ablation_lines, ablation_sentences
from campus_tune.compare.verdict.bootstrap import VarianceParts
from campus_tune.compare.verdict.console_lines import lines
from campus_tune.compare.verdict.difference import HELPED, HURT, WORDS
from campus_tune.compare.verdict.equal_tokens import AtEqualTokens
from campus_tune.compare.verdict.inputs import (
    FINISHED,
    GAP,
    GROWN,
    LOSS,
    REWARD,
    ArmResults,
    Curve,
    ItemValues,
    arm_of,
    measure_of,
)
from campus_tune.compare.verdict.judgement import Judgement
from campus_tune.compare.verdict.power import Power, from_difference, from_pilot, speed_from_pilot
from campus_tune.compare.verdict.sentences import rows_of
from campus_tune.compare.verdict.speed import Speed, judge_speed
from campus_tune.compare.verdict.verdict import EFFECT, Verdict, judge

__all__ = [
    "ABLATION_WORDS",
    "EFFECT",
    "FINISHED",
    "GAP",
    "GROWN",
    "HELPED",
    "HURT",
    "LOSS",
    "REWARD",
    "WORDS",
    "Ablation",
    "AblationPart",
    "ArmResults",
    "AtEqualTokens",
    "Curve",
    "Effect",
    "ItemValues",
    "Judgement",
    "Power",
    "Speed",
    "VarianceParts",
    "Verdict",
    "ablation_lines",
    "ablation_sentences",
    "arm_of",
    "from_difference",
    "from_pilot",
    "graph_of",
    "judge",
    "judge_ablation",
    "judge_speed",
    "lines",
    "measure_of",
    "rows_of",
    "speed_from_pilot",
    "times_its_error",
]
