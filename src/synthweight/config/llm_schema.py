"""The types and ranges of `generate` and `prompt`.

Values live in conf/, each once; nothing here has a default.
"""

import re
import string
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import UserError, require
from .schema import Dataset, Paths, Source

SMALL_REAL = Source(name="small_real", path=None, n=None, folds=1, fold=None)

EXAMPLE_FIELDS = ("label", "text", "text_pair")
TEMPLATE_FIELDS = {
    "example": EXAMPLE_FIELDS,
    "case": EXAMPLE_FIELDS,
    "new": (),
    "form": ("label",),
    "new_many": ("n",),
    "form_many": ("n", "label"),
    "classify_chat": ("task", "labels"),
    "classify_base": ("task", "labels"),
}
APPROACH_FIELDS = {
    "write_chat": ("task", "labels", "label", "examples", "topic", "new", "form"),
    "write_base": ("task", "labels", "topic"),
    "topics_chat": ("task", "labels", "n"),
    "topics_base": ("task", "labels", "n"),
}


def check_template(key: str, template: str, known: tuple[str, ...]) -> None:
    """Refuses a template that could not be filled.

    Args:
        key: of the setting, for the message.
        template: with fields in braces.
        known: the fields that it may have.

    Raises:
        UserError: naming the setting: a field that there is not, a stray brace, or an example without its
            label or text.
    """
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            f"{key}: not a template ({error}): a literal brace is written {{{{ or }}}}"
        ) from error
    found = [name for _, name, _, _ in fields if name is not None]
    for name in found:
        if name not in known:
            raise UserError(
                f"{key}: unknown field {{{name}}}: there are {', '.join(f'{{{k}}}' for k in known)}"
            )
    if any(spec for _, _, spec, _ in fields):
        raise UserError(f"{key}: fields take no format after a colon")
    where = key.rpartition(".")[2]
    if where in ("example", "case") and not {"label", "text"} <= set(found):
        raise UserError(f"{key}: {{label}} and {{text}} must both be in it")
    if where == "example" and found[0] != "label":
        raise UserError(f"{key}: {{label}} must come first: a text is written for its label")
    if where == "case" and (found[-1] != "label" or not template.endswith("{label}")):
        raise UserError(f"{key}: must end with {{label}}: the answer comes last")


@dataclass
class Template:
    """How a task is put into words; the fields that each line may have are in `TEMPLATE_FIELDS`.

    Args:
        name: of the choice.
        task: the task in one sentence, which other templates may show.
        words: by class, how the label is written in prompts; None: as it is.
        example: one shown example when a text is written: its label comes first.
        write_chat: the request of a chat model for one example.
        write_base: the beginning of a completion model's prompt.
        case: one shown example when a text is classified: its label comes last.
        classify_chat: the instruction of a chat model that classifies.
        classify_base: the beginning of a completion model's prompt that classifies.
    """

    name: str
    task: str
    words: dict[str, str] | None
    example: str
    new: str
    form: str
    new_many: str
    form_many: str
    case: str
    classify_chat: str
    classify_base: str

    def __post_init__(self) -> None:
        for key, known in TEMPLATE_FIELDS.items():
            check_template(f"generator.prompt.{key}", getattr(self, key), known)


@dataclass
class Approach:
    """How new examples are requested; the fields that each line may have are in `APPROACH_FIELDS`.

    `topics`: the size of the list of topics that the LLM makes first, 0 for none; the last two lines request it.
    """

    name: str
    topics: int
    write_chat: str
    write_base: str
    topics_chat: str | None
    topics_base: str | None

    def __post_init__(self) -> None:
        require(self.topics >= 0, "approach.topics", "at least 0", self.topics)
        for key, known in APPROACH_FIELDS.items():
            template = getattr(self, key)
            if template is not None:
                check_template(f"approach.{key}", template, known)
        for key in ("write_chat", "write_base"):
            if ("{topic}" in getattr(self, key)) != (self.topics > 0):
                raise UserError(
                    f"approach.{key} has the field {{topic}} exactly where approach.topics is above 0 (it is "
                    f"{self.topics}): generator/approach=topic sets both"
                )
        for key in ("topics_chat", "topics_base"):
            if self.topics and not getattr(self, key):
                raise UserError(f"approach.{key} has no value: the LLM is asked for the topics by it")


