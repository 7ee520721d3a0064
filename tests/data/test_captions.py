import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from polylens.data.captions import read_captions, split_by_image, with_references
from polylens.data.mix import read_mix
from polylens.data.rows import INVISIBLE
from polylens.data.sample import Picture, Sample
from polylens.data.spec import Part
from polylens.errors import UserError
from polylens.languages import LANGUAGES

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: "\0" not in text and not INVISIBLE.fullmatch(text)
)
ROWS = st.lists(
    st.dictionaries(
        st.sampled_from(sorted(LANGUAGES)), st.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=3
    ),
    min_size=1,
    max_size=5,
)


def write(folder: Path, *rows, end: str = "\n", before: bytes = b"", ensure_ascii: bool = False) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=ensure_ascii) for row in rows]
    (folder / "captions.jsonl").write_bytes(before + "".join(line + end for line in lines).encode("utf-8"))
    return folder


@pytest.fixture
def folder(tmp_path):
    for i in range(5):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "images" / "inner.png")
    return tmp_path


def row(image="0.png", captions=None, **extra):
    return {"image": image, "captions": captions or {"de": ["Ein Hund."]}} | extra


def test_samples_of_a_row(folder):
    write(folder, row(captions={"de": ["Ein Hund.", "Hund"], "iw": ["כלב"]}, year=1990, tags=["a"]))
    samples = read_captions(folder)
    assert [(s.id, s.language, s.turns[0].prompt, s.turns[0].answer) for s in samples] == [
        ("0.png:de:0", "de", "Caption in German: ", "Ein Hund."),
        ("0.png:de:1", "de", "Caption in German: ", "Hund"),
        ("0.png:he:0", "he", "Caption in Hebrew: ", "כלב"),
    ]
    for sample in samples:
        assert (sample.task, sample.source, sample.extra) == (
            "caption",
            folder.name,
            {"year": 1990, "tags": ["a"]},
        )
        assert isinstance(sample.images[0], Picture)
        assert sample.images[0].load().size == (8, 8)


def test_images_may_lie_in_their_folder_or_anywhere(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("else") / "far.png"
    Image.new("RGB", (9, 9)).save(elsewhere)
    write(folder, row("inner.png"), row("images/inner.png".replace("inner", "../1")), row(str(elsewhere)))
    assert [s.images[0].load().size for s in read_captions(folder)] == [(8, 8), (8, 8), (9, 9)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", " \n"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_marks_of_editors(folder, end, before):
    write(folder, row("0.png"), row("1.png"), end=end, before=before)
    assert [s.turns[0].answer for s in read_captions(folder)] == ["Ein Hund."] * 2


def test_the_last_line_needs_no_end(folder):
    (folder / "captions.jsonl").write_text(json.dumps(row()))
    assert len(read_captions(folder)) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_any_text_comes_back_as_it_was(folder, captions, ensure_ascii, end):
    write(folder, *(row(f"{i}.png", c) for i, c in enumerate(captions)), ensure_ascii=ensure_ascii, end=end)
    expected = [(f"{i}.png", code, text) for i, c in enumerate(captions) for code in c for text in c[code]]
    assert [(s.images[0].path.name, s.language, s.turns[0].answer) for s in read_captions(folder)] == expected


def test_separators_inside_a_caption_do_not_end_it(folder):
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    write(folder, row(captions={"en": [text, "é", "e\u0301", "می\u200cخواهم"]}))
    assert [s.turns[0].answer for s in read_captions(folder)] == [text, "é", "e\u0301", "می\u200cخواهم"]


def test_languages_are_filtered_in_any_spelling(folder):
    write(folder, row("0.png", {"de": ["a"], "zh": ["b"], "no": ["c"]}), row("1.png", {"sw": ["d"]}))
    assert [s.turns[0].answer for s in read_captions(folder, ["zh-CN", "NB"])] == ["b", "c"]
    with pytest.raises(UserError, match="has no captions in fi: it has de, no, sw, zh"):
        read_captions(folder, ["fi"])
    with pytest.raises(UserError, match="did you mean 'de'"):
        read_captions(folder, ["dee"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ('{"image": "1.png", "image": "2.png"}', "the field 'image' is there twice"),
        ('{"image": "1.png", "captions": {"de": ["a"], "de": ["b"]}}', "the field 'de' is there twice"),
        ("[" * 100_000, "line 2: too deeply nested"),
        ('"text"', "line 2: not a JSON object"),
        ("{}", 'line 2: no image: write "image"'),
        (row(" "), "line 2: no image"),
        (row(7), "line 2: no image"),
        (row("none.png"), "line 2: the image 'none.png' is neither in"),
        (row("images"), "the image 'images' is not a file"),
        (row("a\0b"), "neither in"),
        (row("0.png"), "the image '0.png' is also in line 1"),
        (row("./0.png"), r"the image './0.png' is also in line 1"),
        ({"image": "1.png"}, "line 2: no captions"),
        ({"image": "1.png", "captions": {}}, "line 2: no captions"),
        ({"image": "1.png", "captions": ["a"]}, "line 2: no captions"),
        (
            row("1.png", {"dee": ["a"]}),
            "no languages here: 'dee' .1 captions, first in line 2; did you mean 'de'",
        ),
        (row("1.png", {"he": ["a"], "iw": ["b"]}), "'iw' is a second spelling of 'he'"),
        (row("1.png", {"de": "a"}), "the captions in 'de' are no list"),
        (row("1.png", {"de": []}), "the captions in 'de' are no list"),
        (row("1.png", {"de": ["a", ""]}), "caption 2 in 'de' is empty"),
        (row("1.png", {"de": [" \u2028"]}), "caption 1 in 'de' is empty"),
        (row("1.png", {"de": [None]}), "caption 1 in 'de' is null"),
        ('{"image": "1.png", "captions": {"de": ["\\ud800"]}}', "line 2: half a surrogate pair"),
        ('{"image": "1.png", "n": ' + "1" * 5000 + "}", "line 2: "),
    ],
)
def test_mistakes_are_named_with_their_line(folder, line, message):
    write(folder, row("0.png"), line)
    with pytest.raises(UserError, match=message):
        read_captions(folder)


def test_files_that_are_not_there_or_not_utf8(folder, tmp_path):
    (folder / "captions.jsonl").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"There is no captions\.jsonl in"):
        read_captions(folder)
    write(folder)
    with pytest.raises(UserError, match="has no captions: the file is empty"):
        read_captions(folder)
    (folder / "captions.jsonl").write_bytes(
        json.dumps(row()).encode() + b"\n" + '{"image": "ä"}'.encode("latin-1")
    )
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        read_captions(folder)
    (folder / "captions.jsonl").write_bytes(json.dumps(row()).encode("utf-16"))
    with pytest.raises(UserError, match="line 1: not UTF-8"):
        read_captions(folder)


@pytest.fixture
def many(tmp_path):
    for i in range(60):
        Image.new("RGB", (8, 8), (i, 3 * i, 100)).save(tmp_path / f"{i}.png")
    write(tmp_path, *(row(f"{i}.png", {"de": ["a", "b"], "en": ["c"]}) for i in range(60)))
    return tmp_path


def test_splits_go_by_the_images_bytes(many):
    samples = read_captions(many)
    train, test = split_by_image(samples, 0.5)
    assert len(train) + len(test) == len(samples)
    assert 15 * 3 < len(train) < 45 * 3
    assert not {s.images[0].path for s in train} & {s.images[0].path for s in test}
    assert [s for s in samples if s in train] == train
    shuffled = random.Random(0).sample(samples, len(samples))
    assert {s.id for s in split_by_image(shuffled, 0.5)[0]} == {s.id for s in train}
    assert {s.id for s in split_by_image(train, 0.5)[0]} == {s.id for s in train}
    wider = split_by_image(samples, 0.8)[0]
    assert {s.id for s in train} < {s.id for s in wider}
    renamed = train[0].images[0].path
    renamed.rename(many / "renamed.png")
    write(many, row("renamed.png"))
    assert len(split_by_image(read_captions(many), 0.5)[0]) == 1


def test_edges_of_splits(many):
    samples = read_captions(many)
    assert split_by_image(samples, 0) == ([], samples)
    assert split_by_image(samples, 1) == (samples, [])
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="must be from 0 to 1"):
            split_by_image(samples, share)
    with pytest.raises(UserError, match="'x' has no image"):
        split_by_image([Sample("x", (), (), "de", "caption", "s")], 0.5)


