"""Every YAML file composes and binds; every setting has a type, a range and an owner."""

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from synthweight.config import bind, compose, overrides, schema
from synthweight.config.schema import CONF, SWEEPS
from synthweight.errors import UserError
from synthweight.sweeps import grid

ROOTS = {"config.yaml", "generate.yaml", "prompt.yaml"}
FILES = sorted(p.relative_to(CONF) for p in CONF.rglob("*.yaml") if str(p.relative_to(CONF)) not in ROOTS)
ASKING = [file for file in FILES if file.parts[0] == "generator"]  # read by `generate` and `prompt` alone
NEEDS = {
    "dataset/local.yaml": ["dataset.path=d"], "source/file.yaml": ["source.path=p"],
    "generator/local.yaml": ["generator.model=m"], "generator/local_base.yaml": ["generator.model=m"],
}  # fmt: skip
LAST = {"source/small_real.yaml", "source/mixed.yaml"}


@pytest.mark.parametrize("file", [file for file in FILES if file not in ASKING], ids=str)
def test_every_file_composes_and_binds(file):
    overrides = [
        f"{file.parent}={file.stem}",
        *NEEDS.get(str(file), []),
        *(["selection=last"] if str(file) in LAST else []),
    ]
    with compose.offline(CONF):
        run = compose.Composer("config").run(overrides)
    assert isinstance(run, schema.Run)
    chosen = getattr(run, str(file.parent), None)
    name = getattr(chosen, "split", None) if file.parent.name == "selection" else getattr(chosen, "name", file.stem)
    assert name == file.stem


@pytest.mark.parametrize("file", ASKING, ids=str)
def test_every_generator_and_template_composes_and_binds_with_both_roots(file):
    overrides = [f"{file.parent}={file.stem}", *NEEDS.get(str(file), [])]
    with compose.offline(CONF):
        for root in ("generate", "prompt"):
            composer = compose.Composer(root)
            settings = composer.generate(overrides) if root == "generate" else composer.prompt(overrides)
            chosen = settings.generator if file.parent.name == "generator" else settings.generator.prompt
            assert chosen.name == file.stem


@pytest.mark.parametrize("dataset", bind.choices("dataset"))
def test_every_dataset_has_a_template(dataset):
    with compose.offline(CONF):
        settings = compose.Composer("prompt").prompt([f"dataset={dataset}", *NEEDS.get(f"dataset/{dataset}.yaml", [])])
    assert settings.generator.prompt.name == dataset
    words = settings.generator.prompt.words
    assert settings.dataset.labels is None or set(words) == set(settings.dataset.labels)
    assert words is None or len({word[:1] for word in words.values()}) > 1


@pytest.mark.parametrize("root", sorted(ROOTS))
def test_the_grammar_is_short(root):
    assert len((CONF / root).read_text().splitlines()) <= 35


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_sweeps_header_holds_its_number_of_jobs(file):
    """All jobs are counted; of each choice of groups one is composed and bound (`plan` does all)."""
    said = int(file.read_text().split("Jobs: ")[1].split()[0])
    with compose.offline(SWEEPS):
        composer = compose.Composer(file.stem)
        jobs = grid.expand(grid.blocks_of(composer), [])
        kinds = {tuple(o for o in job if not o.startswith(("seed=", "dataset="))): job for job in jobs}
        for job in kinds.values():
            composer.job(job)
    assert len(jobs) == said


