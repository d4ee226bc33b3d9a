"""Every YAML file composes and binds; every setting has a type, a range and an owner."""

from pathlib import Path

import pytest

from synthweight.config import bind, compose
from synthweight.config.schema import CONF, SWEEPS
from synthweight.errors import UserError
from synthweight.sweeps import grid

ROOTS = {"config.yaml", "generate.yaml", "prompt.yaml"}
HYDRAS = {"hydra", "experiment"}  # Hydra's own groups, and what is added with a plus
FILES = sorted(
    p.relative_to(CONF)
    for p in CONF.rglob("*.yaml")
    if p.parent != CONF and p.relative_to(CONF).parts[0] not in HYDRAS
)
OF_LLMS = [file for file in FILES if file.parts[0] == "generator"]  # read by `generate` and `prompt` alone
NEEDS = {
    "dataset/local.yaml": ["dataset.path=d"], "source/file.yaml": ["source.path=p"],
    "generator/local.yaml": ["generator.model=m"], "generator/local_base.yaml": ["generator.model=m"],
}  # fmt: skip


def test_the_roots_are_known():
    assert {p.name for p in CONF.glob("*.yaml")} == ROOTS


@pytest.mark.parametrize("file", [file for file in FILES if file not in OF_LLMS], ids=str)
def test_every_file_composes_and_binds(file):
    with compose.offline(CONF):
        run = compose.Composer("config").run([f"{file.parent}={file.stem}", *NEEDS.get(str(file), [])])
    chosen = getattr(run, str(file.parent), None)
    name = (
        getattr(chosen, "split", None)
        if file.parent.name == "selection"
        else getattr(chosen, "name", file.stem)
    )
    # minilm where there is no folder
    is_default = file in (Path("model/default.yaml"), Path("optim/default.yaml"))
    assert name == ("minilm" if is_default else file.stem)


@pytest.mark.parametrize("file", OF_LLMS, ids=str)
def test_every_generator_template_and_approach_composes_and_binds(file):
    overrides = [f"{file.parent}={file.stem}", *NEEDS.get(str(file), [])]
    with compose.offline(CONF):
        if file.parent.name == "approach":
            assert compose.Composer("generate").generate(overrides).approach.name == file.stem
            return
        for settings in (
            compose.Composer("generate").generate(overrides),
            compose.Composer("prompt").prompt(overrides),
        ):
            chosen = settings.generator if file.parent.name == "generator" else settings.generator.prompt
            assert chosen.name == file.stem


@pytest.mark.parametrize("name", bind.choices("experiment"))
def test_every_experiment_composes_and_binds(name):
    with compose.offline(CONF):
        run = compose.Composer("config").run([f"+experiment={name}"])
    if name == "paper":
        assert (run.model.name, run.optim.name, run.trainer.precision) == ("bert_base", "bert_base", "32")
    else:
        assert (run.model.name, run.dataset.name) == ("minilm", "product_reviews")


@pytest.mark.parametrize("dataset", bind.choices("dataset"))
def test_every_dataset_has_a_template(dataset):
    with compose.offline(CONF):
        settings = compose.Composer("prompt").prompt(
            [f"dataset={dataset}", *NEEDS.get(f"dataset/{dataset}.yaml", [])]
        )
    assert settings.generator.prompt.name == dataset
    words = settings.generator.prompt.words
    assert settings.dataset.labels is None or set(words) == set(settings.dataset.labels)
    assert words is None or len({word[:1] for word in words.values()}) > 1


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_sweeps_header_holds_its_number_of_jobs(file):
    """All jobs are counted; of each choice of groups one is composed and bound (`plan` does all)."""
    said = int(file.read_text().split("Jobs: ")[1].split()[0])
    with compose.offline(SWEEPS):
        composer = compose.Composer(file.stem)
        jobs = grid.expand(grid.blocks_of(composer), [])
        kinds = {tuple(o for o in job if not o.startswith(("seed=", "dataset="))): job for job in jobs}
        for job in kinds.values():
            composer.settings(job)
        for joined in composer.report().join:
            assert grid.find_sweep(joined).is_file()
    assert len(jobs) == said


