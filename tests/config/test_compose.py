"""From overrides to settings and back."""

import random

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from synthweight.config import compose
from synthweight.config.schema import CONF
from synthweight.errors import UserError


def test_a_copy_with_values_set_equals_hydras_own_composition(settings):
    """40 random jobs: the quick way of `plan` against Hydra itself."""
    rng = random.Random(0)
    axes = {
        "loss": ["ce", "focal", "imp", "dimp"], "source": ["synthetic", "large_real", "mixed", "noisy"], "seed": range(5),
        "model": ["minilm", "bert_base"], "optim.lr": ["1e-4", "3e-4"], "source.n": ["null", "10"],
        "selection": ["last", "holdout"], "checker.quality.model": ["null", "minilm"], "dataset.path": ["'a, b'", "c"],
        "dataset.sha256.test": ["null", "abc"], "dataset.labels": ["[x,y]", "null"], "trainer.keep_model": ["true"],
        "weighting.clip": ["null", "2"], "ablation": ["clipped_weights"],
    }  # fmt: skip
    with compose.offline(CONF):
        composer = compose.Composer("config")
        for _ in range(40):
            keys = rng.sample(sorted(axes), k=rng.randint(1, len(axes)))
            job = [f"{key}={rng.choice(list(axes[key]))}" for key in keys]
            # a choice given twice: the last one counts
            job += [f"loss={rng.choice(axes['loss'])}"] * rng.randint(0, 1)
            own = hydra_compose("config", overrides=[*composer.extra, *job])
            assert OmegaConf.to_container(composer.config(job)) == OmegaConf.to_container(own), job
        assert len(composer.bases) < 40


def test_a_value_that_others_are_made_from(tmp_path):
    (tmp_path / "own.yaml").write_text("defaults: [config, _self_]\noptim: {batch_size: '${seed}'}\n")
    with compose.offline(tmp_path):
        composer = compose.Composer("own")
        assert [composer.run([f"seed={n}"]).optim.batch_size for n in (3, 4, 5)] == [3, 4, 5]


def test_a_file_that_names_itself_is_one_line(tmp_path):
    (tmp_path / "own.yaml").write_text("defaults: [own, _self_]\n")
    with (
        compose.offline(tmp_path),
        pytest.raises(UserError, match="own: its defaults list names the file itself"),
    ):
        compose.Composer("own").run([])


def test_a_runs_overrides_compose_the_same_run(bound, settings):
    for job in (
        ["loss=focal", "loss.gamma=2"],
        ["source=small_real", "selection.reserve=0.25"],
        ["model.name=mine", "dataset.name=reviews", "dataset.labels=[a,b]"],
        ["dataset=mrpc", "dataset.hub=null", "source=noisy", "corruption.swapped=0.4"],
        ["source.folds=5", "source.fold=2", "weighting.clip=2", "weighting.self_normalise=true"],
        [
            "loss=imp",
            "checker.quality.calibrate=true",
            "checker.diversity.folds=3",
            "checker.calibration_folds=4",
        ],
        ["loss=filter", "loss.threshold=0.25", "corruption=noisy"],
        ["dataset.path='a b, c'", "optim.name=own", "optim.lr=1e-5"],
    ):
        run = bound(*job)
        with compose.offline(CONF):
            composer = compose.Composer("config")
            assert composer.run(composer.overrides(run)) == run
