"""Reading, refusing, hashing, splitting, dropping, subsetting."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from shutil import copytree

import pytest

from support.logs import logged
from support.toy import SIZES, write
from synthweight.data import benchmarks, hub, product_reviews, sources
from synthweight.data import splits as subsets
from synthweight.data.examples import Example, data_hash, folded, overlap_key, text_hash
from synthweight.data.on_disk import read_examples
from synthweight.errors import UserError

ROWS = [{"text": "a b", "label": "x"}, {"text": "c", "label": "y"}]


# hashes


def test_text_hash_by_hand():
    assert text_hash(Example("i", " Café ", None, "x")) == hashlib.sha256("Café\x1f".encode()).hexdigest()
    assert text_hash(Example("i", "a", " b", "x")) == hashlib.sha256(b"a\x1fb").hexdigest()


def test_data_hash_by_hand():
    examples = [Example("test:0", "Café", None, "x"), Example("7", "a", "b", "y")]
    whole = '["test:0","Café",null,"x"]\n["7","a","b","y"]\n'
    assert data_hash(examples) == hashlib.sha256(whole.encode()).hexdigest()
    assert data_hash(reversed(examples)) != data_hash(examples)


def test_overlap_key_forgets_case_space_and_punctuation_only():
    same = [Example("i", t, None, "x") for t in ("It's GREAT!", "it’s great", "It s  great…")]
    assert len({overlap_key(e) for e in same}) == 1
    assert overlap_key(Example("i", " ?! ", None, "x")) == ("?!", "")
    assert overlap_key(Example("i", "a", "b", "x")) != overlap_key(Example("i", "b", "a", "x"))


# files


def test_ids_are_the_files_own_or_the_line(tmp_path):
    path = write(tmp_path / "f.jsonl", [{"id": 9, "text": "a", "label": "x"}, {"text": "b", "label": "x"}])
    assert [e.id for e in read_examples(path, "test")] == ["9", "test:1"]


def test_bom_and_crlf_are_accepted(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(r) for r in ROWS).encode() + b"\r\n")
    assert [e.text for e in read_examples(path, "test")] == ["a b", "c"]


def test_a_line_separator_inside_a_text_is_no_line_end(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text(
        json.dumps({"text": "a\u2028b\x85c", "label": "x"}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert len(read_examples(path, "test")) == 1


def test_a_line_that_was_cut_off_is_told_by_its_column(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"\n' + json.dumps(ROWS[0]).encode() + b"\n")
    with pytest.raises(UserError, match=r"f.jsonl:1: broken JSON \(Expecting ',' delimiter at column 27\)"):
        read_examples(path, "test")


BAD_LINES = {
    b'{"text": "a", "label": "x"': "broken JSON",
    b'["a", "x"]': "JSON object",
    b'{"label": "x"}': "'text' is missing",
    b'{"text": "a"}': "'label' is missing",
    b'{"text": "a", "label": " "}': "'label' is missing or empty",
    b'{"text": "", "label": "x"}': "text is empty",
    b'{"text": " \\t", "label": "x"}': "text is empty",
    b'{"text": 3, "label": "x"}': "text must be a string",
    b'{"text": "a", "label": 1.5}': "label must be a name",
    b'{"text": "caf\xe9", "label": "x"}': "not UTF-8",
    b'{"text": "a", "text_pair": "b", "label": "x"}': "text_pair in some rows only",
    b'{"text": "a", "id": "same", "label": "x"}': r"already that of .*f.jsonl:1",
    b'{"text": "a", "id": [1], "label": "x"}': "id must be",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_lines_are_refused_by_file_and_line(tmp_path, line):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"id": "same", "text": "ok", "label": "x"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=BAD_LINES[line].replace("(", r"\(")) as caught:
        read_examples(path, "test")
    assert f"{path}:3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "f.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no example"):
        read_examples(tmp_path / "f.jsonl", "test")


def test_a_changed_data_file_is_refused(bound, toy):
    run = bound()
    run.dataset.sha256["test"] = benchmarks.read_split(toy / "test.jsonl", "test").sha256
    sources.load_splits(run)
    run.dataset.sha256["test"] = "0" * 64
    with pytest.raises(UserError, match="not the pinned"):
        sources.load_splits(run)


def test_committed_synthetic_sets_are_the_pinned_ones():
    from synthweight.config import bind, schema

    for name in ("product_reviews", "financial", "tweet_irony", "mrpc"):
        dataset = bind.load_choice("dataset", name)
        paths = sorted((schema.DATA / name).glob("*.jsonl"))
        assert paths
        assert {path.stem: benchmarks.read_split(path, "synthetic").sha256 for path in paths} == {
            stem: sha256 for stem, sha256 in dataset.sha256.items() if stem.startswith("synthetic")
        }  # fmt: skip


# what a run reads


def test_materials_of_every_source(bound, toy):
    n = {s: len(read_examples(toy / f"{s}.jsonl", s)) for s in ("small_real", "large_real", "synthetic")}
    assert len(sources.build_run_data(bound("source=synthetic")).train) == n["synthetic"]
    assert len(sources.build_run_data(bound("source=large_real")).train) == n["large_real"]
    assert len(sources.build_run_data(bound("source=small_real", "selection=last")).train) == n["small_real"]
    mixed = sources.build_run_data(bound("source=mixed", "selection=last"))
    assert len(mixed.train) == n["synthetic"] + n["small_real"]
    assert set(mixed.record) == {"synthetic", "small_real", "test"}
    own = sources.build_run_data(bound("source=file", f"source.path={toy / 'large_real.jsonl'}"))
    assert own.train[0].id == "file:0"
    assert own.labels == ("negative", "neutral", "positive")


def test_overlaps_are_dropped_and_counted(bound, toy, tmp_path):
    text = read_examples(toy / "test.jsonl", "test")[0].text
    real = read_examples(toy / "small_real.jsonl", "small_real")[1].text
    rows = [{"text": t, "label": "neutral"} for t in (text.upper() + "!", real, "a box of its own")]
    path = write(tmp_path / "own.jsonl", rows)
    material = sources.build_run_data(bound("source=file", f"source.path={path}"))
    assert [e.id for e in material.train] == ["file:2"]
    assert material.record["file"]["overlap"] == {"test": 1, "small_real": 1}
    assert material.record["file"]["dropped"] == 2
    assert material.record["file"]["n"] == 3


def test_official_splits_keep_their_overlaps_but_count_them(bound, toy, tmp_path):
    rows = [json.loads(line) for line in (toy / "large_real.jsonl").read_text().splitlines()]
    twin = json.loads((toy / "test.jsonl").read_text().splitlines()[0])
    for split in ("small_real", "test", "synthetic"):
        write(
            tmp_path / "o" / f"{split}.jsonl",
            [json.loads(x) for x in (toy / f"{split}.jsonl").read_text().splitlines()],
        )
    write(tmp_path / "o" / "large_real.jsonl", [*rows, twin])
    kept = sources.build_run_data(
        bound("source=large_real", f"dataset.path={tmp_path / 'o'}", "dataset.drop_overlap=false")
    )
    assert kept.record["large_real"] | {"sha256": ""} == {
        "sha256": "", "n": len(rows) + 1, "overlap": {"test": 1, "small_real": 0}, "dropped": 0, "absent": [],
    }  # fmt: skip
    dropped = sources.build_run_data(bound("source=large_real", f"dataset.path={tmp_path / 'o'}"))
    assert len(dropped.train) == len(rows)


@pytest.mark.parametrize(
    "texts",
    [
        ["C is old", "C# is old", "C++ is old"],
        ["5 degrees", "-5 degrees", "+5 degrees"],
        ["x < 3", "x > 3"],
        ["x == 3", "x != 3"],
        ["it fits :(", "it fits :-)", "it fits ;)", "it fits :)", "it fits"],
        ["good 😀", "good 😡", "good"],
        ["कि", "की", "कु", "क"],  # vowel signs are marks
        ["ที่", "ที", "ทู"],
        ["e", "é"],
    ],
)
def test_texts_that_differ_by_letters_marks_symbols_or_emoji_are_different(texts):
    assert len({folded(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Hello,world", "hello , World."), ("Great!!!", "great"), ("“so”", '"so"'), ("e\u0301", "é"), ("Straße", "STRASSE"),
     ("Ａ１", "a1"), ("a – b", "a b")],
)  # fmt: skip
def test_texts_that_differ_by_case_space_punctuation_or_form_are_equal(one, other):
    assert folded(one) == folded(other)


@pytest.mark.parametrize("source", ["synthetic", "file", "mixed", "large_real"])
def test_overlaps_are_dropped_or_kept_as_asked_for_every_source(bound, toy, tmp_path, source, caplog):
    for split in ("small_real", "test", "synthetic", "large_real"):
        rows = [json.loads(line) for line in (toy / f"{split}.jsonl").read_text().splitlines()]
        if split in ("synthetic", "large_real"):
            rows.append(json.loads((toy / "test.jsonl").read_text().splitlines()[0]))
        write(tmp_path / "o" / f"{split}.jsonl", rows)
    values = [f"source={source}", f"dataset.path={tmp_path / 'o'}"]
    values += [f"source.path={tmp_path / 'o' / 'synthetic.jsonl'}"] if source == "file" else []
    values += ["selection=last"] if source == "mixed" else []
    with caplog.at_level("INFO"):
        kept = sources.build_run_data(bound(*values, "dataset.drop_overlap=false"))
        assert not caplog.records
        dropped = sources.build_run_data(bound(*values, "dataset.drop_overlap=true"))
    assert len(kept.train) - len(dropped.train) == 1
    assert "1 of" in caplog.text
    assert repr(kept.train[-1 if source != "mixed" else SIZES["synthetic"]].text)[1:-1] in caplog.text


def test_a_variant_of_the_synthetic_set_is_an_axis(bound, toy, tmp_path):
    copytree(toy, tmp_path / "toy")
    rows = [json.loads(line) for line in (toy / "synthetic.jsonl").read_text().splitlines()]
    write(tmp_path / "toy" / "synthetic_gpt4.jsonl", rows[:50])
    local = f"dataset.path={tmp_path / 'toy'}"
    assert len(sources.build_run_data(bound(local, "source.variant=gpt4")).train) == 50
    assert len(sources.build_run_data(bound(local)).train) == len(rows)
    with pytest.raises(UserError, match=r"no synthetic_llama2\.jsonl in .*source\.variant= may be gpt4"):
        sources.build_run_data(bound(local, "source.variant=llama2"))
    with pytest.raises(UserError, match=r"source\.variant must be null for this source"):
        bound("source=large_real", "source.variant=gpt4")


def test_subsets_are_nested_stratified_and_seeded(bound):
    whole = sources.build_run_data(bound()).train
    small, large = (sources.build_run_data(bound(f"source.n={n}")).train for n in (30, 60))
    assert {e.id for e in small} < {e.id for e in large} < {e.id for e in whole}
    assert Counter(e.label for e in small) == {"negative": 10, "neutral": 10, "positive": 10}
    assert [e.id for e in small] == [e.id for e in whole if e in small]
    assert {e.id for e in sources.build_run_data(bound("source.n=30", "seed=1")).train} != {
        e.id for e in small
    }
    with pytest.raises(UserError, match=r"source\.n=10000"):
        sources.build_run_data(bound("source.n=10000"))


def test_shares_of_mixed_are_nested_and_seeded(bound):
    def train(*overrides):
        examples = sources.build_run_data(bound("source=mixed", *overrides)).train
        return [{e.id for e in examples if e.id.startswith(side)} for side in ("synthetic", "small_real")]

    synthetic, real = train("source.n=30", "source.real_n=15")
    assert (len(synthetic), len(real)) == (30, 15)
    more_synthetic, same_real = train("source.n=60", "source.real_n=15")
    same_synthetic, more_real = train("source.n=30", "source.real_n=30")
    assert (same_synthetic, same_real) == (synthetic, real)
    assert synthetic < more_synthetic
    assert real < more_real
    assert train("source.n=30", "source.real_n=15", "seed=1")[1] != real
    with pytest.raises(UserError, match=r"source\.real_n=46: there are 45 examples"):
        train("source.real_n=46")
    with pytest.raises(UserError, match=r"source\.real_n=2: none of 2 examples of D_P' is of class"):
        train("source.real_n=2")
    with pytest.raises(UserError, match=r"source\.real_n must be at least 1, or null for all, is 0"):
        bound("source=mixed", "source.real_n=0")


def test_a_smaller_real_set_is_one_for_training_choice_and_hold_out(bound):
    def data(*overrides):
        return sources.build_run_data(bound("source.real_n=15", *overrides))

    alone = {e.id for e in data("source=small_real").train}
    assert {e.id for e in data().selection} == alone == {e.id for e in data().dev}
    held = data("selection=holdout")
    assert {e.id for e in held.selection} | {e.id for e in held.dev} == alone
    assert {e.id for e in data("source=small_real", "source.n=6").train} < alone
    whole = sources.build_run_data(bound())
    assert [e.id for e in data().train] == [e.id for e in whole.train]  # overlaps are dropped of all of D_P'


def test_holdout_is_stratified_disjoint_and_not_by_seed(bound):
    runs = [bound("source=small_real", "selection=holdout", f"seed={seed}") for seed in (0, 1)]
    one, two = map(sources.build_run_data, runs)
    assert one.selection == two.selection
    assert not {e.id for e in one.selection} & {e.id for e in one.train}
    assert Counter(e.label for e in one.selection) == {"negative": 3, "neutral": 3, "positive": 3}
    assert len(one.selection) + len(one.train) == 45
    with pytest.raises(UserError, match="without class"):
        sources.build_run_data(bound("source=small_real", "selection=holdout", "selection.holdout=0.01"))


def test_selection_series_by_split(bound):
    assert len(sources.build_run_data(bound()).selection) == 45
    assert len(sources.build_run_data(bound("selection=holdout")).selection) == 9
    assert sources.build_run_data(bound("selection=last")).selection == ()


def test_a_class_absent_from_dprime_is_refused(bound, toy, tmp_path):
    for split in ("small_real", "test", "synthetic"):
        rows = [json.loads(x) for x in (toy / f"{split}.jsonl").read_text().splitlines()]
        keep = [r for r in rows if split != "small_real" or r["label"] != "neutral"]
        write(tmp_path / "b" / f"{split}.jsonl", keep)
    named = "dataset.labels=[negative,neutral,positive]"
    with pytest.raises(UserError, match="no example of class 'neutral'"):
        sources.build_run_data(bound(f"dataset.path={tmp_path / 'b'}", named))
    with pytest.raises(UserError, match="unknown label 'neutral'"):
        sources.build_run_data(bound(f"dataset.path={tmp_path / 'b'}"))


def test_pairs_in_one_split_only_are_refused(bound, tmp_path):
    path = write(tmp_path / "p.jsonl", [{"text": "a", "text_pair": "b", "label": "neutral"}])
    with pytest.raises(UserError, match="one task, one shape"):
        sources.build_run_data(bound("source=file", f"source.path={path}"))


def test_folds_keep_equal_texts_together(bound):
    examples = tuple(Example(str(i), f"t{i // 2}", None, "xy"[i // 2 % 2]) for i in range(40))
    of = subsets.assign_folds(examples, 5, seed=0)
    parts = [subsets.split_fold(examples, of, fold) for fold in range(5)]
    assert sorted((e for _, held in parts for e in held), key=lambda e: int(e.id)) == list(examples)
    for train, held in parts:
        assert len(train) + len(held) == 40
        assert not {e.text for e in train} & {e.text for e in held}


# where the benchmarks come from


def test_product_reviews_split_rule():
    """Whole reviews by the hash of their id; ratings at the edges; source order within a split."""
    table = "".join(
        f"{r}_{s}\t{[-0.5, 0.49, 0.5][s % 3]}\ttext {r} {s} \r\n" for r in range(250) for s in range(8)
    )
    out = product_reviews.split_reviews(table)
    assert sum(map(len, out.values())) == 2000
    order = sorted(map(str, range(250)), key=lambda r: hashlib.sha256(r.encode()).hexdigest())
    assert {row["text"].split()[1] for row in out["test"]} == set(order[:150])  # 150 × 8 = 1,200: full
    assert len(out["small_real"]) == 304  # whole reviews until 1,500 in all are reached
    assert [row["label"] for row in out["test"][:3]] == ["negative", "neutral", "positive"]
    numbers = [int(row["text"].split()[1]) for row in out["test"]]
    assert numbers == sorted(numbers)
    assert all(set(row) == {"text", "label"} for row in out["large_real"])


def test_product_reviews_archive_within_archive(tmp_path):
    def pack(name: str, data: bytes, member: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    inner = pack("inner", "1_1\t2.0\tcaf\xe9".encode("latin-1"), f"hutto/{product_reviews.MEMBER}")
    (tmp_path / "a.tar.gz").write_bytes(pack("outer", inner, f"vaderSentiment-3.3.2/{product_reviews.INNER}"))
    assert product_reviews.read_archive(tmp_path / "a.tar.gz") == "1_1\t2.0\tcafé"


LABELS = {
    "financial": ["negative", "neutral", "positive"],
    "tweet_irony": ["non_irony", "irony"],
    "mrpc": ["not_equivalent", "equivalent"],
}
COLUMNS = {"financial": ["sentence"], "tweet_irony": ["text"], "mrpc": ["sentence1", "sentence2"]}


def hub_like(folder, dataset: str, splits: dict[str, int]):
    """Local files of the hub's shape: parquet with a ClassLabel, under a config name."""
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features(
        {**dict.fromkeys(COLUMNS[dataset], Value("string")), "label": ClassLabel(names=LABELS[dataset])}
    )
    for split, n in splits.items():
        rows = [
            {**{c: f" {split} {c} {i} " for c in COLUMNS[dataset]}, "label": i % len(LABELS[dataset])}
            for i in range(n)
        ]
        part = folder / ("sentences_50agree" if dataset == "financial" else "data") / split
        part.mkdir(parents=True)
        Dataset.from_list(rows, features=features).to_parquet(part / "0000.parquet")
    return folder


