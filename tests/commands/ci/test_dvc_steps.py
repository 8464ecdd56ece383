from pipeline.commands.ci.dvc_steps import parse_outcomes

OUTPUT = """Stage 'acquire' didn't change, skipping
Stage 'split' is cached - skipping run, checking out outputs
Running stage 'train':
> python -m pipeline.stages.train
Running stage 'evaluate':
"""


def test_the_outcome_of_each_stage_is_parsed() -> None:
    outcomes = parse_outcomes(OUTPUT.splitlines(keepends=True))
    assert (outcomes.ran, outcomes.restored) == (("train", "evaluate"), ("split",))
    assert outcomes.describe() == "ran train, evaluate; restored split; 1 up to date"


def test_a_run_without_work_is_described() -> None:
    first, second, *_ = OUTPUT.splitlines()
    assert parse_outcomes([first]).describe() == "nothing to do: every stage is up to date"
    sentence = parse_outcomes([first, second]).describe()
    assert sentence == "ran nothing; restored split; 1 up to date"
