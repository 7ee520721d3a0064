"""The readers of fine-tuning data: GQA, SNLI-VE, NLVR2, Karpathy's splits, and mBLIP's released mix."""

import json
from pathlib import Path

import pytest

from polylens.data.mix import part_samples
from polylens.data.readers.gqa import read_gqa
from polylens.data.readers.karpathy import read_karpathy
from polylens.data.readers.mblip_train import read_mblip_train
from polylens.data.readers.nlvr2 import read_nlvr2
from polylens.data.readers.snli_ve import read_snli_ve
from polylens.data.sample import Turn
from polylens.data.sources import READERS, Unreadable
from polylens.data.spec import Part
from polylens.errors import UserError

GQA = {
    "02930152": {"imageId": "2354786", "question": "Is the sky dark?", "answer": "yes", "isBalanced": True}
}
LXMERT = [{"img_id": "2375429", "label": {"right": 1.0}, "question_id": "07333408", "sent": "On which side?"}]
SNLI_VE = {
    "Flikr30kID": "4705552913",
    "annotator_labels": ["neutral", "entailment"],
    "gold_label": "-",
    "pairID": "4705552913.jpg#2r1n",
    "sentence1": "Two women are embracing.",
    "sentence2": "The sisters are hugging.",
}
NLVR2 = {"identifier": "train-10171-0-0", "sentence": "Two dogs.", "label": "True", "directory": 29}
KARPATHY = {
    "images": [
        {"split": "train", "filename": "1.jpg", "sentences": [{"raw": "A dog."}, {"raw": " A brown dog. "}]},
        {"split": "val", "filename": "2.jpg", "filepath": "val2014", "sentences": [{"raw": "A cat."}]},
    ]
}
MBLIP = [
    {"context": "Caption the image in German.", "label": "Ein brauner Hund läuft.", "image_id": "1.jpg"},
    {"context": "Is it red? Short English answer:", "label": "2", "image_id": "n01440764/a.JPEG"},
]


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_gqa_in_both_of_its_forms(tmp_path: Path) -> None:
    (sample,) = read_gqa(write(tmp_path / "train.json", GQA), images="images")
    assert sample.turns == (Turn("Is the sky dark?", "yes"),)
    assert (sample.id, sample.language, sample.task) == ("02930152", "en", "vqa")
    assert sample.images[0].path == Path("images/2354786.jpg")
    (sample,) = read_gqa(write(tmp_path / "lxmert.json", LXMERT), images="images")
    assert (sample.id, sample.turns) == ("07333408", (Turn("On which side?", "right"),))
    (sample,) = read_gqa(tmp_path / "train.json", images="images", language="de")
    assert (sample.id, sample.language) == ("de/02930152", "en")
    assert sample.extra["question_language"] == "de"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x", "holds no questions by id"),
        ({"1": 3}, "question 1 is no JSON object"),
        ({"1": {"imageId": "2", "question": " "}}, "question 1: 'question' is empty"),
        ([LXMERT[0] | {"label": {"a": 1, "b": 0.3}}], "row 1: 'label' is not one answer"),
        ([LXMERT[0], LXMERT[0]], "row 2: the id '07333408' is there twice"),
    ],
)
def test_gqa_mistakes(tmp_path: Path, content: object, message: str) -> None:
    path = write(tmp_path / "gqa.json", content)
    with pytest.raises(UserError, match=message):
        list(read_gqa(path, images="x"))
    with pytest.raises(UserError, match="There is no file"):
        list(read_gqa(tmp_path / "none.json", images="x"))


def test_snli_ve_takes_the_first_annotator(tmp_path: Path) -> None:
    other = {**SNLI_VE, "Flickr30K_ID": "7.jpg", "annotator_labels": ["contradiction"]}
    del other["Flikr30kID"]
    path = lines(tmp_path / "train.jsonl", SNLI_VE, other)
    first, second = read_snli_ve(path, images="pictures", language="fr")
    assert first.turns == (Turn("The sisters are hugging.", "maybe"),)
    assert second.turns[0].answer == "no"
    assert [s.images[0].path.name for s in (first, second)] == ["4705552913.jpg", "7.jpg"]
    assert (first.language, first.extra["question_language"]) == ("en", "fr")
    for labels, message in (
        ([], "is none of entailment"),
        (["-"], "line 1: the first of 'annotator_labels'"),
    ):
        with pytest.raises(UserError, match=message):
            list(read_snli_ve(lines(path, SNLI_VE | {"annotator_labels": labels}), images="x"))


