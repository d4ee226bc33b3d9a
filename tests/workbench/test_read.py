"""What a user may give, and what is said where it is wrong."""

import csv
import gzip
import json

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synthweight.data.readers import iter_rows
from synthweight.errors import UserError
from synthweight.workbench.read import Columns, guess, label_of, read_all, read_table

ROWS = [
    {"review": f"a {word} thing, it is", "stars": label}
    for word, label in [("good", 1), ("bad", 0), ("fine", 1), ("sad", 0)]
]
OTHER = [
    {"review": f"one {word} thing, it was", "stars": label} for word, label in [("great", 1), ("poor", 0)]
]


def write(path, rows):
    """Rows in the format that the file's name says."""
    opened = gzip.open if path.suffix == ".gz" else open
    kind = path.name.split(".")[1]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if kind in ("csv", "tsv"):
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
        elif kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            json.dump(rows, file)
    return path


NAMES = ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.json.gz")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_every_format_holds_the_same_examples(tmp_path, name):
    table = read_table(write(tmp_path / name, ROWS), "real")
    assert [(e.text, e.label) for e in table.examples] == [(row["review"], str(row["stars"])) for row in ROWS]
    assert table.ids == ("1", "2", "3", "4")


def test_frames_datasets_folders_and_lists_hold_the_same_examples(tmp_path):
    classes = datasets.Features(
        {"review": datasets.Value("string"), "stars": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_list(ROWS, features=classes)
    data.save_to_disk(tmp_path / "saved")
    named = [("bad", "good")[row["stars"]] for row in ROWS]
    for source in (data, tmp_path / "saved", datasets.DatasetDict({"train": data})):
        assert [e.label for e in read_table(source, "real").examples] == named
    for source in (pd.DataFrame(ROWS), ROWS, datasets.Dataset.from_list(ROWS)):
        assert [e.label for e in read_table(source, "real").examples] == ["1", "0", "1", "0"]
    frame = pd.DataFrame(ROWS).astype({"stars": float})  # as pandas has it after a missing value
    assert [e.label for e in read_table(frame, "real").examples] == ["1", "0", "1", "0"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["text", "label"], ("text", None, "label")),
        (["id", "Review", "Target"], ("Review", None, "Target")),
        (["sentence1", "sentence2", "label"], ("sentence1", "sentence2", "label")),
        (["text", "text_pair", "class"], ("text", "text_pair", "class")),
        (["what they wrote", "label"], ("what they wrote", None, "label")),
    ],
)
def test_columns_are_guessed_where_they_are_plain(names, found):
    chosen = guess(names, Columns(), "x.csv")
    assert (chosen.text, chosen.text_pair, chosen.label) == found


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (
            ["text", "mood"],
            Columns(),
            "no column is plainly the label: name it by --label; there are text, mood",
        ),
        (["text", "label", "class"], Columns(), "label, class could all be the label"),
        (["text", "review", "label"], Columns(), "text, review could all be the text"),
        (["one", "two", "label"], Columns(), "no column is plainly the text"),
    ],
)
def test_columns_that_cannot_be_guessed_are_named(names, given, message):
    with pytest.raises(UserError, match=message):
        guess(names, given, "x.csv")


def test_labels_are_names_however_they_are_written():
    same = [label_of({"label": value}, "label", "x") for value in (1, 1.0, "1", " 1 ")]
    assert same == ["1"] * 4
    assert [label_of({"label": value}, "label", "x") for value in (True, "True")] == ["True"] * 2
    for bad in (None, "", "  ", float("nan"), pd.NA, 0.5, [1]):
        with pytest.raises(UserError, match="x: label"):
            label_of({"label": bad}, "label", "x")