BAD = {
    "dataset=imdb": r"dataset=imdb: unknown; there are financial, hyperbole, local, mrpc",
    "loss=hinge": r"loss=hinge: unknown; there are ce, dimp, filter, focal, hu, imp, quality_only, ren, rho, sungen",
    "model=gpt5": r"model=gpt5: unknown; there are bert_base",
    "source=web": r"source=web: unknown; there are file, large_real",
    "los=ce": r"los: .*did you mean loss\?",
    "optim.lrr=1": r"optim\.lrr: .*did you mean optim\.lr\?",
    "loss.gama=1": r"loss\.gama: .*",
    "seed=-1": r"seed must be .* is -1",
    "seed=zero": r"seed: Value 'zero'",
    "seed=1.5": r"seed: Value '1\.5'",
    "optim.epochs=0": r"optim\.epochs must be at least 1, is 0",
    "optim.lr=-1": r"optim\.lr must be above 0",
    "optim.lr=fast": r"^optim\.lr: Value 'fast'",
    "trainer.padding=perhaps": r"^trainer\.padding: Value 'perhaps' is not a valid bool",
    "optim.batch_size=0": r"optim\.batch_size",
    "trainer.precision=16": r"trainer\.precision must be one of 32, bf16-mixed, 64-true, is '16'",
    "trainer.devices=0": r"trainer\.devices must be at least 1, is 0",
    "trainer.checkpoint=always": r"trainer\.checkpoint must be epoch or off, is 'always'",
    "selection.split=best": r"selection\.split must be one of dprime, holdout, last",
    "selection.holdout=1": r"selection\.holdout",
    "source.n=0": r"source\.n must be at least 1",
    "checker.quality.share=0": r"checker\.quality\.share",
    "checker.quality.source=web": r"checker\.quality\.source",
    "source.folds=0": r"source\.folds must be at least 1, is 0",
    "source.folds=5": r"source\.folds must be 1 where source\.fold names none",
    "source.fold=0": r"source\.fold must be one of 0 to source\.folds - 1",
    "checker.diversity.folds=0": r"checker\.diversity\.folds must be at least 1",
    "checker.calibration_folds=1": r"checker\.calibration_folds must be at least 2",
    "weighting.clip=-1": r"weighting\.clip must be above 0",
    "weighting.clip=nan": r"weighting\.clip must be above 0",
    "weighting.self_normalise=2.5": r"weighting\.self_normalise: Value '2\.5'",
    "weighting.clipp=1": r"weighting\.clipp: .*did you mean weighting\.clip\?",
    "dataset=local": r"dataset\.path has no value: give dataset\.path=…",
    "dataset.hub.path=x": r"dataset\.hub",
    "+foo=1": r"\+foo=1: settings are neither added nor deleted",
    "+los=imp": r"did you mean loss\?",
    "++sed=3": r"did you mean seed\?",
    "+optim.foo=3": r"neither added nor deleted",
    "~loss": r"neither added nor deleted",
    "loss.name=imp": r"loss\.name=imp: the name follows the choice: use loss=imp",
    "trainer.accelerator=foo": r"trainer\.accelerator must be one of auto, cpu",
    "dataset.path=/a b,c=d": r"need quotes within",
    "seed=": r"seed",
    "seed": r"not an override of the form key=value",
}


@pytest.mark.parametrize("override", BAD)
def test_bad_settings_name_their_key_in_one_line(override):
    with compose.offline(CONF), pytest.raises(UserError, match=BAD[override]) as caught:
        compose.Composer("config").run([override])
    assert "\n" not in str(caught.value)


def test_focal_with_a_negative_gamma():
    with compose.offline(CONF), pytest.raises(UserError, match=r"loss\.gamma must be at least 0, is -1"):
        compose.Composer("config").run(["loss=focal", "loss.gamma=-1"])


def test_combinations_that_make_no_sense(bound):
    with pytest.raises(UserError, match="choose the epoch of source=small_real on its own training set"):
        bound("source=small_real", "selection=dprime")
    with pytest.raises(UserError, match="choose the epoch of source=mixed"):
        bound("source=mixed")
    with pytest.raises(UserError, match="every weight 1"):
        bound("source=small_real", "selection=last", "loss=imp")
    with pytest.raises(UserError, match="every weight 1"):
        bound("source=small_real", "selection=last", "loss=imp", "checker.diversity.folds=5")
    with pytest.raises(UserError, match=r"source\.fold must be one of"):
        bound("source.folds=5", "source.fold=5")
    for folds in ("checker.diversity.folds=2", "checker.diversity.calibrate=true"):
        with pytest.raises(UserError, match="a fold of a fold"):
            bound("source.folds=5", "source.fold=0", "loss=imp", folds)
        assert bound("source.folds=5", "source.fold=0", "loss=dimp", folds).source.fold == 0  # has no diversity checker


def test_an_ablation_that_hides_a_loss_is_refused(bound):
    assert bound("ablation=no_diversity_checker").loss.name == "quality_only"
    with pytest.raises(UserError, match="ablation=rho_selection sets loss=rho and the command line loss=imp"):
        bound("ablation=rho_selection", "loss=imp")
    with pytest.raises(UserError, match="ablation=no_diversity_checker sets loss=quality_only and the command line loss=imp"):
        bound("ablation=no_diversity_checker", "loss=imp")


def test_a_copy_with_values_set_equals_hydras_own_composition(settings):
    """100 random jobs: the quick way of `plan` against Hydra itself."""
    import random

    rng = random.Random(0)
    axes = {
        "loss": ["ce", "focal", "imp", "dimp"], "source": ["synthetic", "large_real", "mixed"], "seed": range(5),
        "model": ["minilm", "bert_base"], "optim.lr": ["1e-4", "3e-4"], "source.n": ["null", "10"],
        "selection": ["last", "holdout"], "checker.quality.model": ["null", "minilm"], "dataset.path": ["'a, b'", "c"],
        "dataset.sha256.test": ["null", "abc"], "dataset.labels": ["[x,y]", "null"], "trainer.keep_model": ["true"],
        "weighting.clip": ["null", "2"], "ablation": ["clipped_weights"],
    }  # fmt: skip
    with compose.offline(CONF):
        composer = compose.Composer("config")
        for _ in range(100):
            keys = rng.sample(sorted(axes), k=rng.randint(1, len(axes)))
            job = [f"{key}={rng.choice(list(axes[key]))}" for key in keys]
            job += [f"loss={rng.choice(axes['loss'])}"] * rng.randint(0, 1)  # a choice given twice: the last one counts
            own = hydra_compose("config", overrides=[*composer.extra, *job])
            assert OmegaConf.to_container(composer.config(job)) == OmegaConf.to_container(own), job
        assert len(composer.bases) < 100


