"""Readers on small files made as the official ones are published, whole and broken."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from polylens.data.readers.aokvqa import read_aokvqa
from polylens.data.readers.capfilt import read_capfilt
from polylens.data.readers.coco import read_coco
from polylens.data.readers.imagenet import read_imagenet
from polylens.data.readers.jsonl import read_jsonl, sample_to_row, write_jsonl
from polylens.data.readers.llava import read_llava
from polylens.data.readers.vqav2 import read_vqav2
from polylens.data.readers.webdataset import read_webdataset
from polylens.data.rows import json_array, json_lines
from polylens.data.sample import Turn
from polylens.data.urls import picture_path
from polylens.errors import UserError

COCO = {
    "info": {"year": 2014},
    "licenses": [],
    "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg"}, {"id": 7, "file_name": "7.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A man on a horse."},
        {"id": 2, "image_id": 9, "caption": "Food in boxes.\u2028Green."},
        {"id": 3, "image_id": 7, "caption": "نمی‌دانم «سلام» \u200c"},
    ],
}
QUESTIONS = {
    "data_subtype": "train2014",
    "questions": [{"image_id": 9, "question_id": 9000, "question": "What is green?"}],
}
ANNOTATIONS = {
    "annotations": [
        {
            "question_id": 9000,
            "image_id": 9,
            "multiple_choice_answer": "broccoli",
            "answers": [{"answer": "broccoli", "answer_id": 1}, {"answer": "trees", "answer_id": 2}],
        }
    ]
}
AOKVQA = [
    {
        "split": "train",
        "image_id": 299207,
        "question_id": "22MexNkBPpdZGX6sxbxVBH",
        "question": "What is the man by the bags awaiting?",
        "choices": ["skateboarder", "train", "delivery", "cab"],
        "correct_choice_idx": 3,
        "direct_answers": ["ride", "cab"],
        "difficult_direct_answer": False,
        "rationales": ["A train would not be on the street.", "He has bags."],
    }
]
LLAVA = [
    {
        "id": "000000215677",
        "image": "000000215677.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is the boy doing?"},
            {"from": "gpt", "value": "He skates."},
            {"from": "human", "value": "Where?"},
            {"from": "gpt", "value": "In a park."},
        ],
    }
]
CAPFILT = [{"caption": "a cat", "url": "http://a/1.jpg"}, {"caption": "a dog", "url": "http://a/2.jpg"}]


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def turns(samples):
    return [sample.turns for sample in samples]


def test_coco(tmp_path):
    (tmp_path / "7.jpg").touch()
    path = write(tmp_path / "captions_train2014.json", COCO)
    samples = list(read_coco(path, images=tmp_path))
    assert [(s.id, s.extra["image"]) for s in samples] == [("2", "9"), ("1", "7"), ("3", "7")]
    assert samples[0].turns == (Turn("", "Food in boxes.\u2028Green."),)
    assert samples[2].turns[0].answer == "نمی‌دانم «سلام» \u200c"
    assert samples[1].images[0].path == tmp_path / "7.jpg"
    assert {(s.language, s.task, s.source) for s in samples} == {("en", "caption", "coco")}
    assert {s.language for s in read_coco(path, images=tmp_path, language="JA")} == {"ja"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "has no list 'annotations'"),
        (
            {"annotations": [*COCO["annotations"], COCO["annotations"][0]]},
            "annotation 4: the id '1' is there twice",
        ),
        ({"annotations": [{"id": 1, "image_id": 7, "caption": "  "}]}, "annotation 1: 'caption' is empty"),
        ({"annotations": [{"id": 1, "image_id": 7}]}, "'caption' is null, and a text was expected"),
        (
            {"annotations": [{"id": 1, "image_id": 8, "caption": "x"}]},
            "captions of image 8, but not that image",
        ),
        ({"annotations": [{"id": 1, "image_id": 7, "caption": "\ud83d"}]}, "half a surrogate pair"),
        ({"annotations": [3]}, "annotation 1 has no whole-number 'id'"),
        ({"images": [{"id": 7}]}, "image 1: 'file_name' is null"),
    ],
)
def test_coco_mistakes(tmp_path, change, message):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(COCO | change))
    with pytest.raises(UserError, match=message):
        list(read_coco(path, images=tmp_path))


def test_vqav2(tmp_path):
    path = write(tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json", QUESTIONS)
    write(tmp_path / "v2_mscoco_train2014_annotations.json", ANNOTATIONS)
    (sample,) = read_vqav2(path, images="train2014")
    assert sample.turns == (Turn("What is green?", "broccoli"),)
    assert sample.images[0].path == Path("train2014/COCO_train2014_000000000009.jpg")
    assert sample.extra == {"image": "9", "answers": ["broccoli", "trees"]}
    other = write(tmp_path / "questions.json", QUESTIONS)
    with pytest.raises(UserError, match="name the file of 'annotations'"):
        list(read_vqav2(other, images="x"))
    annotations = write(tmp_path / "annotations.json", ANNOTATIONS)
    assert list(read_vqav2(other, images="train2014", annotations=annotations)) == [sample]
    write(annotations, {"annotations": []})
    with pytest.raises(UserError, match=r"question 1: .* has no answer to question 9000"):
        list(read_vqav2(other, images="x", annotations=annotations))
    write(other, QUESTIONS | {"questions": QUESTIONS["questions"] * 2})
    write(annotations, ANNOTATIONS)
    with pytest.raises(UserError, match="question 2: the id '9000' is there twice"):
        list(read_vqav2(other, images="x", annotations=annotations))


def test_aokvqa(tmp_path):
    path = write(tmp_path / "aokvqa_v1p0_train.json", AOKVQA)
    (sample,) = read_aokvqa(path, images="train2017")
    assert sample.turns == (Turn("What is the man by the bags awaiting?", "cab"),)
    assert sample.images[0].path == Path("train2017/000000299207.jpg")
    assert sample.extra["rationales"] == AOKVQA[0]["rationales"]
    write(path, AOKVQA * 2)
    with pytest.raises(UserError, match="row 2: the id '22MexNkBPpdZGX6sxbxVBH' is there twice"):
        list(read_aokvqa(path, images="x"))
    for wrong in (4, -1, None):
        write(path, [AOKVQA[0] | {"correct_choice_idx": wrong}])
        with pytest.raises(UserError, match="row 1: 'correct_choice_idx' names no choice"):
            list(read_aokvqa(path, images="x"))


def test_llava(tmp_path):
    path = write(tmp_path / "conversation_58k.json", LLAVA * 2)
    first, second = read_llava(path, images="train2017")
    assert first.turns == (Turn("What is the boy doing?", "He skates."), Turn("Where?", "In a park."))
    assert first.images[0].path == Path("train2017/000000215677.jpg")
    assert (first.id, second.id) == ("1", "2")
    write(path, [{"conversations": LLAVA[0]["conversations"][2:]}])
    assert next(read_llava(path, images="x")).images == ()
    for wrong in ([], LLAVA[0]["conversations"][:3], LLAVA[0]["conversations"][1:]):
        write(path, [LLAVA[0] | {"conversations": wrong}])
        with pytest.raises(UserError, match="row 1: its turns do not go"):
            list(read_llava(path, images="x"))
    write(
        path,
        [
            LLAVA[0]
            | {"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a"}]}
        ],
    )
    with pytest.raises(UserError, match="row 1: a turn is empty"):
        list(read_llava(path, images="x"))


@pytest.mark.parametrize(
    ("images", "question", "expected"),
    [
        ("a.jpg", "Compare this <image> with a dog.", "Compare this with a dog."),
        ("a.jpg", "<image>\nWhat is it?", "What is it?"),
        ("a.jpg", "What is it?\n<image>", "What is it?"),
        ("a.jpg", "What is it?\n<image>\nSay it.", "What is it?\nSay it."),
        (["a.jpg", "b.jpg"], "<image><image>Which one?", "Which one?"),
        (["a.jpg", "b.jpg"], "One: <image> Two: <image> Which?", "One: Two: Which?"),
        (None, "What is <svg>?", "What is <svg>?"),
    ],
)
def test_marks_of_pictures(tmp_path, images, question, expected):
    said = [
        {"from": "human", "value": question},
        {"from": "gpt", "value": "In HTML, use <image> inside <svg>."},
    ]
    path = write(tmp_path / "c.json", [{"conversations": said, "image": images}])
    (sample,) = read_llava(path, images="x")
    assert sample.turns == (Turn(expected, "In HTML, use <image> inside <svg>."),)
    assert len(sample.images) == question.count("<image>")


@pytest.mark.parametrize(
    ("images", "questions", "message"),
    [
        (None, ["<image>\nWhat is it?"], "1 marks <image>, and it names 0 images"),
        ("a.jpg", ["What is it?"], "0 marks <image>, and it names 1 images"),
        ("a.jpg", ["<image> <image> Which?"], "2 marks <image>, and it names 1 images"),
        (["a.jpg", "b.jpg"], ["<image> This?", "<image> Or this?"], "question 2 has a mark <image>"),
        (["a.jpg", 7], ["<image><image> Which?"], "'image' is 7"),
    ],
)
def test_marks_that_do_not_fit_the_pictures(tmp_path, images, questions, message):
    said = [
        one for text in questions for one in ({"from": "human", "value": text}, {"from": "gpt", "value": "b"})
    ]
    path = write(tmp_path / "c.json", [{"conversations": said, "image": images}])
    with pytest.raises(UserError, match=message):
        list(read_llava(path, images="x"))


def test_capfilt(tmp_path):
    path = write(tmp_path / "ccs_filtered.json", CAPFILT)
    samples = list(read_capfilt(path, images=tmp_path / "images"))
    assert turns(samples) == [(Turn("", "a cat"),), (Turn("", "a dog"),)]
    assert samples[1].images[0].path == picture_path(tmp_path / "images", "http://a/2.jpg")
    write(path, [CAPFILT[0], {"caption": "x"}])
    with pytest.raises(UserError, match="row 2: 'url' is null"):
        list(read_capfilt(path, images="x"))


def picture(seed=0, size=(8, 6)):
    data = io.BytesIO()
    Image.new("RGB", size, (seed, 7, 9)).save(data, "JPEG")
    return data.getvalue()


def tar(path, members):
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


MEMBERS = [
    ("000000000.jpg", picture(1)),
    ("000000000.json", b'{"caption": "eins\\u2028zwei"}'),
    ("000000000.txt", b"eine Katze\n"),
    ("sub/000000001.jpg", picture(200)),
    ("sub/000000001.txt", "שלום".encode()),
    ("sub/000000001.json", b'{"caption": "zwei"}'),
]


def test_webdataset(tmp_path):
    tar(tmp_path / "00000.tar", MEMBERS)
    samples = list(read_webdataset(tmp_path, language="de"))
    assert turns(samples) == [(Turn("", "eine Katze"),), (Turn("", "שלום"),)]
    assert [s.id for s in samples] == ["00000/000000000", "00000/sub/000000001"]
    assert samples[1].images[0].load().getpixel((0, 0))[0] == pytest.approx(200, abs=3)
    assert samples[0].images[0].read() == picture(1)
    named = read_webdataset(str(tmp_path / "*.tar"), caption="caption")
    assert turns(named) == [(Turn("", "eins\u2028zwei"),), (Turn("", "zwei"),)]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.txt", b"x")], "00.tar!a has no image"),
        ([("a.jpg", b"x")], "00.tar!a has no .txt"),
        ([("a.jpg", b"x"), ("a.txt", b"  ")], r"00.tar!a.txt is empty"),
        ([("a.jpg", b"x"), ("a.txt", "ä".encode("latin-1"))], r"00.tar!a.txt: not UTF-8"),
        ([("a.jpg", b"x"), ("a.txt", "x".encode("utf-16"))], r"00.tar!a.txt: not UTF-8 but UTF-16"),
        (
            [("a.jpg", b"x"), ("a.txt", b"x"), ("b.jpg", b"x"), ("b.txt", b"x"), ("a.jpg", b"x")],
            "a: the key is there twice",
        ),
    ],
)
def test_webdataset_mistakes(tmp_path, members, message):
    tar(tmp_path / "00.tar", members)
    with pytest.raises(UserError, match=message):
        list(read_webdataset(tmp_path))


def test_tars_that_are_cut_short_or_packed(tmp_path):
    whole = tar(tmp_path / "a.tar", MEMBERS).read_bytes()
    # Of the padding at the end, all but one block of zeros may be gone; nothing else.
    for size in (0, 100, 700, 5000, 512 * (len(whole.rstrip(b"\0")) // 512)):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"a\.tar"):
            list(read_webdataset(tmp_path / "a.tar"))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole))
    with pytest.raises(UserError, match=r"is no whole, plain tar file .*unpack it first"):
        list(read_webdataset(tmp_path / "a.tar.gz"))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_webdataset(tmp_path / "none.tar"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="There is no tar file"):
        list(read_webdataset(tmp_path / "empty"))


@pytest.fixture
def imagenet(tmp_path):
    synsets = [f"n{i:08d}" for i in range(1000)]
    lines = [f"{name} thing{i}, other name" for i, name in enumerate(synsets)]
    (tmp_path / "LOC_synset_mapping.txt").write_text("\n".join(lines))
    for name in ("n00000002", "n00000005"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(5):
            (tmp_path / "train" / name / f"{name}_{i}.JPEG").write_bytes(picture(i))
    labels = {"DE": [[2, 5, 7], ["Hund", "Katze", "Maus"]], "TL": [[5], ["pusa"]], "XYZ": [[1], ["?"]]}
    write(tmp_path / "babel.json", labels)
    return tmp_path


def read_folder(place, **options):
    options = {"labels": place / "babel.json", "synsets": place / "LOC_synset_mapping.txt"} | options
    return list(read_imagenet(place / "train", **options))


def test_imagenet(imagenet):
    samples = read_folder(imagenet, languages=["de", "fil"], per_class=3)
    assert [(s.language, s.turns[0].answer) for s in samples] == [("de", "Hund")] * 3 + [
        ("de", "Katze")
    ] * 3 + [("fil", "pusa")] * 3
    assert samples[0].extra["class"] == "n00000002"
    assert len({s.images[0].path for s in samples[3:]}) > 3  # each language draws its own
    assert samples == read_folder(imagenet, languages=["de", "fil"], per_class=3)
    assert samples != read_folder(imagenet, languages=["de", "fil"], per_class=3, seed=1)
    with pytest.raises(UserError, match=r"names unknown languages \(XYZ\): name those that you want"):
        read_folder(imagenet)
    labels = {
        "DE": [[2], ["Hund"]],
        "ALS": [[2], ["Hond"]],
        "KMR": [[2, 5], ["se", "x"]],
        "KU": [[5], ["pisîk"]],
    }
    write(imagenet / "babel.json", labels)
    found = {(s.language, s.turns[0].answer) for s in read_folder(imagenet)}
    assert {code for code, _ in found} == {"en", "de", "gsw", "ku"}
    assert {text for code, text in found if code == "ku"} == {"se", "pisîk"}
    assert len(read_folder(imagenet, languages=["en"], per_class=99)) == 10
    assert read_folder(imagenet, languages=["en"])[0].turns[0].answer == "thing2"


def test_imagenet_mistakes(imagenet):
    with pytest.raises(UserError, match="no labels in 'sw': choose from de, en, fil"):
        read_folder(imagenet, languages=["sw"])
    with pytest.raises(UserError, match="has 2 classes, not 1000: name the official list"):
        read_folder(imagenet, synsets=None)
    for wrong in ([], {"DE": [[1]]}, {"DE": [[1000], ["x"]]}, {"DE": [[1, 2], ["x"]]}, {"DE": [[1], [" "]]}):
        write(imagenet / "babel.json", wrong)
        with pytest.raises(UserError, match=r"babel\.json"):
            read_folder(imagenet)
    with pytest.raises(UserError, match="There is no folder"):
        list(read_imagenet(imagenet / "none", labels="x"))
    (imagenet / "LOC_synset_mapping.txt").write_text("n00000001\n")
    with pytest.raises(UserError, match=r"LOC_synset_mapping\.txt, line 1"):
        read_folder(imagenet)


ROW = {
    "id": "42",
    "images": ["a.png"],
    "turns": [["Caption in German: ", "Ein Hund."]],
    "language": "de",
    "task": "caption",
    "source": "own",
    "extra": {"image": "a.png", "n": [1, None]},
}


def test_json_lines(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    tar(tmp_path / "s.tar", MEMBERS)
    rows = [
        ROW,
        ROW | {"id": "43", "images": ["s.tar!000000000.jpg"], "language": "iw"},
        ROW | {"id": "44", "images": []},
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    samples = list(read_jsonl(tmp_path / "a.jsonl"))
    assert [s.language for s in samples] == ["de", "he", "de"]
    assert samples[1].images[0].read() == picture(1)
    assert sample_to_row(samples[0], tmp_path) == ROW
    assert write_jsonl(samples, tmp_path / "copy" / "b.jsonl") == 3
    assert list(read_jsonl(tmp_path / "copy")) == [
        *samples[:1],
        # Of the tar, the place is another name for the same picture.
        *samples[1:],
    ]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    assert turns(read_jsonl(tmp_path / "c.jsonl.gz")) == turns(samples)
    assert [s.id for s in read_jsonl(tmp_path / "a.jsonl", languages=["he"])] == ["43"]
    assert list(read_jsonl(tmp_path / "a.jsonl", tasks=["vqa"])) == []
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-20])
    with pytest.raises(UserError, match="no whole gzip file"):
        list(read_jsonl(tmp_path / "c.jsonl.gz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "'id' is empty"),
        ({"id": 7}, "'id' is 7, and a text was expected"),
        ({"language": "dee"}, "line 1: Unknown language 'dee'"),
        ({"turns": []}, "line 1: no turn"),
        ({"turns": [["a", "b", "c"]]}, r"line 1, turn 1 is not \[prompt, answer\]"),
        ({"turns": [["a", ""]]}, "turn 1: the answer is empty"),
        ({"turns": "ab"}, "has no list 'turns'"),
        ({"images": [None]}, "an image is null"),
        ({"images": ["none.tar!x.png"]}, r"none\.tar' does not exist"),
        ({"extra": []}, "'extra' is no JSON object"),
        ({"caption": "x"}, "'caption' is no field of a sample"),
    ],
)
def test_json_lines_mistakes(tmp_path, change, message):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW | change) + "\n")
    with pytest.raises(UserError, match=message):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_an_id_that_comes_twice(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(ROW)}\n{json.dumps(ROW | {'source': 'other'})}\n")
    assert len(list(read_jsonl(tmp_path))) == 2
    (tmp_path / "b.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(UserError, match=r"b\.jsonl, line 1: the id '42' is there twice"):
        list(read_jsonl(tmp_path))


OFFICIAL = {
    "captions.json": (COCO, lambda p: read_coco(p, images="x")),
    "v2_OpenEnded_mscoco_questions.json": (
        QUESTIONS,
        lambda p: read_vqav2(p, images="x", annotations=p.parent / "a"),
    ),
    "aokvqa.json": (AOKVQA, lambda p: read_aokvqa(p, images="x")),
    "llava.json": (LLAVA, lambda p: read_llava(p, images="x")),
    "ccs.json": (CAPFILT, lambda p: read_capfilt(p, images="x")),
    "own.jsonl": (ROW | {"images": []}, read_jsonl),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_other_encodings_and_cut_files_are_named(tmp_path, name):
    content, read = OFFICIAL[name]
    write(tmp_path / "a", ANNOTATIONS)
    text = json.dumps(content, ensure_ascii=False)
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert list(read(path))
    for encoding in ("utf-16", "utf-32"):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(UserError, match=rf"{name}.*not UTF-8"):
            list(read(path))
    accented = text.replace("W", "é", 1) if "W" in text else text.replace("a", "é", 20)
    path.write_bytes(accented.encode("latin-1", "ignore"))
    with pytest.raises(UserError, match=rf"{name}.*not UTF-8"):
        list(read(path))
    path.unlink()
    with pytest.raises(UserError, match=f"There is no file .*{name}"):
        list(read(path))


@pytest.mark.parametrize("name", OFFICIAL)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_is_cut_anywhere_or_mangled_is_an_error_that_names_it(tmp_path, name, data):
    content, read = OFFICIAL[name]
    write(tmp_path / "a", ANNOTATIONS)
    whole = json.dumps(content).encode()
    path = tmp_path / name
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(UserError, match=name):
        list(read(path))
    place = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + 1 :])
    samples = []
    error = None
    try:
        samples = list(read(path))
    except UserError as raised:
        error = str(raised)
    assert error is None or name in error
    assert all(turn.answer.strip() for sample in samples for turn in sample.turns)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SPACES = st.text(" \t\r\n", max_size=2)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=5),
    space=SPACES,
    block=st.integers(1, 40),
)
def test_arrays_of_any_spacing_are_read_in_any_pieces(tmp_path, monkeypatch, rows, space, block):
    monkeypatch.setattr("polylens.data.rows.BLOCK", block)
    text = (
        space + "[" + space + f"{space},{space}".join(json.dumps(row) for row in rows) + space + "]" + space
    )
    (tmp_path / "a.json").write_text(text, encoding="utf-8", newline="")
    assert list(json_array(tmp_path / "a.json")) == list(enumerate(json.loads(text), start=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is cut short after row 0"),
        ("{}", "is not a JSON array"),
        ("[1]", "row 1: not a JSON object"),
        ("[{}", "is cut short after row 1"),
        ("[{},", "is cut short after row 1"),
        ("[{},]", "row 2: not valid JSON"),
        ("[{} {}]", r"row 2: not valid JSON \(',' expected\)"),
        ("[,{}]", "row 1: not valid JSON"),
        ("[{}] []", "goes on after its end at row 1"),
        ('[{"a": 1, "a": 2}]', "row 1: the field 'a' is there twice"),
        ("[" + '{"a":' * 100_000, "row 1: too deeply nested"),
        ('[{"a": ' + "1" * 5000 + "}]", "row 1: "),
    ],
)
def test_arrays_that_are_none(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        list(json_array(tmp_path / "a.json"))


def test_other_line_ends_stay_in_their_texts(tmp_path):
    text = "a\u2028b\u2029c\u0085d\x0be"
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"t": text}, ensure_ascii=False) + "\r\n\n", encoding="utf-8", newline=""
    )
    assert list(json_lines(tmp_path / "a.jsonl")) == [(1, {"t": text})]
