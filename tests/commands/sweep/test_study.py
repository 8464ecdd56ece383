import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from pipeline.commands.sweep import search_space, study
from pipeline.commands.sweep.goal import Goal
from pipeline.params import Params

EPOCHS = 30


def test_no_trial_is_pruned_in_the_first_fifth_of_the_epochs(params: Params) -> None:
    space = search_space.parse(["train.lr=interval(0.1,0.2)"], params)
    created = study.create_study(space, Goal.VAL_LOSS, EPOCHS, [])
    good = create_trial(
        value=0.1,
        params={"train.lr": 0.1},
        distributions={"train.lr": FloatDistribution(0.1, 0.2)},
        intermediate_values=dict.fromkeys(range(1, EPOCHS + 1), 0.1),
    )
    created.add_trials([good] * study.RANDOM_TRIALS)
    bad = created.ask()
    pruned_at = []
    for epoch in range(1, EPOCHS + 1):
        bad.report(1.0, epoch)
        if bad.should_prune():
            pruned_at.append(epoch)
    assert pruned_at[0] == EPOCHS // 5 + 1
    created.tell(bad, state=optuna.trial.TrialState.PRUNED)
