"""LLM-written data against a server that misbehaves: nothing lost, nothing asked twice, the same file in the
end.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from shutil import copytree

import pytest

from support.cli import CLI, run_cli
from support.llm_server import KEY, WRITING, Say, Server, fresh, obliging, prompt_of, serving, wanted
from support.toy import write
from synthweight.config import compose
from synthweight.data.on_disk import read_examples
from synthweight.errors import UserError
from synthweight.llm import generate


@pytest.fixture
def made(asking, tmp_path):
    """Generates into a folder of tmp_path: made(server, "gen", "n=6") → the folder, the outcome."""

    def make(server: Server, name: str, *overrides: str):
        with compose.offline(compose.CONF):
            settings = compose.Composer("generate").generate(
                asking(server, "n=12", "shots=3", f"out={tmp_path / name}", *overrides)
            )
        return tmp_path / name, generate.generate(settings)

    return make


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "synthetic.jsonl").read_text().splitlines()]


def card(folder: Path) -> dict:
    return json.loads((folder / "card.json").read_text())


def test_a_set_and_its_card(made, caplog):
    caplog.set_level("INFO", "synthweight")
    with serving() as server:
        folder, outcome = made(server, "gen")
    assert (outcome.kept, outcome.sent) == (12, 12)
    assert Counter(row["label"] for row in rows(folder)) == {"negative": 4, "neutral": 4, "positive": 4}
    assert [e.id for e in read_examples(folder / "synthetic.jsonl", "file")] == [f"0-{i}" for i in range(12)]
    found = card(folder)
    assert found["counts"]["kept"] == found["replies"] == sum(found["counts"].values()) == 12
    assert (found["complete"], found["generator"]["served_as"], found["cost_usd"]) == (True, "served", 0)
    assert found["tokens"] == {"prompt": sum(len(p) // 4 for p in server.prompts), "completion": 120}
    assert found["data"]["labels"] == {"negative": 4, "neutral": 4, "positive": 4}
    assert found["overlap"] == {"small_real": 0, "large_real": 0, "test": 0}
    assert 0 < found["data"]["distinct_2"] <= 1
    assert "12 kept" in (folder / "README.md").read_text()
    assert "12 of 12 examples" in caplog.text
    journal = (folder / "journal.jsonl").read_text().splitlines()
    assert len(journal) == 13
    # prompts and replies are the user's own
    assert (folder / "journal.jsonl").stat().st_mode & 0o777 == 0o600
    assert {b["response_format"]["json_schema"]["strict"] for b in server.asked} == {True}


def test_any_order_of_replies_gives_the_same_file(made):
    rng = random.Random(3)

    def shuffled(body, number):
        say = obliging(body, number)
        say.delay = rng.uniform(0, 0.05)
        # some replies are bad, by their request
        return Say("", delay=say.delay) if fresh(body)[10] in "01" else say

    with serving(shuffled) as server:
        one, _ = made(server, "one", "n=20", "attempts=3")
        two, _ = made(server, "two", "n=20", "attempts=3", "generator.concurrency=1")
        other, _ = made(server, "other", "n=20", "attempts=3", "seed=1")
    assert (one / "synthetic.jsonl").read_bytes() == (two / "synthetic.jsonl").read_bytes()
    assert (one / "synthetic.jsonl").read_bytes() != (other / "synthetic.jsonl").read_bytes()
    assert card(one)["counts"]["malformed"] > 0
    assert card(one)["counts"] == card(two)["counts"]


FAULTS = {
    "429": Say(status=429, headers={"Retry-After": "0.05"}, error="slow down"),
    "500": Say(status=500, error="oops"),
    "503": Say(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "late": Say(delay=0.5),
    "cut": Say(cut=True),
    "broken": Say(broken=True),
    "slow tokens": Say(drip=0.02),
}


def test_a_misbehaving_server_loses_nothing_and_nothing_is_asked_twice(made, toy):
    """Every request fails once, each in another way; then some answers are bad in themselves."""
    real = json.loads((toy / "small_real.jsonl").read_text().splitlines()[0])["text"]
    failed: set[int] = set()

    def answer(body, number):
        good = obliging(body, number)
        if body["seed"] not in failed:
            failed.add(body["seed"])
            fault = list(FAULTS.values())[len(failed) % len(FAULTS)]
            return Say(**{**vars(fault), "text": good.text if fault.status == 200 else ""})
        spoilt = {
            "0": good.text[: len(good.text) // 2],
            "1": "",
            "2": json.dumps({"label": wanted(body), "text": "always the same"}),
            "3": json.dumps(
                {"label": "neutral" if wanted(body) != "neutral" else "positive", "text": fresh(body)}
            ),
            "4": json.dumps({"label": wanted(body), "text": "long " * 300}),
            "5": json.dumps({"label": wanted(body), "text": real.upper() + "!"}),
            "6": "I cannot help with that.",
        }
        return Say(spoilt.get(fresh(body)[10], good.text))

    with serving(answer) as server:
        folder, outcome = made(
            server, "gen", "n=60", "generator.timeout=0.3", "attempts=8", "generator.concurrency=6"
        )
    assert outcome.kept == 60 == len({row["text"] for row in rows(folder)})
    assert outcome.most_in_flight <= 6
    counts = card(folder)["counts"]
    assert sum(counts.values()) == card(folder)["replies"] == outcome.sent
    assert all(
        counts[fate] for fate in ("duplicate", "malformed", "wrong label", "too long", "equal to a real text")
    )
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]
    assert len({reply["key"] for reply in journal}) == len(journal) == outcome.sent
    delivered = {seed: n for seed, n in server.delivered.items() if n > 1}
    late = len(failed) // len(FAULTS) + 1
    assert len(delivered) <= late  # a late answer may have left the server after all; no other is given twice
    assert len(server.delivered) == outcome.sent


def test_requests_in_flight_stay_at_the_bound(made):
    def slow(body, number):
        return Say(obliging(body, number).text, delay=0.02)

    with serving(slow) as server:
        _, outcome = made(server, "gen", "n=40", "generator.concurrency=5")
    assert server.most_in_flight == outcome.most_in_flight == 5


def test_after_a_429_nobody_asks_before_the_time_is_up(made):
    told: list[float] = []

    def answer(body, number):
        if number == 4:
            told.append(time.monotonic())
            return Say(status=429, headers={"retry-after": "0.4"})
        return Say(obliging(body, number).text, delay=0.02)

    with serving(answer) as server:
        made(server, "gen", "generator.concurrency=2")
    assert not [t for t in server.times if told[0] + 0.1 < t < told[0] + 0.35]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_at_any_moment_it_asks_only_for_what_is_missing(made, asking, tmp_path, sent):
    def slow(body, number):
        return Say(obliging(body, number).text, delay=0.05)

    with serving() as server:
        whole, _ = made(server, "whole", "n=40")
    with serving(slow) as server:
        command = asking(server, "n=40", "shots=3", f"out={tmp_path / 'gen'}")
        environment = {**os.environ, "TEST_KEY": KEY}
        running = subprocess.Popen(
            [sys.executable, "-c", CLI, "generate", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        journal = tmp_path / "gen" / "journal.jsonl"
        while not journal.is_file() or journal.read_bytes().count(b"\n") < 12:
            assert running.poll() is None, running.communicate()
            time.sleep(0.01)
        running.send_signal(sent)
        _, error = running.communicate(timeout=30)
        assert not (tmp_path / "gen" / "synthetic.jsonl").exists()
        known = journal.read_bytes().count(b"\n") - 1
        if sent != signal.SIGKILL:
            assert running.returncode == 130
            assert b"Traceback" not in error
            assert known == sum(server.delivered.values())  # what was in flight was waited for
        with journal.open("ab") as file:
            file.write(b'{"key": "39:0", "te')  # as if the kill had hit in the middle of a line
        before = len(server.asked)
        folder, outcome = made(server, "gen", "n=40")
        assert outcome.sent == 40 - known == len(server.asked) - before
        assert (folder / "synthetic.jsonl").read_bytes() == (whole / "synthetic.jsonl").read_bytes()
        _, again = made(server, "gen", "n=40")
        assert again.sent == 0


def test_a_larger_n_goes_on_and_another_configuration_is_refused(made, tmp_path):
    with serving() as server:
        folder, _ = made(server, "gen", "n=6")
        _, more = made(server, "gen", "n=9")
        assert more.sent == 3
        fresh_one, _ = made(server, "at once", "n=9")
        assert (folder / "synthetic.jsonl").read_bytes() == (fresh_one / "synthetic.jsonl").read_bytes()
        for override, named in {
            "seed=1": "seed is 0 there, 1 here",
            "shots=2": "shots is 3 there, 2 here",
            "generator.temperature=0.5": r"generator\.temperature is 1\.0 there, 0\.5 here",
            "generator.prompt.task=Other": "prompt is '[0-9a-f]+' there",
            "n=8": "n is 9 there, 8 here",
        }.items():
            overrides = [override] if override.startswith("n=") else [override, "n=9"]
            with pytest.raises(UserError, match=f"gen: holds the output of another configuration .*{named}"):
                made(server, "gen", *overrides)
        _, same = made(
            server,
            "gen",
            "n=9",
            "generator.concurrency=1",
            "generator.retries=0",
            "generator.prompt.name=renamed",
        )
        assert same.sent == 0
        write(tmp_path / "mine" / "synthetic.jsonl", [{"text": "a", "label": "b"}])
        with pytest.raises(UserError, match="this command did not write it"):
            made(server, "mine")
        journal = folder / "journal.jsonl"
        journal.write_text(journal.read_text().replace('"key"', "'key'", 1))
        with pytest.raises(UserError, match=r"journal\.jsonl:2: damaged"):
            made(server, "gen", "n=9")


def test_no_text_of_test_is_ever_in_a_prompt(made, toy, tmp_path):
    """Not even one that D_P' has too."""
    copytree(toy, tmp_path / "both")
    test = [json.loads(line) for line in (toy / "test.jsonl").read_text().splitlines()]
    shared = [{"text": row["text"].upper() + " !", "label": row["label"]} for row in test[:3]]
    small = [json.loads(line) for line in (toy / "small_real.jsonl").read_text().splitlines()]
    write(tmp_path / "both" / "small_real.jsonl", small + shared)
    with serving() as server:
        folder, _ = made(server, "gen", f"dataset.path={tmp_path / 'both'}", "shots=15", "n=30")
        with pytest.raises(
            UserError, match="shots=16: D_P' has 15 examples of its smallest class 'negative'"
        ):
            made(server, "too many", f"dataset.path={tmp_path / 'both'}", "shots=16")
    assert card(folder)["excluded"] == 3
    prompts = "\n".join(server.prompts).casefold()
    assert all(row["text"].casefold() not in prompts for row in test)
    assert all(row["text"].casefold() in prompts for row in small)