@dataclass
class Price:
    """US dollars per million tokens; None where they are unknown.

    Args:
        input: of the prompt.
        output: of the completion.
    """

    input: float | None
    output: float | None

    def __post_init__(self) -> None:
        for key in ("input", "output"):
            value = getattr(self, key)
            require(
                value is None or value >= 0,
                f"generator.price.{key}",
                "at least 0, or null where unknown",
                value,
            )


@dataclass
class Generator:
    """Which LLM, on which server, and how it is requested.

    Args:
        name: of the choice.
        model: as the server names it.
        base_url: of the OpenAI-compatible server.
        key_env: the name of the environment variable that holds the key; None: no key.
        api: chat or completions.
        structured: whether the reply is constrained by a JSON schema.
        logprobs: how many log-probabilities per token are requested when classifying; None for none.
        seeded: whether each request carries a seed of its own.
        temperature: of generation; None for the server's own. Classification is at 0.
        top_p: nucleus sampling; None for the server's own.
        max_tokens: of a reply.
        max_tokens_field: the request's field for it.
        concurrency: requests in flight.
        timeout: seconds for a whole reply.
        retries: of one request, after HTTP 429 or 5xx, timeouts and cut connections.
        back_off: seconds before the first retry; doubles, with jitter.
        longest_wait: seconds that a server may ask to wait; for more the command stops.
        price: of its tokens.
        prompt: the templates.
    """

    name: str
    model: str
    base_url: str
    key_env: str | None
    api: str
    structured: bool
    logprobs: int | None
    seeded: bool
    temperature: float | None
    top_p: float | None
    max_tokens: int
    max_tokens_field: str
    concurrency: int
    timeout: float
    retries: int
    back_off: float
    longest_wait: float
    price: Price
    prompt: Template

    def __post_init__(self) -> None:
        # a key must not be shown
        if self.key_env is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", self.key_env):
            raise UserError(
                "generator.key_env must be the NAME of an environment variable (A-Z, 0-9, _), never a key itself"
            )
        where = urlsplit(self.base_url)
        plain = (
            where.scheme in ("http", "https") and where.hostname and not where.username and not where.query
        )
        if not plain:
            raise UserError("generator.base_url must be http(s)://host/path, without user, password or query")
        require(self.api in ("chat", "completions"), "generator.api", "chat or completions", self.api)
        if self.structured and self.api == "completions":
            raise UserError(
                "generator.structured=true needs generator.api=chat: plain completions carry no JSON schema"
            )
        require(
            self.logprobs is None or 1 <= self.logprobs <= 20,
            "generator.logprobs",
            "1 to 20, or null",
            self.logprobs,
        )
        require(
            self.temperature is None or 0 <= self.temperature <= 2,
            "generator.temperature",
            "0 to 2, or null",
            self.temperature,
        )
        require(
            self.top_p is None or 0 < self.top_p <= 1,
            "generator.top_p",
            "above 0 and at most 1, or null",
            self.top_p,
        )
        fields = ("max_tokens", "max_completion_tokens")
        require(
            self.max_tokens_field in fields,
            "generator.max_tokens_field",
            " or ".join(fields),
            self.max_tokens_field,
        )
        for key in ("max_tokens", "concurrency"):
            require(getattr(self, key) >= 1, f"generator.{key}", "at least 1", getattr(self, key))
        require(self.retries >= 0, "generator.retries", "at least 0", self.retries)
        for key in ("timeout", "back_off", "longest_wait"):
            require(getattr(self, key) > 0, f"generator.{key}", "above 0 seconds", getattr(self, key))

    @property
    def priced(self) -> bool:
        """Whether both prices are known."""
        return self.price.input is not None and self.price.output is not None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What tokens cost, in US dollars; None where a price is unknown.

        Args:
            prompt_tokens: of the prompts.
            completion_tokens: of the replies.
        """
        if self.price.input is None or self.price.output is None:
            return None
        return (prompt_tokens * self.price.input + completion_tokens * self.price.output) / 1e6

    @property
    def host(self) -> str:
        """The server as messages and cards name it."""
        where = urlsplit(self.base_url)
        return f"{where.scheme}://{where.netloc}{where.path}"


@dataclass
class Generate:
    """The settings of `synthweight generate`: how many examples, of what, by which LLM, and where to.

    Args:
        dataset: whose D_P' is shown, and whose labels are requested.
        generator: the LLM.
        paths: folders.
        n: examples to have; with a larger n the same output continues.
        shots: examples of the requested label that are shown, drawn for every request.
        seed: of the draws.
        distribution: of the labels: balanced, or dprime, as in D_P'.
        max_chars: of a text; a longer one is refused.
        attempts: requests for one example before it is given up.
        near_duplicates: MinHash similarity of word 3-grams from which a text counts as a copy; None keeps
            all.
        budget: US dollars, never exceeded by what the server reports; None for no limit.
        out: the output folder.
    """

    dataset: Dataset
    generator: Generator
    approach: Approach
    paths: Paths
    n: int
    shots: int
    per_request: int
    seed: int
    distribution: str
    max_chars: int
    attempts: int
    near_duplicates: float | None
    embed: str | None
    budget: float | None
    out: str

    def __post_init__(self) -> None:
        require(self.n >= 1, "n", "at least 1", self.n)
        require(self.per_request >= 1, "per_request", "at least 1", self.per_request)
        shown, name = "{examples}" in self.approach.write_chat, self.approach.name
        allowed = "1" if name == "one_shot" else "at least 1" if shown else "0"
        fits = self.shots >= 1 if shown and name != "one_shot" else self.shots == int(shown)
        require(fits, "shots", f"{allowed} with generator/approach={name}", self.shots)
        require(0 <= self.seed < 2**32, "seed", "an integer from 0 to 2**32 - 1", self.seed)
        kinds = ("balanced", "dprime")
        require(self.distribution in kinds, "distribution", " or ".join(kinds), self.distribution)
        require(self.max_chars >= 1, "max_chars", "at least 1", self.max_chars)
        require(self.attempts >= 1, "attempts", "at least 1", self.attempts)
        near = self.near_duplicates
        require(
            near is None or 0 < near <= 1,
            "near_duplicates",
            "a similarity above 0 and at most 1, or null",
            near,
        )
        require(self.budget is None or self.budget > 0, "budget", "above 0 dollars, or null", self.budget)
        if self.budget is not None and not self.generator.priced:
            raise UserError(
                "budget needs prices: give generator.price.input= and generator.price.output= (USD a million tokens)"
            )

    @property
    def source(self) -> Source:
        """What is read: D_P' for the prompts, test to keep its texts out of them."""
        return SMALL_REAL


@dataclass
class Prompt:
    """The settings of `synthweight prompt`: the LLM itself as classifier.

    Args:
        dataset: whose test examples are classified.
        generator: the LLM.
        paths: folders.
        n: a stratified, nested subset of test, the same for every seed; None for all.
        shots: examples of each label that are shown, drawn once from D_P'.
        seed: of the draw.
    """

    dataset: Dataset
    generator: Generator
    paths: Paths
    n: int | None
    shots: int
    seed: int

    def __post_init__(self) -> None:
        require(self.n is None or self.n >= 1, "n", "at least 1, or null for all of test", self.n)
        require(self.shots >= 0, "shots", "at least 0", self.shots)
        require(0 <= self.seed < 2**32, "seed", "an integer from 0 to 2**32 - 1", self.seed)

    @property
    def source(self) -> Source:
        """What is read: D_P' for the shots, and test."""
        return SMALL_REAL
