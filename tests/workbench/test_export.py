"""The folder as others see it: the model card, the hub, the report in a browser."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from support.hub_server import TOKEN, HubServer
from synthweight.workbench import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


def dom(page, tmp_path):
    """The page after its script, as Chromium has it."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=3000",
    ]
    command = [CHROMIUM, *flags, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_the_report_works_in_a_browser(fitted, tmp_path):
    page = tmp_path / "report.html"
    source = (fitted.model.folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(
        r"(src|href)\s*=|url\(|@import|https?://", source
    )  # nothing is loaded from elsewhere
    page.write_text(source, encoding="utf-8")
    shown = dom(page, tmp_path)
    rows = fitted.model.audit
    assert f"1–50 of {len(rows)}" in shown
    body = shown.split('<table id="audit">')[1]
    assert body.count("<tr>") == 51
    assert body.index(rows[0].text) < body.index(rows[1].text)
    clicked = 'element("verdict").value = "near-duplicate"; update(true); element("audit").querySelector("button").click();'
    page.write_text(
        source.replace("update(true);\n</script>", f"update(true);{clicked}\n</script>"), encoding="utf-8"
    )
    near = [row for row in rows if row.verdict == "near-duplicate"]
    body = dom(page, tmp_path).split('<table id="audit">')[1]
    assert body.count("<tr>") == 1 + len(near)
    ids = [int(i) for i in re.findall(r"<tr><td[^>]*>(\d+)</td>", body)]
    assert ids == sorted(int(row.id) for row in near)


def test_a_text_cannot_leave_its_place_in_the_page(fitted):
    row = fitted.model.audit[0]
    nasty = type(row)(**(vars(row) | {"text": "</script><script>alert(1)</script>", "label": "<b>x</b>"}))
    page = report.page("<i>name</i>", fitted.model.settings, [nasty], texts=True)
    assert "<script>alert" not in page
    assert "<i>name</i>" not in page