def test_few_shot_examples_are_of_the_wanted_label(made, toy):
    labels = {
        json.loads(x)["text"]: json.loads(x)["label"]
        for x in (toy / "small_real.jsonl").read_text().splitlines()
    }
    with serving() as server:
        made(server, "gen")
    shown = [re.findall(r"^Text: (.*)$", p, re.MULTILINE) for p in server.prompts]
    for body, texts in zip(server.asked, shown, strict=True):
        assert len(set(texts)) == 3
        assert {labels[text] for text in texts} == {wanted(body)}
    assert len({tuple(texts) for texts in shown}) > 6  # drawn anew for every request


def listing(names: list[str]):
    """Answers a request for topics by these names, and obliges otherwise."""

    def answer(body, number):
        if "different topics" not in prompt_of(body):
            return obliging(body, number)
        if "prompt" in body:
            return Say(" " + "\n".join([names[0], *(f"{i}. {name}" for i, name in enumerate(names[1:], 2))]))
        return Say(json.dumps({"topics": names}))

    return answer


@pytest.mark.parametrize("generator", ["local", "local_base"])
@pytest.mark.parametrize(
    ("approach", "shown"), [("zero_shot", 0), ("topic", 0), ("one_shot", 1), ("few_shot", 3)]
)
def test_every_approach_shows_what_it_should(made, toy, generator, approach, shown):
    real = {
        json.loads(line)["text"]: json.loads(line)["label"]
        for line in (toy / "small_real.jsonl").read_text().splitlines()
    }
    topics = [f"subject {i}" for i in range(4)]
    overrides = [f"generator/approach={approach}", f"generator={generator}", f"shots={shown}"]
    overrides += ["approach.topics=4"] if approach == "topic" else []
    with serving(listing(topics)) as server:
        folder, outcome = made(server, "gen", *overrides)
    assert outcome.kept == 12
    asked = [body for body in server.asked if "different topics" not in prompt_of(body)]
    assert len(asked) == 12 == outcome.sent - (approach == "topic")
    for body in asked:
        texts = [text for text in re.findall(r"^Text: (.+)$", prompt_of(body), re.MULTILINE) if text in real]
        assert [real[text] for text in texts] == [wanted(body)] * shown
        assert sum(topic in prompt_of(body) for topic in topics) == (approach == "topic")
    assert len({prompt_of(body) for body in asked}) > (2 if approach == "zero_shot" else 6)
    found = card(folder)
    assert found["approach"]["name"] == approach
    assert found["topics"] == (topics if approach == "topic" else [])
    assert f"generator/approach={approach}" in (folder / "README.md").read_text()