def from_hub(bound, monkeypatch, folder, dataset, *overrides):
    monkeypatch.setattr(benchmarks, "DATA", folder / "nothing")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    where = [f"dataset={dataset}", "dataset.path=null", f"dataset.hub.path={folder}", "paths.data=null"]
    named = [] if dataset == "financial" else ["dataset.hub.name=null"]
    run = bound("source=large_real", *where, *named, *overrides)
    with logged("is not the data we pinned"):
        return sources.load_splits(run)


def test_financial_from_the_hub(bound, monkeypatch, tmp_path):
    folder = hub_like(tmp_path / "hub", "financial", {"train": 4846})
    splits = from_hub(bound, monkeypatch, folder, "financial")
    assert {name: len(s.examples) for name, s in splits.items()} == {
        "large_real": 3392,
        "small_real": 242,
        "test": 1212,
    }
    ordered = [*splits["test"].examples, *splits["small_real"].examples, *splits["large_real"].examples]
    hashes = [hashlib.sha256(e.text.encode()).hexdigest() for e in ordered]
    assert hashes == sorted(hashes)
    assert ordered[0].text == ordered[0].text.strip()
    assert splits["test"].examples[0].id == "test:0"


def test_tweet_irony_from_the_hub(bound, monkeypatch, tmp_path):
    folder = hub_like(tmp_path / "hub", "tweet_irony", {"train": 50, "validation": 400, "test": 20})
    splits = from_hub(bound, monkeypatch, folder, "tweet_irony")
    assert {name: len(s.examples) for name, s in splits.items()} == {
        "large_real": 50,
        "small_real": 300,
        "test": 20,
    }
    assert [e.text for e in splits["large_real"].examples][:2] == ["train text 0", "train text 1"]
    assert splits["large_real"].examples[1].label == "irony"
    hashes = [hashlib.sha256(e.text.encode()).hexdigest() for e in splits["small_real"].examples]
    assert hashes == sorted(hashes)


