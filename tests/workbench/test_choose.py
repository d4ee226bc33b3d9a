"""The forecast: what a step costs, and which plan fits a budget."""

import numpy as np

from synthweight.reporting.significance import Difference
from synthweight.workbench import choose
from synthweight.workbench.read import Columns, read_all
from synthweight.workbench.workspace import METHODS, Workspace


def test_the_forecast_times_the_training_itself(inputs, tmp_path, monkeypatch):
    data = read_all(inputs["real"], inputs["synthetic"], None, Columns(), False)
    workspace = Workspace(tmp_path, inputs["model"], 0, inputs["overrides"])
    run = workspace.run(METHODS["ce"], choose.Folds(workspace, data, 2).datasets[0])
    jobs, fit = [], choose.fit

    def watched(job, clock):
        jobs.append(job)
        return fit(job, clock)

    monkeypatch.setattr(choose, "fit", watched)
    assert 0 < choose.seconds_per_example(data, run) < 1
    (job,) = jobs
    assert (job.strategy, job.optim, job.trainer) == (run.loss, run.optim, run.trainer)
    assert len(job.train[1]) == choose.PROBE_STEPS * run.optim.batch_size
    assert set(np.unique(job.train[1])) <= set(range(len(data.labels)))
    assert list(tmp_path.rglob("*.pt")) == []  # no checkpoint, no row
    assert workspace.store.ids() == set()


def test_the_best_is_told_apart_by_corrected_tests():
    def candidate(name, score, p):
        return choose.Candidate(name, "", score, 0.0, 1.0, Difference(0.9 - score, 0, 0, p, 9.0, 0.1), {})

    def choice(*p_values):
        others = [candidate(f"m{i}", 0.5, p) for i, p in enumerate(p_values)]
        return choose.Choice("m0", "accuracy", 5, 50, (*others, candidate("top", 0.9, 1.0)))

    assert choice(0.2, 0.009, 0.3, 0.4, 0.5).told_apart
    assert not choice(0.2, 0.011, 0.3, 0.4, 0.5).told_apart
