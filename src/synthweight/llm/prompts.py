"""From examples to requests: the messages, and the parameters that a server may not know."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..data.examples import Example
from ..errors import UserError
from . import templates

if TYPE_CHECKING:
    from ..config.llm_schema import Approach, Generator, Template
    from .few_shot import ExamplePool

ANSWER_TOKENS = 16  # of a classification: a label's word, with room for quotes
TOPIC_TOKENS = 16  # of one topic in a list
Body = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request.

    `optional`: parameters by feature, left out one after the other where a server refuses them.
    """

    key: str
    body: Body
    optional: dict[str, Body]

    @property
    def sha256(self) -> str:
        """SHA-256 of the body, without the optional parameters."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @property
    def chars(self) -> int:
        """The length of what is sent as text."""
        return len(json.dumps(self.body.get("messages", self.body.get("prompt")), ensure_ascii=False))


class PromptBuilder:
    """Puts a task into words, for one generator and the labels of one dataset."""

    def __init__(self, generator: "Generator", pool: "ExamplePool") -> None:
        """Checks that the template is for these data.

        Args:
            generator: Which model and which template.
            pool: The examples that may be shown.

        Raises:
            UserError: The template is for pairs and the data has none, or the reverse; what `label_words`
                refuses.
        """
        self.generator, self.template, self.labels = generator, generator.prompt, pool.labels
        self.words = label_words(self.template, self.labels)
        self.pairs = pool.pairs
        for key in ("example", "case"):
            if templates.is_pair(getattr(self.template, key)) != pool.pairs:
                what = (
                    "has no {text_pair}, and the data has pairs"
                    if pool.pairs
                    else "is for pairs, and the data has none"
                )
                raise UserError(
                    f"generator.prompt={self.template.name}: {key} {what}: name another, as "
                    "generator/prompt=general_pair or general"
                )
        self.fields = {"task": self.template.task, "labels": ", ".join(self.words.values())}

    def show(self, template: str, examples: Sequence[Example]) -> str:
        """Examples in a template's words, a blank line between them."""
        return "\n\n".join(
            templates.fill(template, self.words[e.label], e.text, e.text_pair) for e in examples
        )

    def write(
        self,
        approach: "Approach",
        key: str,
        label: str,
        examples: Sequence[Example],
        seed: int,
        n: int = 1,
        topic: str = "",
    ) -> Request:
        """A request for new examples.

        Args:
            approach: How they are requested.
            key: Of the request, in the journal.
            label: The label that they shall have.
            examples: Those that are shown.
            seed: For the server's own draws, where it takes one.
            n: How many one reply shall have.
            topic: What they shall be about, where the approach has topics.
        """
        word, g, template = self.words[label], self.generator, self.template
        shown = self.show(template.example, examples)
        optional: dict[str, Body] = {"seed": {"seed": seed}} if g.seeded else {}
        common = self._sampled(n * g.max_tokens)
        if g.api == "completions":
            task = approach.write_base.format(**self.fields, topic=topic)
            prompt = join_paragraphs(task, shown, self.opening(label))
            stop: Body = {"stop": ["\n\n"]} if n == 1 else {}
            return Request(key, {**common, "prompt": prompt, **stop}, optional)
        new, form = (template.new, template.form) if n == 1 else (template.new_many, template.form_many)
        fields = {**self.fields, "label": word, "examples": shown, "topic": topic}
        fields |= {"new": new.format(n=n), "form": form.format(n=n, label=word)}
        text = approach.write_chat.format(**fields)
        if g.structured:
            optional["structured"] = json_schema("examples", self.schema(n))
        return Request(key, {**common, "messages": [{"role": "user", "content": text}]}, optional)

    def list_topics(self, approach: "Approach", key: str, seed: int) -> Request:
        """A request for the list of topics. Arguments as those of `write`."""
        g = self.generator
        optional: dict[str, Body] = {"seed": {"seed": seed}} if g.seeded else {}
        common = self._sampled(max(g.max_tokens, TOPIC_TOKENS * approach.topics))
        if g.api == "completions":
            prompt = str(approach.topics_base).format(**self.fields, n=approach.topics)
            return Request(key, {**common, "prompt": prompt, "stop": ["\n\n"]}, optional)
        text = str(approach.topics_chat).format(**self.fields, n=approach.topics)
        if g.structured:
            topics = {"type": "array", "items": {"type": "string"}}
            optional["structured"] = json_schema("topics", closed_object({"topics": topics}))
        return Request(key, {**common, "messages": [{"role": "user", "content": text}]}, optional)

    def _sampled(self, max_tokens: int) -> Body:
        """The parameters of a request that is drawn: model, length, temperature."""
        g = self.generator
        sampling = {k: v for k, v in (("temperature", g.temperature), ("top_p", g.top_p)) if v is not None}
        return {"model": g.model, g.max_tokens_field: max_tokens, **sampling}

    def opening(self, label: str) -> str:
        """What a completion goes on from: the example's beginning, with its label. Empty for a chat."""
        if self.generator.api == "chat":
            return ""
        return templates.fill_until(self.template.example, "text", {"label": self.words[label]})

    def schema(self, n: int) -> Body:
        """The JSON schema of one example, or of a list of several.

        Any label is allowed, so that a wrong one is noticed.
        """
        fields: Body = {
            "label": {"type": "string", "enum": list(self.words.values())},
            "text": {"type": "string"},
        }
        if self.pairs:
            fields["text_pair"] = {"type": "string"}
        example = closed_object(fields)
        return example if n == 1 else closed_object({"examples": {"type": "array", "items": example}})

    def classify(self, key: str, example: Example, shots: Sequence[Example]) -> Request:
        """A request for the label of one example: greedy, with log-probabilities of the first token where
        there are any.

        Args:
            key: Of the request, in the journal.
            example: Whose label is requested.
            shots: Examples that are shown with their labels.
        """
        g, case = self.generator, self.template.case
        question = self._question(example)
        optional: dict[str, Body] = {}
        common: Body = {"model": g.model, g.max_tokens_field: g.max_tokens}
        if g.temperature is not None:  # a model that takes no temperature thinks first, and needs the room
            common |= {"temperature": 0.0, g.max_tokens_field: min(ANSWER_TOKENS, g.max_tokens)}
        if g.api == "completions":
            if g.logprobs is not None:
                optional["logprobs"] = {"logprobs": g.logprobs}
            task = self.template.classify_base.format(**self.fields)
            prompt = join_paragraphs(task, self.show(case, shots), question)
            return Request(key, {**common, "prompt": prompt, "stop": ["\n"]}, optional)
        if g.logprobs is not None:
            optional["logprobs"] = {"logprobs": True, "top_logprobs": g.logprobs}
        messages = [{"role": "system", "content": self.template.classify_chat.format(**self.fields)}]
        for shot in shots:
            messages.append({"role": "user", "content": self._question(shot)})
            messages.append({"role": "assistant", "content": self.words[shot.label]})
        messages.append({"role": "user", "content": question})
        return Request(key, {**common, "messages": messages}, optional)

    def _question(self, example: Example) -> str:
        """An example in the template's words, up to its label."""
        values = {"text": example.text.strip(), "text_pair": (example.text_pair or "").strip()}
        return templates.fill_until(self.template.case, "label", values)


def json_schema(name: str, schema: Body) -> Body:
    """The parameter by which a server is asked for JSON of this schema."""
    described = {"name": name, "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def closed_object(fields: Body) -> Body:
    """The JSON schema of an object that has these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def label_words(template: "Template", labels: tuple[str, ...]) -> dict[str, str]:
    """The word of each label: the template's, else the label's own name.

    Args:
        template: With a word for each label, or none for all.
        labels: Of the data.

    Raises:
        UserError: A label has no word, or two have the same.
    """
    name = f"generator.prompt={template.name}: words"
    if template.words is None:
        return {label: label for label in labels}
    if set(template.words) != set(labels):
        raise UserError(
            f"{name} are for {', '.join(sorted(template.words))}, the data has {', '.join(labels)}"
        )
    out = {label: template.words[label] for label in labels}
    if len({word.casefold() for word in out.values()}) < len(out):
        raise UserError(f"{name} must differ from each other: {', '.join(out.values())}")
    return out


def join_paragraphs(*parts: str) -> str:
    """The parts that are not empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)
