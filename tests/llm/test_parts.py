"""Templates, parsing, figures: the parts of the LLM room that need no server."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from support.llm_server import ANSWERING, WRITING
from synthweight.config import llm_schema
from synthweight.errors import UserError
from synthweight.llm import parsing, templates
from synthweight.llm.client import first_token, retry_after

EXAMPLE = "Label: {label}\nText: {text}"
PAIR = "Same: {label}\nSentence 1: {text}\nSentence 2: {text_pair}"
WORDS = {"irony": "ironic", "non_irony": "not ironic"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"label": "a", "text": "x y"}', ("x y", "a")),
        ('```json\n{"text": "x {y}", "label": "a"}\n```', ("x {y}", "a")),
        ('Sure, {here} it is: {"text": "x\ny"} Enjoy!', ("x\ny", None)),
        ("<think>{\"text\": \"no\"}</think>\nlabel: a\ntext: x", ("x", "a")),
        ("Label: a\n\nText:   x  \nLabel: b", ("x", "a")),
        ('{"text": "x"', None),
        ('{"text": ""}', None),
        ('{"text": 5}', None),
        ('["x"]', None),
        ("", None),
        ("A text alone.", None),
    ],
)  # fmt: skip
def test_an_example_in_a_reply(reply, expected):
    (found,) = parsing.parse_examples(reply, "", EXAMPLE, pairs=False)
    assert (found and (found.text, found.label)) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (" x\nSentence 2: y\n\nSame: yes", ("x", "y")),
        ("x\nSentence 2: y", ("x", "y")),
        (" x", None),
        (" x\n\n", None),
    ],
)
def test_a_completion_goes_on_from_its_opening(reply, expected):
    (found,) = parsing.parse_examples(reply, "Same: no\nSentence 1:", PAIR, pairs=True)
    assert (found and (found.text, found.text_pair)) == expected


GOOD = '{"label": "a", "text": "x"}'


@pytest.mark.parametrize(
    ("reply", "cut", "expected"),
    [
        (f'{{"examples": [{GOOD}, {GOOD}]}}', False, ["x", "x"]),
        (f'{{"examples": [{GOOD}, {{"label": "a", "text": "half of', True, ["x", None]),
        (f'{{"examples": [{GOOD}, {{"label": "a", "text": 3}}, {GOOD}]}}', False, ["x", None, "x"]),
        (f'{{"examples": [{GOOD}', True, ["x"]),
        (f'{{"examples": [{GOOD}, {{“label”: “a”, “text”: “x {{y}}”}}]}}'[:-2], False, ["x", "x {y}"]),
        ('{"examples": []}', False, [None]),
        ("Label: a\nText: x\n\nLabel: b\nText: half", False, ["x", "half"]),
        ("Label: a\nText: x\n\nLabel: b\nText: half", True, ["x", None]),
        ("Label: a\nText: x\n\nLabel: b\nText: whole\n", True, ["x", "whole"]),
    ],
)
def test_several_examples_in_a_reply(reply, cut, expected):
    found = parsing.parse_examples(reply, "", EXAMPLE, pairs=False, n=3, cut=cut)
    assert [example and example.text for example in found] == expected


@pytest.mark.parametrize(
    ("reply", "opening", "expected"),
    [
        ('{"topics": ["battery life", "Price "]}', "", ["battery life", "Price"]),
        ('Sure: ["a", "b", "a"]', "", ["a", "b", "a"]),
        ("Here they are:\n1. **Battery life**\n2) Price.\n", "", ["Battery life", "Price"]),
        (" battery life\n2. price\n", "1.", ["battery life", "price"]),
        ("- a\n* b", "", ["a", "b"]),
        ('{"topics": []}', "", []),
        ('["", "  "]', "", []),
        (f"1. {'a long sentence ' * 9}", "", []),
        ("People write about many things.", "", None),
        ("", "", None),
    ],
)
def test_topics_in_a_reply(reply, opening, expected):
    assert parsing.parse_topics(reply, opening) == expected


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("ironic", "irony"),
        (" Not ironic.\n", "non_irony"),
        ('"ironic"', "irony"),
        ("The tweet is ironic", "irony"),
        ("It is not ironic", "non_irony"),  # the longer word counts
        ("It may be ironic or not ironic", None),
        ("ironically", None),
        ("", None),
        ("<think>ironic?</think>not ironic", "non_irony"),
    ],
)
def test_a_label_in_an_answer(answer, label):
    assert parsing.parse_label(answer, WORDS) == label


SETS = {  # labels that readers of replies stumble over
    "within another": ["positive", "very positive", "negative", "very negative"],
    "brackets and stops": [
        "Billing (refund)",
        "Billing (invoice)",
        "Other...",
        "U.S.",
        "Q&A",
        "C#",
        "C++",
        "C",
    ],
    "Chinese": ["正面", "负面", "中性", "非常正面"],
    "Japanese": ["ポジティブ", "ネガティブ", "どちらでもない"],
    "Korean": ["긍정", "부정", "중립"],
    "Thai": ["บวก", "ลบ", "เป็นกลาง"],
    "Hindi": ["सकारात्मक", "नकारात्मक", "तटस्थ"],
    "Arabic": ["إيجابي", "سلبي", "محايد"],
    "Cyrillic": ["положительный", "отрицательный"],
    "numbers": ["1", "2", "10"],
}


@pytest.mark.parametrize("manner", ANSWERING)
@pytest.mark.parametrize("name", SETS)
def test_every_label_is_read_however_it_is_put(name, manner):
    words = {label: label for label in SETS[name]}
    assert {label: parsing.parse_label(ANSWERING[manner](label), words) for label in words} == words


@pytest.mark.parametrize("manner", WRITING)
@pytest.mark.parametrize("name", SETS)
def test_every_example_is_read_however_it_is_put(name, manner):
    words = {label: label for label in SETS[name]}
    for label in words:
        text = f"{label}: それは良い, किताब टूटी 👎 (really)"
        reply = WRITING[manner](label, text)
        (found,) = parsing.parse_examples(reply, "", EXAMPLE, pairs=False)
        several = parsing.parse_examples(f"[{reply},\n{reply},\n{reply}]", "", EXAMPLE, pairs=False, n=3)
        assert len(several) == 3
        for example in (found, *several):
            assert example is not None
            assert example.text.rstrip(",]").endswith(text)
            assert example.label is not None
            assert parsing.match_label(example.label, words) == label


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("这条评论是负面的", "负面"),
        ("我认为这句话非常正面。", "非常正面"),
        ("不是正面，而是负面", None),
        ("答案：中性。", "中性"),
    ],
)
def test_a_label_in_a_sentence_without_spaces(reply, label):
    assert parsing.parse_label(reply, {label: label for label in SETS["Chinese"]}) == label


def test_a_word_that_goes_on_is_another_word():
    words = {label: label for label in ("pos", "neg", "ที")}
    assert [parsing.parse_label(reply, words) for reply in ("positive", "a negation", "ที่", "re-pos", "pos")] == [
        None, None, None, "pos", "pos",
    ]  # fmt: skip


def test_log_probabilities_of_labels():
    words = {"a": "alpha", "b": "beta", "g": "gamma"}
    found = parsing.label_log_probs(
        {" alpha": math.log(0.5), "Al": math.log(0.1), " be": math.log(0.2), "x": math.log(0.1)}, words
    )
    assert [math.exp(p) for p in found] == pytest.approx([0.6 / 0.85, 0.2 / 0.85, 0.05 / 0.85])
    assert parsing.label_log_probs({"the": -0.1}, words) is None
    assert parsing.label_log_probs({}, words) is None
    clash = {"x": "neutral", "y": "negative"}
    assert parsing.label_log_probs({" ne": math.log(0.9), " neg": math.log(0.05)}, clash) is None
    assert parsing.label_log_probs({" ne": math.log(0.01), " neg": math.log(0.9)}, clash) is not None


def test_first_tokens_in_three_forms():
    top = {" a": -0.1, " b": -2.0}
    chat = {
        "content": [{"token": " a", "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}]
    }
    plain = {"tokens": ["\n", " a"], "top_logprobs": [{"\n": -0.5}, top]}
    assert first_token(chat) == first_token(plain) == top  # llama.cpp's completions have the form of chat
    for nothing in (None, {}, {"content": None}, {"content": []}, {"tokens": ["a"], "top_logprobs": None}):
        assert first_token(nothing) is None


def test_retry_after():
    def said(**headers):
        return retry_after(type("R", (), {"headers": headers})())

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert said(**{"retry-after": "2.5"}) == 2.5
    assert said(**{"retry-after-ms": "40"}) == 0.04
    assert 25 < said(**{"retry-after": soon}) <= 30
    assert [said(**{"retry-after": x}) for x in ("soon", "", "-3")] == [0, 0, 0]
    assert said() == retry_after(None) == 0


@pytest.mark.parametrize(
    ("key", "template", "error"),
    [
        ("example", "{label} {text} {x}", r"unknown field \{x\}"),
        ("example", "{label} {text.__class__}", r"unknown field \{text.__class__\}"),
        ("example", "{label} {text} {}", r"unknown field \{\}"),
        ("example", "{label} {text:>{task}}", "no format"),
        ("example", "{text} {label}", "must come first"),
        ("example", "{label}", "must both be in it"),
        ("case", "{label} {text}", "must end with"),
        ("case", "{text} {label}.", "must end with"),
        ("classify_chat", "{", "not a template"),
        ("classify_base", "{label}", r"unknown field \{label\}: there are \{task\}, \{labels\}"),
    ],
)
def test_templates_that_cannot_be_filled(key, template, error):
    with pytest.raises(UserError, match=f"generator.prompt.{key}: .*{error}"):
        llm_schema.check_template(f"generator.prompt.{key}", template, llm_schema.TEMPLATE_FIELDS[key])


def test_texts_with_braces_stay_as_they_are():
    assert templates.fill(EXAMPLE, "a", " {task} {0} ", None) == "Label: a\nText: {task} {0}"
    (found,) = parsing.parse_examples(templates.fill(EXAMPLE, "a", "{b}", None), "", EXAMPLE, pairs=False)
    assert found is not None
    assert (found.text, found.label) == ("{b}", "a")
