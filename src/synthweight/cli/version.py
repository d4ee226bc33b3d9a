"""What `synthweight --version` prints."""

import torch

from .. import __version__
from ..runs import provenance
from ..training import devices


def describe() -> str:
    """The version, the commit (`-dirty` where files differ from it), torch, and the device that `auto` takes."""
    kind = devices.device("auto").type
    device = f"{torch.cuda.get_device_name()} (cuda)" if kind == "cuda" else kind
    commit = provenance.describe_commit() or "unknown"
    return f"synthweight {__version__}, commit {commit}, torch {torch.__version__}, device {device}"
