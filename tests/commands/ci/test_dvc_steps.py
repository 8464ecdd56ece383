from pipeline.commands.ci.dvc_steps import stages

SAID = """Stage 'acquire' didn't change, skipping
Stage 'split' is cached - skipping run, checking out outputs
Running stage 'train':
> python -m pipeline.train
Running stage 'evaluate':
"""


def test_what_became_of_each_stage_is_told() -> None:
    found = stages(SAID.splitlines(keepends=True))
    assert (found.ran, found.restored) == (("train", "evaluate"), ("split",))
    assert found.told() == "ran train, evaluate; restored split; 1 up to date"


def test_no_work_is_called_so() -> None:
    first, second, *_ = SAID.splitlines()
    assert stages([first]).told() == "nothing to do: every stage is up to date"
    assert stages([first, second]).told() == "computed nothing; restored split; 1 up to date"