def test_topics_are_completed_by_further_requests_and_never_requested_again(made):
    replies = iter(["No list.", '["Price", "price"]', '["battery", "screen", "price"]', '["cable"]'])

    def answer(body, number):
        return Say(next(replies)) if "different topics" in prompt_of(body) else obliging(body, number)

    with serving(answer) as server:
        folder, _ = made(server, "gen", "n=6", "generator/approach=topic", "shots=0", "approach.topics=4")
        _, more = made(server, "gen", "n=9", "generator/approach=topic", "shots=0", "approach.topics=4")
        assert more.sent == 3
        with pytest.raises(
            UserError, match=r"gen: holds the output of another configuration \(approach is 'topic'"
        ):
            made(server, "gen", "n=9")
    assert card(folder)["topics"] == ["Price", "battery", "screen", "cable"]
    assert card(folder)["topic_replies"] == {"kept": 1, "doubled": 2, "empty": 0, "prose": 1}


def test_many_examples_of_one_reply_are_each_judged_on_their_own(made):
    """The first replies have fewer, more, half an example, another label, or one object alone."""
    bodies: list[dict] = []

    def answer(body, number):
        bodies.append(body)
        text = prompt_of(body)
        n = int(match[1]) if (match := re.search(r"Write (\d+) new", text)) else 1
        made_up = [json.dumps({"label": wanted(body), "text": f"{fresh(body)} {i}"}) for i in range(n + 2)]
        if number == 1:
            return Say(f'{{"examples": [{", ".join(made_up[: n - 2])}]}}')
        if number == 2:
            return Say(f'{{"examples": [{", ".join(made_up)}]}}')
        if number == 3:
            half = '{"label": "negative", "text": "half an'
            return Say(f'{{"examples": [{", ".join([*made_up[:2], half])}', finish="length")
        if number == 4:
            wrong = json.dumps({"label": "no label", "text": "wrong"})
            return Say(f'{{"examples": [{", ".join([wrong, made_up[0], made_up[0], *made_up[1:n]])}]}}')
        return Say(made_up[0] if n == 1 else f'{{"examples": [{", ".join(made_up[:n])}]}}')

    with serving(answer) as server:
        folder, outcome = made(server, "gen", "n=60", "per_request=5", "generator.concurrency=1")
        assert (outcome.kept, len({row["text"] for row in rows(folder)})) == (60, 60)
        assert Counter(row["label"] for row in rows(folder)) == {
            "negative": 20,
            "neutral": 20,
            "positive": 20,
        }
        assert [row["id"] for row in rows(folder)] == [f"0-{i}" for i in range(60)]
        found = card(folder)
        assert found["replies"] == outcome.sent == len(bodies) == 14  # twelve, and two for what was missing
        assert found["counts"] == dict.fromkeys(found["counts"], 0) | {
            "kept": 60, "duplicate": 1, "wrong label": 1, "too long": 1, "more than requested": 2,
        }  # fmt: skip
        _, again = made(server, "gen", "n=60", "per_request=5", "generator.concurrency=1")
        assert again.sent == 0
    assert {body["max_tokens"] for body in bodies} == {1500, 900, 600}
    assert bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["examples"]["type"] == "array"


