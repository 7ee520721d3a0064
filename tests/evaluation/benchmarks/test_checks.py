"""What cannot be scored is refused before the first answer, with file and row, by whatever reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.benchmarks.stand_ins import ByRule, draw, right

from polylens.errors import UserError
from polylens.evaluation.benchmarks.interface import Benchmark, Question, find_benchmark
from polylens.evaluation.benchmarks.questions import check_questions, first_of_each_language, read_questions
from polylens.evaluation.benchmarks.run import evaluate_benchmark
from polylens.evaluation.benchmarks.scoring import AnswerScorer, any_of
from polylens.evaluation.settings import EvaluationSettings


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def flickr(key, *sentences, image="1.jpg"):
    return {"sentences": list(sentences), "id": key, "img_path": image}


def refused(folder, benchmark, match):
    """The run ends before anything is asked or written."""
    predictor = ByRule(right)
    settings = EvaluationSettings(benchmark=benchmark, data=folder, images=(folder,), protocol="raw")
    with pytest.raises(UserError, match=match):
        evaluate_benchmark(predictor, settings, folder / "out")
    assert predictor.asked == []
    assert not (folder / "out").exists()


def test_an_id_that_comes_twice_is_named_with_both_rows(tmp_path):
    draw(tmp_path, ["1.jpg", "2.jpg"])
    lines(tmp_path / "de" / "test.jsonl", [flickr("1", "Katze"), flickr("1", "Fisch", image="2.jpg")])
    refused(tmp_path, "xflickrco", r"test.jsonl, line 2: the id 'de/1' is that of .*test.jsonl, line 1 too")


@pytest.mark.parametrize("sentences", [[], None, "Katze", ["Katze", None], {"de": "Katze"}, 7])
def test_references_that_cannot_be_scored_are_named_with_their_row(tmp_path, sentences):
    draw(tmp_path, ["1.jpg"])
    rows = [flickr("1", "Katze"), flickr("2") | {"sentences": sentences}]
    lines(tmp_path / "de" / "test.jsonl", rows)
    refused(tmp_path, "xflickrco", r"de/test.jsonl, line 2: 'sentences' is ")


def test_empty_official_captions_stay(tmp_path):
    draw(tmp_path, ["1.jpg"])
    lines(tmp_path / "de" / "test.jsonl", [flickr("1", ""), flickr("2", "Hund")])
    found = read_questions(
        find_benchmark("xflickrco"), EvaluationSettings(benchmark="xflickrco", data=tmp_path)
    )
    assert [question.answers for question in found] == [("",), ("Hund",)]


BROKEN = {
    "xm3600": (
        "captions.jsonl",
        [{"image/key": "a", "en": {"caption": "a dog"}}],
        r"line 1: 'en.caption' is 'a dog'",
    ),
    "xgqa": (
        "de/test.json",
        {"7": {"imageId": "n1", "question": "Was?", "answer": None}},
        "question 7: 'answer' is None",
    ),
    "xvnli": (
        "fr/test.jsonl",
        [{"gold_label": "neutral", "sentence2": ["x"], "Flikr30kID": "1", "pairID": "1"}],
        r"line 1: 'hypothesis' is \['x'\]",
    ),
    "nlvr2": (
        "test1.json",
        [{"sentence": "x", "label": "True", "identifier": f"test1-{n}-0-0"} for n in (1, 1)],
        r"line 2: the id 'en/test1-1-0-0' is that of .*line 1 too",
    ),
    "maxm": (
        "maxm_v1_fr.json",
        {
            "split": "fr",
            "annotations": [
                {
                    "image_id": "i",
                    "qa_pairs": [{"question_id": "q", "question": "x", "processed_answers": []}],
                }
            ],
        },
        "image i, question 1: 'processed_answers' is empty",
    ),
    "pope": (
        "coco_pope_random.json",
        [{"question_id": 1, "image": "1.jpg", "text": None, "label": "yes"}],
        "line 1: 'question' is None",
    ),
    "coco": (
        "captions_val2017.json",
        {
            "images": [{"id": 7, "file_name": "7.jpg"}, {"id": 7, "file_name": "8.jpg"}],
            "annotations": [{"image_id": 7, "caption": "one"}],
        },
        r"image 2: the id 7 is that of .*image 1 too",
    ),
    "flickr30k": (
        "dataset_flickr30k.json",
        {"images": [{"split": "test", "filename": "1.jpg", "sentences": []}]},
        "image 1: 'sentences' is empty",
    ),
    "cvqa": (
        "test.jsonl",
        [
            {
                "ID": "1",
                "Subset": "('Swahili', 'Kenya')",
                "Question": "Nini?",
                "Options": ["mbwa", "paka"],
                "Label": 1,
                "image": f"{n}.jpg",
            }
            for n in (1, 2)
        ],
        r"line 2: the id 'sw/Kenya/1' is that of .*line 1 too",
    ),
    "aokvqa-choices": (
        "aokvqa_v1p0_val.json",
        [
            {
                "image_id": 5,
                "question_id": "a",
                "question": "Why?",
                "choices": ["w", "x"],
                "correct_choice_idx": 2,
            }
        ],
        "row 1: 'correct_choice_idx' is 2: 2 options are numbered from 0",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_every_reader_names_file_and_row(tmp_path, name):
    file, content, match = BROKEN[name]
    if file.endswith(".jsonl") or name in ("nlvr2", "pope"):
        lines(tmp_path / file, content)
    else:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(content))
    refused(tmp_path, name, match)


def test_lists_numbered_by_picture_and_captions_of_one_picture(tmp_path):
    rows = [{"question_id": 1, "image": f"{n}.jpg", "text": "Is it?", "label": "yes"} for n in (1, 2)]
    lines(tmp_path / "coco_pope_random.json", rows)
    found = read_questions(find_benchmark("pope"), EvaluationSettings(benchmark="pope", data=tmp_path))
    assert len({question.id for question in found}) == 2
    (tmp_path / "chair").mkdir()
    (tmp_path / "chair" / "synonyms.txt").write_text("dog\ncat\n")
    lines(tmp_path / "chair" / "o.jsonl", [{"image": "1.jpg", "objects": [one]} for one in ("dog", "cat")])
    refused(tmp_path / "chair", "chair", r"line 2: the id 'en/1.jpg' is that of .*line 1 too")
    lines(tmp_path / "chair" / "o.jsonl", [{"image": "1.jpg", "objects": []}])
    chair = find_benchmark("chair")
    settings = EvaluationSettings(benchmark="chair", data=tmp_path / "chair")
    assert read_questions(chair, settings)[0].answers == ()


def test_answers_that_are_overwritten_elsewhere_are_refused(tmp_path):
    questions = {"questions": [{"question_id": 1, "image_id": 9, "question": "What?"}]}
    rows = [{"question_id": 1, "answers": [{"answer": text}]} for text in ("dog", "cat")]
    (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(json.dumps(questions))
    (tmp_path / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": rows}))
    refused(tmp_path, "vqav2", "annotation 2: the id '1' is there twice")
    lines(
        tmp_path / "qa90_questions.jsonl",
        [{"question_id": 1, "image": "1.jpg", "text": "?", "category": "c"}],
    )
    lines(tmp_path / "qa90_gpt4_answer.jsonl", [{"question_id": 1, "text": text} for text in "ab"])
    refused(tmp_path, "llava-qa90", "line 2: the id '1' is there twice")
    lines(tmp_path / "qa90_gpt4_answer.jsonl", [{"question_id": 2, "text": "a"}])
    refused(tmp_path, "llava-qa90", r"line 1: .* has no answer to question 1")


def picky(questions, said, protocol):
    if any("bad" in question.answers for question in questions):
        raise UserError("This scorer cannot score 'bad'")
    return AnswerScorer("accuracy", any_of)(questions, said, protocol)


def outside(questions, score=picky):
    return Benchmark(
        name="outside",
        title="Outside",
        task="vqa",
        files="",
        images="",
        read=lambda folder, languages: questions,
        score=score,
        packaged=True,
    )


def asked(key, *answers, **more):
    fields = {"question": "What?"}
    return Question(
        id=key, images=(), language="de", answers=answers, where=f"row {key}", fields=fields, **more
    )


def test_what_a_scorer_refuses_is_found_before_the_first_answer(tmp_path):
    benchmark = outside([asked("1", "good"), asked("2", "bad"), asked("3", "good")])
    refused(tmp_path, benchmark, "row 2: This scorer cannot score 'bad'")
    refused(tmp_path, outside([asked("1", "bad"), asked("2", "bad")]), "^This scorer cannot score 'bad'")
    refused(
        tmp_path, outside([asked("1", "a", choices=("b", "c"))]), "row 1: the right answer 'a' is none of the"
    )
    refused(tmp_path, outside([asked("1")]), "row 1: no reference answer")


@given(st.lists(st.sampled_from("abcdefgh"), max_size=8))
def test_exactly_the_repeated_ids_are_refused(ids):
    questions = [asked(key, "x") for key in ids]
    if len(set(ids)) == len(ids):
        check_questions(questions, outside([]))
    else:
        with pytest.raises(UserError, match="give each its own"):
            check_questions(questions, outside([]))


@given(st.lists(st.sampled_from(("de", "en", "sw"))), st.integers(1, 4))
def test_a_limit_keeps_the_first_of_each_language(codes, limit):
    questions = [Question(id=str(n), images=(), language=code, answers=()) for n, code in enumerate(codes)]
    kept = first_of_each_language(questions, limit)
    assert kept == sorted(kept)
    for code in set(codes):
        mine = [place for place, one in enumerate(codes) if one == code]
        assert [place for place in kept if codes[place] == code] == mine[:limit]
    assert first_of_each_language(questions, None) == list(range(len(codes)))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"limit": 0}, "limit is 0: it must be at least 1"),
        ({"split": 1.5}, "split is 1.5: it must be from 0 to 1"),
        ({"choices": 1}, "choices is 1: it must be at least 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0: it must be above 0"),
        ({"temperature": 0}, "temperature is 0: it must be above 0"),
        ({"price": (-1.0, 2.0)}, "price is -1 2: no price may be below 0"),
        ({"baselines": ("chance",)}, "There is no baseline 'chance'"),
    ],
)
def test_settings_are_checked_where_they_are_made(changes, match):
    with pytest.raises(UserError, match=match):
        EvaluationSettings(**changes)
