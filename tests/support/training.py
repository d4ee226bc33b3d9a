"""One training as a run would make it, and how two trainings compare."""

import dataclasses
import logging

import pytest

from synthweight.training.reporter import RunReporter


def training_job(run):
    """A run's training as `runs` would make it, selected by D_P'; the checkers' scores are drawn."""
    import numpy as np

    from synthweight.data import sources
    from synthweight.models import pretrained
    from synthweight.runs.tokens import tokenize_for
    from synthweight.training.job import TrainingJob

    data, folder = sources.build_run_data(run), pretrained.locate(run.model)

    def split(examples):
        return tokenize_for(run, examples), data.targets(examples)

    rng = np.random.default_rng(0)
    scores = {
        role: np.log(rng.uniform(0.1, 1, len(data.train))).astype(np.float32)
        for role in sorted(run.loss.needs)
    }
    series = {"selection": split(data.selection), "test": split(data.test)}
    job = TrainingJob.from_run(run, folder, data.labels, split(data.train), series)
    return dataclasses.replace(job, scores=scores, select=True, keep_state=True, dev=split(data.dev))


def equal(one, two, tolerance=1e-9):
    """Two trainings in fp64, of the same run: the same to nine digits, or as many as asked."""
    import numpy as np
    import torch

    for a, b in zip(one.epochs, two.epochs, strict=True):
        np.testing.assert_allclose(a.weights, b.weights, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=tolerance)
        assert a.log_probs.keys() == b.log_probs.keys()
        for name, log_probs in a.log_probs.items():
            np.testing.assert_allclose(log_probs, b.log_probs[name], rtol=1e-6)
            assert a.metrics[name]["accuracy"] == b.metrics[name]["accuracy"]
    torch.testing.assert_close(
        one.network.state_dict(), two.network.state_dict(), rtol=tolerance, atol=tolerance
    )
    assert (one.selected, one.guard_hits) == (two.selected, two.guard_hits)
    assert "test" in one.epochs[one.selected].metrics
    for fitted in (one, two):
        assert next(fitted.network.parameters()).dtype == torch.float64


class StoppedError(Exception):
    pass


@dataclasses.dataclass
class RecordingReporter(RunReporter):
    """Keeps the messages and the epochs' numbers; raises after an epoch where it is asked to."""

    stop_after: int | None = None
    messages: list[str] = dataclasses.field(default_factory=list)
    numbers: list[int] = dataclasses.field(default_factory=list)

    def log(self, message, level=logging.INFO):
        self.messages.append(message)

    def epoch_finished(self, number, epochs, epoch):
        self.numbers.append(number)
        if number == self.stop_after:
            raise StoppedError


def fit_until(job, checkpoints, epoch):
    """Trains until this epoch, counted from 1, is finished, and no further; gives the messages."""
    from synthweight.training.trainer import fit

    reporter = RecordingReporter(stop_after=epoch)
    with pytest.raises(StoppedError):
        fit(job, reporter, checkpoints)
    return reporter.messages