BAD = {
    "dataset=imdb": r"dataset=imdb: unknown; there are financial, hyperbole, local, mrpc",
    "loss=hinge": r"loss=hinge: unknown; there are ce, dimp, filter, focal, hu, imp, quality_only, ren, rho, sungen",
    "model=gpt5": r"model=gpt5: unknown; there are bert_base",
    "source=web": r"source=web: unknown; there are file, large_real",
    "los=ce": r"^los: .*did you mean loss\?",
    "optim.lrr=1": r"optim\.lrr: .*did you mean optim\.lr\?",
    "loss.gama=1": r"loss\.gama: .*",
    "seed=-1": r"seed must be .* is -1",
    "seed=zero": r"^seed must be an integer, is 'zero'",
    "seed=1.5": r"^seed must be an integer, is 1\.5",
    "optim.epochs=0": r"optim\.epochs must be at least 1, is 0",
    "optim.lr=-1": r"optim\.lr must be above 0",
    "optim.lr=fast": r"^optim\.lr must be a number, is 'fast'",
    "trainer.padding=perhaps": r"^trainer\.padding must be true or false, is 'perhaps'",
    "optim.batch_size=0": r"optim\.batch_size",
    "optim.max_length=3": r"optim\.max_length must be 4 to 131072 tokens, is 3",
    "optim.max_length=1000000000": r"optim\.max_length must be 4 to 131072 tokens",
    "trainer.precision='16'": r"trainer\.precision must be one of 32, bf16-mixed, 64-true, is '16'",
    "trainer.devices=0": r"trainer\.devices must be at least 1, is 0",
    "trainer.checkpoint=always": r"trainer\.checkpoint must be epoch or off, is 'always'",
    "selection.split=best": r"selection\.split must be one of dprime, holdout, last",
    "selection.holdout=1": r"selection\.holdout",
    "source.n=0": r"source\.n must be at least 1",
    "source.real_n=0": r"source\.real_n must be at least 1, or null for all",
    "checker.quality.share=0": r"checker\.quality\.share",
    "checker.quality.source=web": r"checker\.quality\.source",
    "source.folds=0": r"source\.folds must be at least 1, is 0",
    "source.folds=5": r"source\.folds must be 1 where source\.fold names none",
    "source.fold=0": r"source\.fold must be one of 0 to source\.folds - 1",
    "checker.diversity.folds=0": r"checker\.diversity\.folds must be at least 1",
    "checker.calibration_folds=1": r"checker\.calibration_folds must be at least 2",
    "weighting.clip=-1": r"weighting\.clip must be above 0",
    "weighting.clip=nan": r"weighting\.clip must be above 0",
    "weighting.self_normalise=2.5": r"^weighting\.self_normalise must be true or false, is 2\.5",
    "weighting.clipp=1": r"weighting\.clipp: .*did you mean weighting\.clip\?",
    "dataset=local": r"dataset\.path has no value: give dataset\.path=…",
    "dataset.hub.path=x": r"dataset\.hub",
    "+foo=1": r"^foo: no such setting",
    "++sed=3": r"^sed: no such setting; did you mean seed\?",
    "+optim.foo=3": r"^optim\.foo: no such setting",
    "~loss": r"^loss=null: one is needed",
    "trainer.accelerator=foo": r"trainer\.accelerator must be one of auto, cpu",
    "seed=": r"seed",
    "seed": r"not an override of the form key=value",
    "loss=[ce,imp]": r"^loss takes one choice: -m sweeps several values \(loss=ce,imp\)",
    "loss=ce,imp": r"^loss=ce,imp: -m sweeps several values$",
    "seed=0,1": r"^seed=0,1: -m sweeps several values; one value with a comma is quoted",
    "seed=[0,1]": r"^seed must be an integer, is \[0, 1\]: -m sweeps several values \(seed=0,1\)",
    "optim=null": r"^optim=null: one is needed; there are bert_base",
    "dataset.labels=a": r"^dataset\.labels must be a list, is 'a'",
    "checker.quality=3": r"^checker\.quality",
    "checker.quality.model=default": r"^checker\.quality\.model must be null for the run's own, or a name, is 'default'",
    "checker.diversity.recipe=default": r"^checker\.diversity\.recipe must be null for the run's own, or a name, is 'default'",
    "model.hub=me/mine": r"^model\.hub=me/mine: model=minilm is its package .* looked up first: .* model\.path=FOLDER",
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
        bound("source=mixed", "selection=dprime")
    with pytest.raises(UserError, match="every weight 1"):
        bound("source=small_real", "loss=imp")
    with pytest.raises(UserError, match="every weight 1"):
        bound("source=small_real", "loss=imp", "checker.diversity.folds=5")
    with pytest.raises(UserError, match=r"source\.fold must be one of"):
        bound("source.folds=5", "source.fold=5")
    for folds in ("checker.diversity.folds=2", "checker.diversity.calibrate=true"):
        with pytest.raises(UserError, match="a fold of a fold"):
            bound("source.folds=5", "source.fold=0", "loss=imp", folds)
        # has no diversity checker
        assert bound("source.folds=5", "source.fold=0", "loss=dimp", folds).source.fold == 0


def test_an_ablation_that_hides_a_loss_is_refused(bound):
    assert bound("ablation=no_diversity_checker").loss.name == "quality_only"
    with pytest.raises(UserError, match="ablation=rho_selection sets loss=rho and the command line loss=imp"):
        bound("ablation=rho_selection", "loss=imp")
    with pytest.raises(
        UserError, match="ablation=no_diversity_checker sets loss=quality_only and the command line loss=imp"
    ):
        bound("ablation=no_diversity_checker", "loss=imp")


def test_a_source_with_dprime_in_it_brings_a_selection_that_fits(bound):
    for source in ("small_real", "mixed"):
        assert bound(f"source={source}").selection.split == "last"
        assert bound(f"source={source}", "selection=holdout").selection.split == "holdout"
        assert bound(f"source={source}", "ablation=honest_selection").selection.split == "holdout"
    assert bound("source=noisy").corruption.active
    assert bound("source=synthetic").selection.split == "dprime"


def test_an_ablation_changes_what_its_name_says(bound):
    plain = bound("loss=imp")
    changed = {
        "clipped_weights": lambda run: (
            run.weighting.clip == pytest.approx(run.optim.batch_size**0.5, abs=0.1)
        ),
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