def test_references_are_gathered_by_image_and_language(many):
    items = with_references(read_captions(many))
    assert len(items) == 120
    assert [(s.id, references) for s, references in items[:2]] == [
        ("0.png:de:0", ["a", "b"]),
        ("0.png:en:0", ["c"]),
    ]


MIXED = [
    {"image": "1.png", "captions": {"de": ["Hund", "\u200b"], "xx-nothing": ["?", "?"], "en": [""]}},
    {"image": "gone.png", "captions": {"en": ["a cat"]}},
    {"image": "2.png", "captions": {"en": ["a dog"], "nowhere": ["?"], "xx-nothing": ["?"]}},
]


@pytest.fixture
def mixed(tmp_path):
    for name in ("1.png", "2.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MIXED))
    return tmp_path


def test_what_cannot_be_read_is_left_out_and_counted(mixed, caplog):
    assert [sample.id for sample in read_captions(mixed, policy="skip")] == ["1.png:de:0", "2.png:en:0"]
    assert "left out 3 samples that cannot be read" in caplog.text
    assert "'xx-nothing' (3 captions, first in line 1" in caplog.text
    assert "'nowhere' (1 captions, first in line 3" in caplog.text


def test_all_strange_languages_in_one_message(mixed):
    rows = [row for row in MIXED if row["image"] != "gone.png"]
    rows[0] = rows[0] | {"captions": {"de": ["Hund"], "xx-nothing": ["?"]}}
    (mixed / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"'xx-nothing' .2 captions.*'nowhere' .1 captions"):
        read_captions(mixed)
    # Of the languages that are asked for, all is known.
    assert len(read_captions(mixed, ["de", "en"])) == 2
    (mixed / "captions.jsonl").write_text(json.dumps(MIXED[0]))
    with pytest.raises(UserError, match="caption 2 in 'de' is empty"):
        read_captions(mixed)


def test_own_captions_are_a_part_of_a_mix(mixed):
    part = Part(source="captions", path=mixed, build="caption")
    mix = read_mix([part], 0, "skip")
    assert [(one.language, one.turns[0].answer, one.extra["image"]) for one in mix] == [
        ("de", "Hund", "1.png"),
        ("en", "a dog", "2.png"),
    ]
    with pytest.raises(UserError):
        read_mix([part], 0)


def test_rows_without_a_text_are_skipped_in_a_mix(tmp_path, caplog):
    row = {"id": "1", "images": [], "turns": [["a", "b"]], "language": "de", "task": "vqa", "source": "s"}
    rows = [
        row,
        row | {"id": "2", "turns": [["a", ""]]},
        row | {"id": "3", "language": "xx-no"},
        row | {"id": "4"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    part = Part(source="jsonl", path=tmp_path / "a.jsonl")
    assert [sample.id for sample in read_mix([part], 0, "skip")] == ["1", "4"]
    assert "left out 2 samples that cannot be read" in caplog.text
    with pytest.raises(UserError, match="line 2, turn 1: the answer is empty"):
        read_mix([part], 0)
