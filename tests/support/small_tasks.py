"""A problem that an evaluation grades quickly."""

from fim_training.evaluation.humaneval_infilling import Task

DOUBLE = Task(
    task_id="SingleLineInfilling/Test/0/L0",
    entry_point="double",
    prompt="def double(x):\n",
    suffix="",
    canonical_solution="    return 2 * x\n",
    test="def check(candidate):\n    assert candidate(3) == 6\n",
)