def test_many_examples_of_a_base_model(made):
    def answer(body, number):
        if "stop" in body:
            return Say(f" {fresh(body)}\n\n")
        more = "\n\n".join(f"Label: {wanted(body)}\nText: {fresh(body)} {i}" for i in range(3))
        return Say(f" {fresh(body)}\n\n{more} and ha", finish="length")

    with serving(answer) as server:
        folder, outcome = made(server, "gen", "generator=local_base", "per_request=4", "n=12")
    assert outcome.kept == 12
    assert all("ha" not in row["text"] for row in rows(folder))
    assert card(folder)["counts"]["too long"] == 3
    assert "stop" not in server.asked[0]


def test_the_distribution_of_dprime(made, toy, tmp_path):
    copytree(toy, tmp_path / "skew")
    small = [json.loads(line) for line in (toy / "small_real.jsonl").read_text().splitlines()]
    few = [row for i, row in enumerate(small) if row["label"] == "positive" or i < 9]
    write(tmp_path / "skew" / "small_real.jsonl", few)  # 3 negative, 3 neutral, 15 positive
    with serving() as server:
        folder, _ = made(server, "gen", f"dataset.path={tmp_path / 'skew'}", "distribution=dprime", "n=21")
    assert Counter(row["label"] for row in rows(folder)) == {"negative": 3, "neutral": 3, "positive": 15}