def test_nlvr2_has_two_pictures_in_numbered_folders_or_without(tmp_path: Path) -> None:
    (tmp_path / "29").mkdir()
    (tmp_path / "29" / "train-10171-0-img0.png").touch()
    (tmp_path / "train-10171-0-img1.png").touch()
    path = lines(tmp_path / "train.json", NLVR2, NLVR2 | {"identifier": "dev-1-0-1", "label": "False"})
    first, second = read_nlvr2(path, images=tmp_path)
    assert first.turns == (Turn("Two dogs.", "yes"),)
    assert [p.path.relative_to(tmp_path).as_posix() for p in first.images] == [
        "29/train-10171-0-img0.png",
        "train-10171-0-img1.png",
    ]
    assert second.turns[0].answer == "no"
    for row, message in (
        (NLVR2 | {"label": "maybe"}, "neither True nor False"),
        (NLVR2 | {"identifier": "x"}, "names no pair of pictures"),
    ):
        with pytest.raises(UserError, match=message):
            list(read_nlvr2(lines(path, row), images=tmp_path))
    with pytest.raises(UserError, match="line 2: the id 'train-10171-0-0' is there twice"):
        list(read_nlvr2(lines(path, NLVR2, NLVR2), images=tmp_path))


def test_karpathys_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_flickr30k.json", KARPATHY)
    samples = list(read_karpathy(path, images=tmp_path))
    assert [(s.id, s.turns[0].answer) for s in samples] == [
        ("1.jpg/0", "A dog."),
        ("1.jpg/1", "A brown dog."),
    ]
    (tmp_path / "val2014").mkdir()
    (sample,) = read_karpathy(path, images=tmp_path, split="val")
    assert sample.images[0].path == tmp_path / "val2014" / "2.jpg"
    with pytest.raises(UserError, match="has no split 'dev': choose from train, val"):
        list(read_karpathy(path, images=tmp_path, split="dev"))


def test_mblips_released_rows_are_ready_to_train_on(tmp_path: Path) -> None:
    for folder, name in (("web", "1.jpg"), ("imagenet/n01440764", "a.JPEG")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).touch()
    roots = [str(tmp_path / "web"), str(tmp_path / "imagenet")]
    path = write(tmp_path / "task_mix_v2_mt.json", MBLIP)
    first, second = read_mblip_train(path, images=roots)
    assert first.turns == (Turn("Caption the image in German.", "Ein brauner Hund läuft."),)
    assert (first.language, second.language) == ("de", "en")
    assert [s.images[0].path.name for s in (first, second)] == ["1.jpg", "a.JPEG"]
    assert second.images[0].path.is_relative_to(tmp_path / "imagenet")
    assert [s.turns for s in read_mblip_train(lines(tmp_path / "mix.jsonl", *MBLIP), images=roots)] == [
        first.turns,
        second.turns,
    ]
    many = write(tmp_path / "many.json", [MBLIP[0]] * 503)
    assert [s.id for s in read_mblip_train(many, images=roots, split="train")] == ["501", "502", "503"]
    assert len(list(read_mblip_train(many, images=roots, split="val"))) == 500
    with pytest.raises(UserError, match="no split 'dev'"):
        list(read_mblip_train(many, images=roots, split="dev"))
    with pytest.raises(UserError, match="names no folder"):
        list(read_mblip_train(many, images=[]))


def test_a_picture_that_no_folder_has_is_refused_or_counted(tmp_path: Path) -> None:
    write(tmp_path / "mix.json", MBLIP)
    (tmp_path / "1.jpg").write_bytes(b"x")
    part = Part(source="mblip-train", path=tmp_path / "mix.json", options={"images": str(tmp_path)})
    with pytest.raises(UserError, match=r"a\.JPEG"):
        list(part_samples(part, 0, Unreadable("error")))
    unreadable = Unreadable("skip")
    assert len(list(part_samples(part, 0, unreadable))) == 1
    assert unreadable.count == 1


def test_recipes_know_them_by_name() -> None:
    assert {"gqa", "karpathy", "mblip-train", "nlvr2", "snli-ve"} <= set(READERS)
