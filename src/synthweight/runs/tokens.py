"""Examples as token ids, by the tokenizer of a run's encoder."""

from pathlib import Path

from ..config.schema import Run
from ..data.examples import Examples
from ..data.tokenization import TokenizedTexts, tokenize
from ..models import pretrained


def tokenize_for(run: Run, examples: Examples) -> TokenizedTexts:
    """Token ids of the examples as a run's encoder reads them, from the cache where they are known.

    Args:
        run: with its encoder, `optim.max_length` and `paths.cache`.
        examples: at least one.
    """
    folder, encoder = pretrained.locate(run.model), pretrained.fingerprint(run.model)
    return tokenize(folder, encoder, examples, run.optim.max_length, Path(run.paths.cache))