def test_bound_by_the_quick_way_a_job_is_what_hydra_and_omegaconf_make_of_it(settings):
    """100 random jobs of `plan`: shapes are bound once, values set in dataclasses; equal to binding Hydra's composition."""
    import random

    rng = random.Random(1)
    axes = {
        "loss": ["ce", "focal", "imp", "dimp"], "source": ["synthetic", "large_real"], "seed": range(50),
        "model": ["minilm", "bert_base"], "optim.lr": ["1e-4", "3e-4", "1"], "source.n": ["null", "10", "x"],
        "selection": ["last", "holdout"], "checker.quality.model": ["null", "minilm"], "dataset.path": ["'a, b'", "c"],
        "dataset.sha256.test": ["null", "abc"], "trainer.keep_model": ["true", "false"], "optim.epochs": ["2", "3.0", "0"],
        "dataset.labels": ["[x,y]"],
    }  # fmt: skip
    quick = 0
    with compose.offline(CONF):
        composer = compose.Composer("config")
        for _ in range(100):
            keys = rng.sample(["seed", "optim.lr", "loss", "source.n"], k=3) + rng.sample(sorted(axes), k=rng.randint(0, 2))
            job = [f"{key}={rng.choice(list(axes[key]))}" for key in dict.fromkeys(keys)]
            try:
                own = bind.bind(hydra_compose("config", overrides=[*composer.extra, *job]))
            except Exception:
                with pytest.raises(UserError):
                    composer.run(job)
                continue
            assert composer.run(job) == own, job
            parsed = overrides.parse(job)
            values = [o for o in parsed if not overrides.is_group(o)]
            quick += composer.binder.run(overrides.choices_of(parsed), values) == own
    assert quick > 40


def test_a_value_that_others_are_made_from_is_left_to_omegaconf(tmp_path):
    (tmp_path / "own.yaml").write_text("defaults: [config, _self_]\noptim: {batch_size: '${seed}'}\n")
    with compose.offline(tmp_path):
        composer = compose.Composer("own")
        assert [composer.run([f"seed={n}"]).optim.batch_size for n in (3, 4, 5)] == [3, 4, 5]


def test_a_runs_overrides_compose_the_same_run(bound, settings):
    for job in (
        ["loss=focal", "loss.gamma=2"],
        ["source=small_real", "selection=last", "selection.reserve=0.25"],
        ["model.name=mine", "dataset.name=reviews", "dataset.labels=[a,b]"],
        ["dataset=mrpc", "dataset.hub=null", "source=noisy", "corruption.swapped=0.4"],
        ["source.folds=5", "source.fold=2", "weighting.clip=2", "weighting.self_normalise=true"],
        ["loss=imp", "checker.quality.calibrate=true", "checker.diversity.folds=3", "checker.calibration_folds=4"],
        ["loss=filter", "loss.threshold=0.25", "corruption=noisy"],
        ["dataset.path='a b, c'", "optim.name=own", "optim.lr=1e-5"],
    ):
        run = bound(*job)
        with compose.offline(CONF):
            composer = compose.Composer("config")
            assert composer.run(composer.overrides(run)) == run


def test_an_ablation_changes_what_its_name_says(bound):
    plain = bound("loss=imp")
    changed = {
        "clipped_weights": lambda run: run.weighting.clip == pytest.approx(run.optim.batch_size**0.5, abs=0.1),
        "self_normalised_weights": lambda run: run.weighting.self_normalise,
        "temperature_scaled_quality_checker": lambda run: run.checker.calibrated("quality"),
        "cross_fitted_diversity_checker": lambda run: run.checker.folds("diversity") == 5,
    }
    for name, holds in changed.items():
        run = bound("loss=imp", f"ablation={name}", "optim.batch_size=32")
        assert holds(run)
        assert not holds(plain)
        assert run.loss == plain.loss
    assert bound("ablation=filter_instead_of_weights").loss.name == "filter"
    assert bound("ablation=rho_selection").loss.name == "rho"


def test_schemas_are_no_choices():
    with compose.offline(CONF):
        assert "schema" not in {p.name for p in CONF.iterdir()}


def test_bind_leaves_nothing_untyped(bound):
    run = bound("loss=focal")
    assert (type(run.loss).__name__, type(run.optim).__name__, type(run.checker.quality).__name__) == (
        "Focal",
        "Optim",
        "Quality",
    )
