"""One training as a run would make it, and how two trainings compare."""

from pathlib import Path

import pytest


def material_of(job):
    """All that one training is made of, as `run` would make it; the checkers' scores are drawn."""
    import numpy as np

    from synthweight.data import sources
    from synthweight.data.tokenization import tokenize
    from synthweight.models import pretrained
    from synthweight.training import trainer

    material, folder = sources.build_run_data(job), pretrained.locate(job.model)

    def split(examples):
        tokens = tokenize(folder, pretrained.fingerprint(job.model), examples, job.optim.max_length, Path(job.paths.cache))
        return tokens, material.targets(examples)

    rng = np.random.default_rng(0)
    scores = {role: np.log(rng.uniform(0.1, 1, len(material.train))).astype(np.float32) for role in sorted(job.loss.needs)}
    series = {"selection": split(material.selection), "test": split(material.test)}
    return trainer.Training.of(
        job, folder, material.labels, split(material.train), series,
        scores=scores, select=True, keep_state=True, dev=split(material.dev),
    )  # fmt: skip


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
    torch.testing.assert_close(one.network.state_dict(), two.network.state_dict(), rtol=tolerance, atol=tolerance)
    assert (one.selected, one.guard_hits) == (two.selected, two.guard_hits)
    assert "test" in one.epochs[one.selected].metrics
    for fitted in (one, two):
        assert next(fitted.network.parameters()).dtype == torch.float64


class Stopped(Exception):
    pass


def stopped_at(training, checkpoints, epoch, said=None):
    """The training until it has finished this epoch, counted from 1, and no further."""
    from synthweight.training import trainer

    def stop(number, _):
        if number + 1 == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        trainer.fit(training, stop, (said if said is not None else []).append, checkpoints=checkpoints)