def test_plain_completions(made):
    with serving() as server:
        folder, _ = made(server, "gen", "generator=local_base")
    assert all(row["text"].startswith("generated") for row in rows(folder))
    assert all(p.endswith("\nText:") for p in server.prompts)
    assert Counter(row["label"] for row in rows(folder)) == {"negative": 4, "neutral": 4, "positive": 4}


SCRIPTS = [
    "किताब {} टूटी हुई है",
    "หนังสือ {} ดีมาก",
    "这本书 {} 很好",
    "الكتاب {} جيد",
    "good 👎 {} #1 <3",
    "C++ {} isn't C#",
]


@pytest.mark.parametrize(
    "labels", [["Billing (refund)", "U.S.", "Other..."], ["正面", "非常正面"], ["positive", "very positive"]]
)
def test_every_manner_of_writing_is_kept(made, tmp_path, labels):
    """Each reply in another manner and another script; texts that differ by marks, emoji or signs are no
    duplicates.
    """
    for split in ("small_real", "test"):
        data = [{"text": f"{split} {i}", "label": labels[i % len(labels)]} for i in range(12)]
        write(tmp_path / "own" / f"{split}.jsonl", data)
    manners = list(WRITING.values())

    def answer(body, number):
        text = SCRIPTS[body["seed"] % len(SCRIPTS)].format(fresh(body))
        return Say(manners[number % len(manners)](wanted(body), text))

    with serving(answer) as server:
        folder, outcome = made(
            server, "gen", f"dataset.path={tmp_path / 'own'}", f"n={2 * len(manners)}", "attempts=1"
        )
    assert outcome.kept == 2 * len(manners), card(folder)["counts"]
    assert {row["label"] for row in rows(folder)} == set(labels)


