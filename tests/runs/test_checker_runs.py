"""Which runs a run's checkers are."""

from synthweight.data import sources
from synthweight.runs.checker_runs import checker_run
from synthweight.runs.identity import identify


def test_a_holdout_is_kept_from_the_quality_checker(bound):
    run = bound("loss=dimp", "selection=holdout")
    quality = checker_run(run, "quality")
    assert quality.selection.split == "last"
    trained = {e.id for e in sources.build_run_data(quality).train}
    held = {e.id for e in sources.build_run_data(run).selection}
    assert held
    assert not trained & held
    assert len(trained | held) == 45


def test_the_quality_checker_of_mixed_sees_the_real_examples_that_the_run_sees(bound):
    run = bound("source=mixed", "source.n=30", "source.real_n=15", "loss=dimp")
    quality = checker_run(run, "quality")
    real = {e.id for e in sources.build_run_data(run).train if e.id.startswith("small_real")}
    assert {e.id for e in sources.build_run_data(quality).train} == real
    assert identify(quality).id == identify(bound("source=small_real", "source.real_n=15")).id
    part = checker_run(
        bound("source=mixed", "source.real_n=20", "loss=dimp", "checker.quality.share=0.5"), "quality"
    )
    assert part.source.n == 10
    large = checker_run(
        bound("source=mixed", "source.real_n=15", "loss=dimp", "checker.quality.source=large_real"), "quality"
    )
    assert large.source.real_n is None


def test_checkers_of_other_encoders_and_shares(bound):
    run = bound("loss=imp", "checker.quality.model=bert_base", "checker.diversity.recipe=mpnet_base")
    quality = checker_run(run, "quality")
    assert (quality.model.name, quality.optim.name, quality.optim.lr) == ("bert_base", "bert_base", 6e-5)
    diversity = checker_run(run, "diversity")
    assert (diversity.model, diversity.optim.name, diversity.source.name) == (
        run.model,
        "mpnet_base",
        "synthetic",
    )
    part = checker_run(bound("loss=dimp", "checker.quality.share=0.2", "checker.quality.epochs=5"), "quality")
    assert (part.source.n, part.epochs) == (9, 5)
    rounded = checker_run(bound("loss=dimp", "checker.quality.share=0.35"), "quality")
    assert rounded.source.n == 16  # of 45: 15.75
    large = checker_run(
        bound("loss=dimp", "checker.quality.source=large_real", "checker.quality.epochs=5"), "quality"
    )
    assert (large.source.name, large.epochs, large.selection.split) == ("large_real", 5, "last")


def test_noise_in_the_synthetic_set_does_not_reach_the_quality_checker(bound):
    clean, noisy = (identify(bound("loss=imp", f"corruption.swapped={share}")) for share in (0.0, 0.3))
    assert noisy.checkers["quality"].id == clean.checkers["quality"].id
    assert noisy.checkers["diversity"].id != clean.checkers["diversity"].id
