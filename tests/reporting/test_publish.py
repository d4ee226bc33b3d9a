"""What is committed is what the rows give: a changed number, a missing row, a stray file are found."""

import pytest

from synthweight.config.schema import ROOT
from synthweight.errors import UserError
from synthweight.reporting import plotting, publish
from synthweight.reporting.render import Column, Table
from synthweight.runs import run


def test_marked_tables_are_written_and_checked(tmp_path):
    document = tmp_path / "README.md"
    block = "# t\n<!-- tables demo seed=range(0,2) -->\nold 1.0\n<!-- /tables -->\nend\n"
    document.write_text(block + block)
    claims = tmp_path / "claims.yaml"
    requested = []

    def table(command):
        requested.append(command)
        return Table([Column("a")], [["2.0"]])

    with pytest.raises(UserError, match="not what the rows give: synthweight tables --write"):
        publish.update_document(document, table, claims, write=False)
    publish.update_document(document, table, claims, write=True)
    assert (
        document.read_text()
        == 2 * "# t\n<!-- tables demo seed=range(0,2) -->\n| a |\n|---|\n| 2.0 |\n<!-- /tables -->\nend\n"
    )
    publish.update_document(document, table, claims, write=False)
    assert set(requested) == {"demo seed=range(0,2)"}
    (tmp_path / "none.md").write_text("nothing")
    with pytest.raises(UserError, match=r"none\.md: no <!-- tables"):
        publish.update_document(tmp_path / "none.md", table, claims, write=False)
    with pytest.raises(UserError, match=r"gone\.md: no such document"):
        publish.update_document(tmp_path / "gone.md", table, claims, write=False)


@pytest.fixture
def published(tmp_path, settings):
    """A sweep of two finished runs, published as a table in two documents and in files, and as a figure."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, _self_]\n"
        "report: {figures: [weights, distribution]}\nhydra:\n  mode: MULTIRUN\n  sweeper:\n"
        "    blocks: [{loss: 'ce,focal', seed: 0}]\n"
    )
    values = [s for s in settings if not s.startswith(("logger", "dataset="))]
    command = " ".join([str(path), *values, "optim.epochs=1"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "published.yaml").write_text(
        f"documents: [a.md, b.md]\ntables:\n  small: {command}\nfigures:\n  two: {command}\n"
    )
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(f"<!-- tables {command} -->\n<!-- /tables -->\n")
    file, overrides, _ = publish.split_command(command)
    plan = publish.sweep_report(file, *overrides).plan
    for job in plan.jobs:
        run.train(job.identity.run)
    listed = publish.Published.read(tmp_path / "out")
    assert [p.name for p in listed.write_tables()] == ["a.md", "b.md", "small.md", "small.tex", "small.csv"]
    for stem, line, chart in listed.charts():
        plotting.write_figure(chart, listed.folder / "figures", stem, line)
    return listed, plan.store, [job.id for job in plan.rows]


def test_what_is_committed_is_checked(published):
    listed, store, ids = published
    files = sorted(p.name for part in ("tables", "figures") for p in (listed.folder / part).iterdir())
    assert files == [
        "small.csv", "small.md", "small.tex", "two-distribution.csv", "two-distribution.png",
        "two-distribution.svg", "two.csv", "two.png", "two.svg",
    ]  # fmt: skip
    assert (listed.folder / "tables" / "small.md").read_text().startswith("`synthweight tables ")
    assert (listed.folder / "tables" / "small.tex").read_text().startswith("% synthweight tables ")
    assert b"synthweight figures" in (listed.folder / "figures" / "two.svg").read_bytes()
    listed.check()
    assert str(listed) == "2 document(s), 1 table(s) and 1 figure(s)"

    for name in ("tables/small.tex", "figures/two.csv", "../b.md"):
        path = listed.folder / name
        kept = path.read_text()
        digit = next(c for c in reversed(kept) if c.isdigit())
        place = kept.rindex(digit)
        path.write_text(kept[:place] + str((int(digit) + 1) % 10) + kept[place + 1 :])
        with pytest.raises(UserError, match=f"{path.name}: .*not .*what the rows give: synthweight"):
            listed.check()
        path.write_text(kept)
    picture = listed.folder / "figures" / "two-distribution.png"
    kept_bytes = picture.read_bytes()
    picture.unlink()
    with pytest.raises(UserError, match=r"two-distribution\.png: not drawn from what the rows give"):
        listed.check()
    picture.write_bytes(kept_bytes)
    stray = listed.folder / "tables" / "mine.md"
    stray.write_text("| 1 |\n")
    with pytest.raises(UserError, match=r"mine\.md: not on the list .*published\.yaml"):
        listed.check()
    stray.unlink()
    store.json_path(ids[1]).unlink()
    with pytest.raises(
        UserError, match=rf"1 of 2 runs have no row, first {ids[1]} \(local synthetic focal seed 0\)"
    ):
        listed.check()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "tables: {}\nother: {}",
        "tables: {a/b: demo}",
        "tables: {a: }",
        "tables: [demo]",
        "documents: README.md",
    ],
)
def test_a_malformed_list_is_named(tmp_path, text):
    (tmp_path / "published.yaml").write_text(text)
    with pytest.raises(UserError, match=r"published\.yaml: "):
        publish.Published.read(tmp_path)


def test_an_empty_list_publishes_nothing(tmp_path):
    (tmp_path / "published.yaml").write_text("tables: {}\n")
    publish.Published.read(tmp_path).check()


def test_every_document_with_a_marked_table_is_listed():
    listed = publish.Published.read(ROOT / "outputs")
    marked = [
        p
        for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        if publish.MARKER.search(p.read_text())
    ]
    assert {str(p.relative_to(ROOT)) for p in marked} == set(listed.documents)


def test_a_published_command_has_one_option():
    assert publish.split_command("demo seed='range(0,2)' --partial") == ("demo", ["seed=range(0,2)"], True)
    with pytest.raises(UserError, match="--check cannot be published"):
        publish.split_command("demo --check")


def test_an_unknown_kind_of_table_or_figure_is_named(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "defaults: [config, _self_]\nreport: {table: pie}\nhydra: {mode: MULTIRUN, sweeper: {blocks: [{seed: 0}]}}\n"
    )
    with pytest.raises(UserError, match="no table, figure or metric pie; there are results, timing"):
        publish.sweep_report(str(path))


def test_a_sweep_without_figures_says_so():
    with pytest.raises(UserError, match="demo: its file names no figure"):
        publish.make_charts("demo", ["seed=0"], "demo")


def test_a_table_shows_the_metrics_and_the_joined_sweeps_that_are_asked_for(published, tmp_path):
    command = published[0].tables["small"].split()
    whole = publish.make_table(command[0], command[1:])
    one = publish.make_table(command[0], [*command[1:], "report.metrics=[macro_f1]"])
    assert [c.title for c in one.columns] == [c.title for c in whole.columns if c.title != "accuracy"]
    assert [line[-1] for line in one.lines] == [line[-1] for line in whole.lines]
    assert publish.sweep_report("main").joined
    assert not publish.sweep_report("main", "report.join=[]").joined
    for wrong, said in (("report.metrics=[auc]", "no table, figure or metric auc; there are accuracy, macro_f1"),
                        ("report.pie=1", r"report\.pie: no such setting")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            publish.sweep_report(command[0], *command[1:], wrong)