def test_replies_that_differ_by_marks_or_signs_only_are_no_duplicates(made):
    texts = ["कि", "की", "कु", "ที่", "ที", "C#", "C++", "C", "-5", "+5", "👍", "👎"]

    def answer(body, number):
        return Say(json.dumps({"label": wanted(body), "text": texts[number - 1]}))

    with serving(answer) as server:
        folder, outcome = made(server, "gen", "attempts=1", "generator.concurrency=1")
    assert outcome.kept == 12, card(folder)["counts"]


def test_pairs(made, tmp_path):
    for split, n in {"small_real": 12, "test": 6}.items():
        data = [{"text": f"{split} a{i}", "text_pair": f"b{i}", "label": "ny"[i % 2]} for i in range(n)]
        write(tmp_path / "pairs" / f"{split}.jsonl", data)

    def answer(body, number):
        if "prompt" in body:
            return Say(f" {fresh(body)}\nSentence 2: other {fresh(body)}\n")
        return Say(json.dumps({"label": wanted(body), "text": fresh(body), "text_pair": "b"}))

    given = [f"dataset.path={tmp_path / 'pairs'}", "n=4"]
    with serving(answer) as server:
        with pytest.raises(UserError, match=r"has no \{text_pair\}, and the data has pairs: name another"):
            made(server, "gen", *given)
        for generator in ("local", "local_base"):
            folder, _ = made(
                server, generator, *given, f"generator={generator}", "generator/prompt=general_pair"
            )
            assert all(row["text_pair"] for row in rows(folder))


def test_a_server_without_the_features_asked_for(made, caplog):
    """No JSON schema, then no seed: it falls back, says so once each, and loses nothing."""

    def old(body, number):
        if "response_format" in body:
            return Say(status=400, error="'response_format' of type 'json_schema' is not supported")
        if "seed" in body:
            return Say(status=422, error="extra fields not permitted")
        return Say(f"Sure!\n```json\n{obliging(body, number).text}\n```", delay=0.01)

    with serving(old) as server:
        _, outcome = made(server, "gen")
    assert outcome.kept == 12
    error = caplog.text
    assert error.count("does not take structured (HTTP 400): going on without") == 1
    assert error.count("does not take seed (HTTP 422): going on without") == 1