BAD_FILES = {
    "empty.csv": (b"", "holds no example"),
    "header.csv": (b"text,label\n", "holds no example"),
    "nul.csv": (b"text,label\nok,1\nno\0t,1\n", "nul.csv:3: a NUL byte"),
    "quote.csv": (
        b'text,label\nfine,1\n"never closed,0\nmore,1\n',
        "quote.csv:3: a quote that is broken or never closed",
    ),
    "fields.csv": (b"text,label\na,b,1\n", "fields.csv:2: 3 fields where the header has 2"),
    "twice.csv": (b"text,text\na,b\n", "two columns are named 'text'"),
    "latin.csv": ("text,label\nr\u00e9,1\n".encode("latin-1"), "latin.csv:2: byte 2 is not UTF-8"),
    "broken.jsonl": (b'{"text": "a", "label": 1}\n{"text": \n', "broken.jsonl:2: broken JSON"),
    "list.jsonl": (b"[1]\n", "list.jsonl:1: a JSON object is expected"),
    "object.json": (b'{"text": "a"}', "no column is plainly the label"),
    "not.parquet": (b"PAR2", "not readable as Parquet"),
    "not.csv.gz": (b"\x1f\x8bno", "not a whole gzip file"),
    "what.xlsx": (b"PK", "unknown kind of file"),
    "blank.csv": (b'text,label\na,1\n"  ",1\n', "blank.csv:3: text is empty"),
    "number.jsonl": (b'{"text": 5, "label": 1}\n', "number.jsonl:1: text must be text, is 5"),
    "label.csv": (b"text,label\na,\n", "label.csv:2: label is empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        read_table(tmp_path / name, "real")
    assert "\n" not in str(refused.value)


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines",1\nnext,0\n')
    assert [where.rpartition(":")[2] for where, _ in iter_rows(tmp_path / "a.csv")] == ["2", "4"]


def test_labels_of_one_set_alone_are_refused_or_left_out(caplog):
    extra = [*OTHER, {"review": "odd", "stars": 7}]
    with pytest.raises(
        UserError, match=r"labels that the real list does not have: '7' \(1\); it has '0', '1'"
    ):
        read_all(ROWS, extra)
    with pytest.raises(
        UserError, match=r"the real list: labels that the synthetic list does not have: '7' \(1\)"
    ):
        read_all([*ROWS, {"review": "odd", "stars": 7}], OTHER)
    data = read_all(ROWS, extra, drop_unknown=True)
    assert (len(data.synthetic.examples), data.labels) == (2, ("0", "1"))
    assert "left out 1 examples" in caplog.text


def test_data_that_cannot_be_learned_from_are_refused():
    same = [row | {"stars": 1} for row in ROWS]
    many = [row | {"stars": i} for i, row in enumerate(ROWS)]
    for real, synthetic, message in (
        (same, same, "one label only"),
        (many, many, "4 different labels in 4 rows are hardly classes"),
        (
            ROWS,
            [{"review": row["review"].upper() + "!", "stars": row["stars"]} for row in ROWS],
            "every text is in",
        ),
        (ROWS, [row | {"text_pair": "b"} for row in OTHER], "has pairs of texts and the real list has none"),
    ):
        with pytest.raises(UserError, match=message):
            read_all(real, synthetic)


def test_the_sets_may_name_their_columns_differently():
    data = read_all(
        [{"what": row["review"], "id": 7, "stars": row["stars"]} for row in ROWS],
        OTHER,
        columns=Columns(text="what"),
    )
    assert (data.real.columns.text, data.synthetic.columns.text) == ("what", "review")
    with pytest.raises(
        UserError, match="--label mood: no such column: the real list has review, stars; the synthetic list"
    ):
        read_all(ROWS, OTHER, columns=Columns(label="mood"))


def test_texts_with_several_labels_are_counted():
    conflicting = [*OTHER, OTHER[0] | {"stars": 0}]
    assert read_all(ROWS, conflicting).conflicts == {"real": 0, "synthetic": 1}


def test_ids_are_kept_and_replaced_by_numbers_where_they_are_none(caplog):
    rows = [{"id": i, "text": f"t{i}", "label": "a"} for i in range(3)]
    assert read_table(rows, "real").ids == ("0", "1", "2")
    assert read_table([rows[0], rows[1] | {"id": None}], "real").ids == ("0", "row 2")
    assert not caplog.messages
    assert read_table([rows[0], rows[0]], "real").ids == ("1", "2")
    assert caplog.messages == [
        "the real list: the id '0' comes twice: its rows are named by their numbers instead"
    ]