def test_mrpc_from_the_hub(bound, monkeypatch, tmp_path):
    folder = hub_like(tmp_path / "hub", "mrpc", {"train": 30, "validation": 12, "test": 17})
    splits = from_hub(bound, monkeypatch, folder, "mrpc")
    assert {name: len(s.examples) for name, s in splits.items()} == {
        "large_real": 30,
        "small_real": 12,
        "test": 17,
    }
    first = splits["small_real"].examples[0]
    assert (first.text, first.text_pair, first.label) == (
        "validation sentence1 0",
        "validation sentence2 0",
        "not_equivalent",
    )


def test_ties_in_hash_order_fall_to_the_label():
    rows = [("same", None, "positive"), ("same", None, "negative")]
    assert [label for _, _, label in hub.sort_by_hash(rows)] == ["negative", "positive"]


def test_the_hub_out_of_reach_says_how_to_work_offline(bound, monkeypatch, tmp_path):
    run = bound("source=large_real", "dataset=mrpc", "dataset.path=null")
    with pytest.raises(UserError, match=r"offline, put small_real\.jsonl"):
        sources.load_splits(run)


def test_a_hub_dataset_without_a_rule_is_refused(bound):
    hub = "dataset.hub={path: someone/mine, name: null, data_dir: null, revision: null}"
    run = bound("source=large_real", "dataset=mrpc", "dataset.name=mine", "dataset.path=null", hub)
    with pytest.raises(UserError, match=r"dataset=mine: .* or a rule into SPLIT_RULES of data/hub\.py"):
        sources.load_splits(run)


def test_paths_data_comes_before_the_projects_own(bound, toy, tmp_path):
    own = tmp_path / "d" / "product_reviews"
    for split in ("small_real", "test", "synthetic"):
        write(
            own / f"{split}.jsonl", [json.loads(x) for x in (toy / f"{split}.jsonl").read_text().splitlines()]
        )
    none = "dataset.sha256={small_real: null, large_real: null, test: null, synthetic: null}"
    splits = sources.load_splits(
        bound("dataset=product_reviews", "dataset.path=null", f"paths.data={tmp_path / 'd'}", none)
    )
    assert len(splits["synthetic"].examples) == 96


def test_texts_that_are_equal_by_a_key_are_in_one_fold():
    texts = [f"{kind}{i}{end}" for i in range(20) for kind, end in (("Text ", "!"), ("text ", ""))]
    examples = tuple(Example(str(i), text, None, "xy"[i // 2 % 2]) for i, text in enumerate(texts))
    of = subsets.assign_folds(examples, 5, 0, overlap_key)
    assert (of[::2] == of[1::2]).all()
    assert (subsets.assign_folds(examples, 5, 0)[::2] != subsets.assign_folds(examples, 5, 0)[1::2]).any()