def test_the_budget_stops_in_time(made, caplog):
    caplog.set_level("INFO", "synthweight")
    prices = ["generator.price.input=1000", "generator.price.output=1000", "generator.max_tokens=10"]
    with serving() as server:
        with pytest.raises(
            UserError, match=r"budget=1: \$0\.\d+ spent, .* raise it, and the same command goes on"
        ):
            made(server, "gen", *prices, "budget=1.0", "n=30")
        assert caplog.text.count("of 30 examples") == 1
        spent = sum(len(p) // 4 + 10 for p in server.prompts) * 1000 / 1e6
        assert 0.5 < spent <= 1.0
        before = len(server.asked)
        folder, outcome = made(server, "gen", *prices, "n=30")
        assert outcome.sent == 30 - before
        assert card(folder)["complete"]


def test_a_budget_needs_a_server_that_counts(made, monkeypatch):
    def silent(self, body, say):
        found = document(self, body, say)
        del found["usage"]
        return found

    document = Server.document
    monkeypatch.setattr(Server, "document", silent)
    with serving() as server:
        with pytest.raises(UserError, match="reports no token usage: a budget cannot be kept"):
            made(server, "gen", "budget=1")
        before = len(server.asked)
        assert before <= 4
        _, outcome = made(server, "gen")
    assert outcome.sent == 12 - before


def test_near_duplicates_on_demand(made):
    def answer(body, number):
        return Say(
            json.dumps(
                {"label": wanted(body), "text": f"the same eight words in a row but {fresh(body)[10]} and on"}
            )
        )

    with serving(answer) as server:
        folder, _ = made(server, "all", "attempts=1")
        assert card(folder)["counts"]["near-duplicate"] == 0
        folder, outcome = made(server, "near", "attempts=1", "near_duplicates=0.4")
    assert outcome.kept < 3
    assert card(folder)["counts"]["near-duplicate"] > 3


def test_the_key_is_never_written_anywhere(made, asking, tmp_path, capfd):
    """Not even where the server repeats it, in an answer or in an error."""

    def parrot(body, number):
        if number == 2:
            return Say(status=500, error=f"your key is {KEY}")
        return Say(json.dumps({"label": wanted(body), "text": f"{KEY} {fresh(body)}"}))

    with serving(parrot) as server:
        folder, _ = made(server, "gen")
        assert server.keys == {f"Bearer {KEY}"}
    assert "[key]" in (folder / "synthetic.jsonl").read_text()
    with serving(lambda body, number: Say(status=401, error=f"Incorrect API key provided: {KEY}")) as server:
        assert run_cli("generate", *asking(server, f"out={tmp_path / 'refused'}")) == 2
    with serving(lambda body, number: Say(status=400, error=f"bad {KEY}")) as server:
        assert run_cli("prompt", *asking(server)) == 2
    shown = capfd.readouterr()
    assert "refuses the key in TEST_KEY (HTTP 401)" in shown.err
    assert KEY not in shown.out + shown.err
    assert [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []


def refusing(status: int, error: str = "", **headers: str):
    return lambda body, number: Say(status=status, error=error, headers=headers)


BAD = {
    "n = 0": (["n=0"], obliging, "n must be at least 1, is 0"),
    "shots above the smallest class": (
        ["shots=16"],
        obliging,
        "shots=16: D_P' has 15 examples of its smallest class",
    ),
    "unknown generator": (
        ["generator=claude"],
        obliging,
        "generator=claude: unknown; there are gpt35, local, local_base, openai",
    ),
    "unknown template": (
        ["generator/prompt=haiku"],
        obliging,
        "generator/prompt=haiku: unknown; there are financial, general",
    ),
    "no key": (["generator.key_env=NOT_SET"], obliging, "NOT_SET is not set: export your key in it"),
    "a key as the name": (
        ["generator.key_env=sk-abc"],
        obliging,
        "must be the NAME of an environment variable",
    ),
    "a password in the address": (
        ["generator.base_url=http://me:pw@h/v1"],
        obliging,
        "without user, password or query",
    ),
    "a budget without prices": (["budget=1", "generator.price.input=null"], obliging, "budget needs prices"),
    "unknown field": (
        ["generator.prompt.example='{label} {text} {mood}'"],
        obliging,
        "generator.prompt.example: unknown field {mood}: there are {label}, {text}, {text_pair}",
    ),
    "stray brace": (
        ["approach.write_chat='{task'"],
        obliging,
        "approach.write_chat: not a template",
    ),
    "unknown approach": (
        ["generator/approach=haiku"],
        obliging,
        "generator/approach=haiku: unknown; there are few_shot, one_shot, topic, zero_shot",
    ),
    "shots without an example": (
        ["generator/approach=zero_shot", "shots=3"],
        obliging,
        "shots must be 0 with generator/approach=zero_shot, is 3",
    ),
    "no shot": (["shots=0"], obliging, "shots must be at least 1 with generator/approach=few_shot, is 0"),
    "two shots for one": (
        ["generator/approach=one_shot", "shots=2"],
        obliging,
        "shots must be 1 with generator/approach=one_shot, is 2",
    ),
    "topics without a place": (
        ["approach.topics=5"],
        obliging,
        "approach.write_chat has the field {topic} exactly where approach.topics is above 0 (it is 5)",
    ),
    "an unknown encoder": (["embed=nothing"], obliging, "model=nothing: unknown; there are bert_base"),
    "per_request = 0": (["per_request=0"], obliging, "per_request must be at least 1, is 0"),
    "no real examples": (
        ["generator/approach=one_shot", "dataset.path=."],
        obliging,
        "no small_real.jsonl",
    ),
    "topics as prose": (
        ["generator/approach=topic"],
        lambda body, number: Say("Many things, really."),
        "approach.topics=20: 5 replies have 0 different topics (5 prose): lower approach.topics",
    ),
    "no topics": (
        ["generator/approach=topic", "attempts=2"],
        lambda body, number: Say('{"topics": []}'),
        "2 replies have 0 different topics (2 empty)",
    ),
    "one topic again and again": (
        ["generator/approach=topic", "attempts=3"],
        lambda body, number: Say('{"topics": ["Price"]}'),
        "3 replies have 1 different topics (1 kept, 2 doubled)",
    ),
    "words for other labels": (
        ["generator/prompt=mrpc"],
        obliging,
        "words are for equivalent, not_equivalent, the data has negative",
    ),
    "misspelt key": (["generator.modle=x"], obliging, "did you mean generator.model?"),
    "no schema in completions": (["generator.api=completions"], obliging, "needs generator.api=chat"),
    "a sweep": (["seed=0,1"], obliging, "seed"),
    "wrong key": ([], refusing(401, "no"), "refuses the key in TEST_KEY (HTTP 401)"),
    "unknown model": ([], refusing(404, "model m does not exist"), "generator.model=m: http://127.0.0.1"),
    "unknown model, by 400": (
        [],
        refusing(400, "The model `m` does not exist"),
        "knows no such model or address",
    ),
    "no credit": ([], refusing(429, "insufficient_quota"), "the account has no credit left (HTTP 429)"),
    "a long wait": ([], refusing(429, "later", **{"Retry-After": "3600"}), "asks to wait 3600 s (HTTP 429)"),
    "always 500": (
        ["generator.retries=2"],
        refusing(500),
        "HTTP 500, 3 times in a row: the same command goes on later",
    ),
    "a refused request": ([], refusing(413, "too large"), "refuses the request (HTTP 413: "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, asking, tmp_path, capfd, monkeypatch):
    overrides, answer, expected = BAD[case]
    with serving(answer) as server:
        code = run_cli(
            "generate", *asking(server, "n=5", "generator.retries=1", f"out={tmp_path / 'gen'}", *overrides)
        )
    assert code == 2
    said = [
        line
        for line in capfd.readouterr().err.replace("\r", "\n").splitlines()
        if line.startswith("synthweight: ")
    ]
    assert len(said) == 1
    assert expected in said[0]
    assert not (tmp_path / "gen" / "synthetic.jsonl").exists()
    assert "sk-abc" not in said[0]


def test_a_model_must_be_named(capfd):
    assert run_cli("generate", "generator=local") == 2
    assert "generator.model has no value: give generator.model=…" in capfd.readouterr().err


def test_without_the_package_there_is_one_line(asking, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with serving() as server:
        assert run_cli("generate", *asking(server, f"out={tmp_path / 'gen'}")) == 2
    assert "the package openai is not installed: pip install -e '.[generate]'" in capfd.readouterr().err


def test_a_generated_set_trains(made, settings):
    with serving() as server:
        folder, _ = made(server, "gen", "n=24")
    assert (
        run_cli(
            "train",
            *settings,
            "source=file",
            f"source.path={folder / 'synthetic.jsonl'}",
            "loss=dimp",
            "optim.epochs=1",
        )
        == 0
    )
