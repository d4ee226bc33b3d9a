"""The folder as others see it: the model card, the hub, the report in a browser."""

import os
import re
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from support.browser import NO_CHROMIUM, Browser
from support.hub_server import TOKEN, HubServer
from synthweight.workbench import export, report


def test_the_cards_metadata_are_those_that_the_hub_renders(fitted):
    card = ModelCard.load(fitted.model.folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    settings = fitted.model.settings
    values = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results}
    for key, metrics in (("user-test", settings["test"]), ("user-folds", settings["estimate"])):
        assert values[key, "accuracy"] == round(metrics["accuracy"], 4)
        assert values[key, "f1"] == round(metrics["macro_f1"], 4)
    assert f"| **{settings['method']}** |" in card.text
    for candidate in settings["choice"]["candidates"]:
        assert candidate["words"] in card.text
    assert not re.search(r"{[{%]|\n{4}", card.text)


@pytest.fixture
def hub():
    server = HubServer()
    yield server
    server.close()


def push(hub, *arguments, token=TOKEN):
    """The command as a user would run it, with the hub of this test."""
    own = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "synthweight", "push", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)


def test_a_folder_is_pushed_without_its_texts(fitted, hub):
    done = push(hub, fitted.model.folder, "someone/my-model", "--private")
    assert (done.returncode, done.stdout.strip()) == (0, f"{hub.url}/someone/my-model"), done.stderr
    assert hub.repositories == {"someone/my-model": True}
    there = {p.name: p.read_bytes() for p in fitted.model.folder.iterdir()}
    assert hub.files == {
        name: content for name, content in there.items() if name not in ("report.html", "synthetic_audit.csv")
    }
    push(hub, fitted.model.folder, "someone/my-model", "--with-texts")
    assert hub.files == there


def test_a_hub_that_refuses_is_one_line(fitted, hub, tmp_path):
    done = push(hub, fitted.model.folder, "someone/my-model", token="hf_wrong")
    assert done.returncode == 2
    assert re.fullmatch(r"synthweight: someone/my-model: the hub refuses it .*\n", done.stderr)
    done = push(hub, tmp_path, "someone/my-model")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not a folder that `synthweight fit` made" in done.stderr
    assert hub.files == {}


@pytest.mark.browser
@NO_CHROMIUM
def test_the_report_works_in_a_browser(fitted, tmp_path):
    path = fitted.model.folder / "report.html"
    source = path.read_text(encoding="utf-8")
    # nothing is loaded from elsewhere
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", source)
    rows = fitted.model.audit
    browser = Browser(tmp_path / "profile")
    try:
        browser.require_readable(path.as_uri())
        assert browser.evaluate("document.querySelector('#audit p').textContent") == f"1–50 of {len(rows)}"
        texts = browser.evaluate(
            "[...document.querySelectorAll('#audit td.long')].map(cell => cell.textContent)"
        )
        assert texts[:2] == [rows[0].text, rows[1].text]
        choice = "document.querySelector('#audit select[aria-label=verdict]')"
        browser.evaluate(f"{choice}.value = 'near-duplicate'; {choice}.dispatchEvent(new Event('input'))")
        browser.evaluate("document.querySelector('#audit th button').click()")
        ids = browser.evaluate(
            "[...document.querySelectorAll('#audit tbody tr')].map(r => Number(r.cells[0].textContent))"
        )
        assert ids == sorted(int(row.id) for row in rows if row.verdict == "near-duplicate")
        assert browser.errors == []
    finally:
        browser.close()


def test_a_text_cannot_leave_its_place_in_the_page(fitted):
    row = fitted.model.audit[0]
    nasty = type(row)(**(vars(row) | {"text": "</script><script>alert(1)</script>", "label": "<b>x</b>"}))
    page = report.page("<i>name</i>", fitted.model.settings, [nasty], texts=True)
    assert "<script>alert" not in page
    assert "<i>name</i>" not in page


def test_an_old_folder_stays_where_the_new_one_cannot_take_its_place(fitted, tmp_path, monkeypatch):
    folder = fitted.model.save(tmp_path / "model")
    before = (folder / "fit.json").read_bytes()
    rename = export.Path.rename

    def fails(path, target):
        if path.name.endswith(".part"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(export.Path, "rename", fails)
    with pytest.raises(OSError, match="no"):
        export.place(folder, lambda part: part.mkdir(), overwrite=True)
    assert (folder / "fit.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
