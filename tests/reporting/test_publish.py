"""What is committed is what the rows give: a changed number, a missing row, a stray file are found."""

import pytest

from synthweight.errors import UserError
from synthweight.reporting import plotting, publish
from synthweight.runs import run


def test_markers_are_written_and_checked(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# t\n<!-- tables demo seed=range(0,2) -->\nold 1.0\n<!-- /tables -->\nend\n")
    asked = []

    def table(command):
        asked.append(command)
        return "| 2.0 |\n"

    with pytest.raises(UserError, match="not what the rows give"):
        publish.readme(readme, table, write=False)
    publish.readme(readme, table, write=True)
    assert readme.read_text() == "# t\n<!-- tables demo seed=range(0,2) -->\n| 2.0 |\n<!-- /tables -->\nend\n"
    publish.readme(readme, table, write=False)
    assert asked[0] == "demo seed=range(0,2)"
    readme.write_text(readme.read_text().replace("2.0", "2.1"))
    with pytest.raises(UserError, match="tables --write"):
        publish.readme(readme, table, write=False)


@pytest.fixture
def listed(tmp_path, settings):
    """A sweep of two runs that are done, published as a table and a figure."""
    path = tmp_path / "small.yaml"
    path.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, _self_]\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    figures: [dynamics, distribution]\n"
        "    blocks: [{loss: 'ce,focal', seed: 0}]\n"
    )
    values = [s for s in settings if not s.startswith(("logger", "dataset="))]
    command = " ".join([str(path), *values, "optim.epochs=1"])
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "published.yaml").write_text(f"tables:\n  small: {command}\nfigures:\n  two: {command}\n")
    file, overrides, _ = publish.words(command)
    planned = publish.plan(file, *overrides).planned
    for job in planned.jobs:
        run.train(job.who.run)
    found = publish.Published.read(folder)
    found.write_tables()
    for stem, line, chart in found.drawn():
        plotting.write(chart, folder / "figures", stem, line)
    return found, planned.store, [job.who.id for job in planned.rows]


def test_what_is_committed_is_checked(listed, capsys):
    found, store, ids = listed
    files = sorted(p.name for part in ("tables", "figures") for p in (found.folder / part).iterdir())
    assert files == [
        "small.csv", "small.md", "small.tex", "two-distribution.csv", "two-distribution.png", "two-distribution.svg",
        "two.csv", "two.png", "two.svg",
    ]  # fmt: skip
    assert (found.folder / "tables" / "small.md").read_text().startswith("`synthweight tables ")
    assert (found.folder / "tables" / "small.tex").read_text().startswith("% synthweight tables ")
    assert b"synthweight figures" in (found.folder / "figures" / "two.svg").read_bytes()
    found.check()
    assert "1 table(s) and 1 figure(s) are what the rows give" in capsys.readouterr().out

    for name in ("tables/small.md", "tables/small.tex", "tables/small.csv", "figures/two.csv"):
        path = found.folder / name
        kept = path.read_text()
        digit = next(c for c in reversed(kept) if c.isdigit())
        place = kept.rindex(digit)
        path.write_text(kept[:place] + str((int(digit) + 1) % 10) + kept[place + 1 :])
        with pytest.raises(UserError, match=f"{path.name}: not .*what the rows give: synthweight"):
            found.check()
        path.write_text(kept)
    picture = found.folder / "figures" / "two-distribution.png"
    kept_bytes = picture.read_bytes()
    picture.unlink()
    with pytest.raises(UserError, match=r"two-distribution\.png: not drawn from what the rows give"):
        found.check()
    picture.write_bytes(kept_bytes)
    stray = found.folder / "tables" / "mine.md"
    stray.write_text("| 1 |\n")
    with pytest.raises(UserError, match=r"mine\.md: no line of .*published\.yaml makes it"):
        found.check()
    stray.unlink()
    store.json_path(ids[1]).unlink()
    with pytest.raises(UserError, match=rf"1 of 2 runs have no row, first {ids[1]} \(local synthetic focal seed 0\)"):
        found.check()


@pytest.mark.parametrize("text", ["[]", "tables: {}\nother: {}", "tables: {a/b: demo}", "tables: {a: }", "tables: [demo]"])
def test_a_bad_list_is_named(tmp_path, text):
    (tmp_path / "published.yaml").write_text(text)
    with pytest.raises(UserError, match=r"published\.yaml: "):
        publish.Published.read(tmp_path)


def test_a_published_command_knows_two_options():
    assert publish.words("demo seed='range(0,2)' --partial") == ("demo", ["seed=range(0,2)"], {"partial": True})
    with pytest.raises(UserError, match="not --check"):
        publish.words("demo --check")


def test_an_unknown_kind_of_table_or_figure_is_named(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("defaults: [config, _self_]\nhydra: {mode: MULTIRUN, sweeper: {table: pie, blocks: [{seed: 0}]}}\n")
    with pytest.raises(UserError, match="no table or figure pie; there are results, timing"):
        publish.plan(str(path))


def test_a_sweep_without_figures_says_so():
    with pytest.raises(UserError, match="demo: its file names no figure"):
        publish.charts("demo", ["seed=0"], "demo")
