"""One fit at toy size, with folds and a test set, that the tests of this folder look at."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from synthweight.workbench import api

SETTINGS = (
    "optim.epochs=2",
    "optim.epochs_small_real=3",
    "optim.lr=0.005",
    "optim.batch_size=16",
    "optim.max_length=32",
    "trainer.accelerator=cpu",
)


@pytest.fixture(scope="session")
def inputs(toy, tiny, tmp_path_factory):
    """The arguments of `fit` for the toy benchmark: two folds, a test set, and one candidate that drops."""
    return {
        "real": toy / "small_real.jsonl",
        "synthetic": toy / "synthetic.jsonl",
        "test": toy / "test.jsonl",
        "model": str(tiny),
        "folds": 2,
        "drop": [25],
        "work": tmp_path_factory.mktemp("work"),
        "overrides": SETTINGS,
    }


@pytest.fixture(scope="session")
def fitted(inputs, tmp_path_factory) -> SimpleNamespace:
    """`model`: what `fit` returned; `steps`: the names of its trainings, in their order."""
    folder: Path = tmp_path_factory.mktemp("fitted") / "my_model"
    return SimpleNamespace(model=api.fit(**inputs, out=folder), work=inputs["work"])
