"""Settings of the data: what is classified, what is trained on, what is done to it on purpose."""

from dataclasses import dataclass

from ..errors import require

SOURCES = ("small_real", "synthetic", "large_real", "noisy", "mixed", "file")


@dataclass
class Hub:
    path: str
    name: str | None
    data_dir: str | None
    revision: str | None


@dataclass
class Archive:
    package: str
    version: str
    sha256: str


@dataclass
class Dataset:
    name: str
    path: str | None
    labels: list[str] | None
    drop_overlap: bool
    hub: Hub | None
    archive: Archive | None
    sha256: dict[str, str | None]  # by split

    def __post_init__(self) -> None:
        enough = self.labels is None or len(set(self.labels)) == len(self.labels) >= 2
        require(enough, "dataset.labels", "at least two different names", self.labels)


@dataclass
class Source:
    name: str
    path: str | None
    n: int | None
    folds: int
    fold: int | None

    def __post_init__(self) -> None:
        require(self.name in SOURCES, "source.name", f"one of {', '.join(SOURCES)}", self.name)
        require(self.n is None or self.n >= 1, "source.n", "at least 1, or null for all", self.n)
        require(self.folds >= 1, "source.folds", "at least 1", self.folds)
        if self.fold is None:
            require(self.folds == 1, "source.folds", "1 where source.fold names none to leave out", self.folds)
        else:
            require(0 <= self.fold < self.folds != 1, "source.fold", "one of 0 to source.folds - 1, of at least 2", self.fold)


@dataclass
class Corruption:
    name: str
    swapped: float
    duplicated: float
    unrelated: float
    other: str | None

    def __post_init__(self) -> None:
        for key in ("swapped", "duplicated", "unrelated"):
            require(0 <= getattr(self, key) <= 1, f"corruption.{key}", "a share, 0 to 1", getattr(self, key))
        require(self.swapped + self.duplicated <= 1, "corruption.duplicated", "at most 1 - swapped", self.duplicated)

    @property
    def active(self) -> bool:
        return self.swapped + self.duplicated + self.unrelated > 0
