"""Tasks out of plain samples."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polylens.data.build import build
from polylens.data.prompts import DEFAULT, fields_of, read_templates
from polylens.data.sample import Sample, Turn
from polylens.data.sentences import num_sentences
from polylens.data.spec import Build
from polylens.errors import UserError


def plain(number=0, prompt="", answer="x", language="en", task="caption", **extra):
    return Sample(
        str(number), (), (Turn(prompt, answer),), language, task, "test", {"image": f"i{number}"} | extra
    )


def made(spec, samples, seed=0):
    spec = Build.model_validate(spec)
    return list(build(spec, lambda: samples, seed))


def test_captions_are_asked_for_in_their_language():
    samples = made("caption", [plain(i, answer="Ein {Hund}.", language="de") for i in range(30)])
    assert {s.turns[0].answer for s in samples} == {"Ein {Hund}."}
    assert {s.turns[0].prompt for s in samples} == {
        DEFAULT.prompt("caption", "de", random.Random(i)) for i in range(30)
    }
    assert all("German" in s.turns[0].prompt for s in samples)


def test_what_is_drawn_depends_on_seed_and_sample_alone():
    samples = [plain(i, answer=f"c{i}") for i in range(20)]
    assert made("matching", samples) == made("matching", samples)
    assert made("matching", samples, 1) != made("matching", samples)
    assert made("caption", samples)[3:] == made("caption", samples[3:])


def test_prompts_of_ones_own_take_the_place_of_the_english_ones():
    spec = {"task": "caption", "prompts": ["{language}:", "In {own_language}:"]}
    samples = made(spec, [plain(i, language="de") for i in range(30)])
    assert {s.turns[0].prompt for s in samples} == {"German:", "In Deutsch:"}
    (asked,) = made({"task": "vqa", "prompts": ["{language}: {question}"]}, [plain(1, "What?", task="vqa")])
    assert asked.turns[0].prompt == "English: What?"
    for wrong, reason in (("{language}", "must have the fields"), ("{question", "broken braces")):
        with pytest.raises(UserError, match=reason):
            made({"task": "vqa", "prompts": [wrong]}, [plain(1, "What?", task="vqa")])
    with pytest.raises(ValueError, match="at least 1 item"):
        Build.model_validate({"task": "vqa", "prompts": []})


def translated(number):
    original = {"language": "en", "turns": [["What colour?", "red"]]}
    return plain(number, "Welche Farbe?", "rot", "de", "vqa", original=original)


def test_half_of_the_answers_to_translated_questions_stay_english():
    samples = made("vqa", [translated(i) for i in range(400)])
    answers = Counter((s.language, s.turns[0].answer) for s in samples)
    assert set(answers) == {("en", "red"), ("de", "rot")}
    assert 150 < answers["en", "red"] < 250
    for sample in samples:
        assert "Welche Farbe?" in sample.turns[0].prompt
        assert ("English" if sample.language == "en" else "German") in sample.turns[0].prompt
    none = made({"task": "vqa", "english_answers": 0}, [translated(i) for i in range(50)])
    assert {s.language for s in none} == {"de"}
    assert made("vqa", [plain(1, "What?", "red", task="vqa")])[0].language == "en"


def test_questions_out_of_answers():
    samples = made("vqg", [translated(i) for i in range(50)])
    assert {s.turns[0].answer for s in samples} == {"Welche Farbe?"}
    assert {s.language for s in samples} == {"de"}
    assert {answer for s in samples for answer in ("red", "rot") if answer in s.turns[0].prompt} == {
        "red",
        "rot",
    }


def test_reasons():
    sample = plain(1, "Why?", "cab", task="vqa", rationales=["it is late.", "He waits"])
    said = made("explanation", [sample])
    assert [s.turns[0].answer for s in said] == ["cab. It is late.", "cab. He waits."]
    said = made("chain_of_thought", [sample])
    assert [s.turns[0].answer for s in said] == [
        "It is late. So the answer is cab.",
        "He waits. So the answer is cab.",
    ]
    assert [s.id for s in said] == ["1/1", "1/2"]
    assert all("Why?" in s.turns[0].prompt and s.language == "en" for s in said)
    for other in (plain(1, "Why?", "x"), plain(1, "Warum?", "x", "de", rationales=["a"])):
        with pytest.raises(UserError, match="'1' of test cannot become 'explanation'"):
            made("explanation", [other])


def test_only_turns_of_few_sentences_are_instructions():
    turns = (Turn("Hi?", "One. Two! Three?"), Turn("And?", "1. 2. 3. 4 and. Five."), Turn("So?", "Yes"))
    talk = Sample("7", (), turns, "en", "instruction", "llava")
    samples = made({"task": "instruction", "max_sentences": 3}, [talk])
    assert [(s.id, s.turns[0].answer) for s in samples] == [("7/1", "One. Two! Three?"), ("7/3", "Yes")]
    assert [s.id for s in made("instruction", [talk])] == ["7/1", "7/2", "7/3"]
    assert [s.id for s in made({"task": "instruction", "max_sentences": 1}, [talk])] == ["7/3"]
    with pytest.raises(UserError, match="has 3 turns, and one was expected"):
        made("vqa", [talk])


def test_a_translated_answer_is_as_long_as_its_original():
    original = {"language": "en", "turns": [["Hi?", "One. Two. Three. Four."], ["So?", "Yes."]]}
    turns = (Turn("Hallo?", "Eins, zwei, drei, vier."), Turn("Also?", "Ja. Ja. Ja. Ja."))
    talk = Sample("7", (), turns, "de", "instruction", "llava", {"original": original})
    assert [s.id for s in made({"task": "instruction", "max_sentences": 3}, [talk])] == ["7/2"]


def test_statements_about_pictures_keep_their_answer():
    sample = plain(1, "Il dort.", "maybe", task="entailment", question_language="fr")
    spec = {"task": "entailment", "prompts": ['"{hypothesis}"? Answer in {language}:']}
    (said,) = made(spec, [sample])
    assert said.turns == (Turn('"Il dort."? Answer in English:', "maybe"),)
    (said,) = made("reasoning", [plain(1, "Two dogs.", "yes", task="reasoning")])
    assert "Two dogs." in said.turns[0].prompt
    assert said.turns[0].answer == "yes"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("no end", 1),
        ("One.", 1),
        ("It is 3.5 m. Really...", 2),
        ('He said "stop!" Then he left.', 2),
        ("他在跑。她在看！", 2),
        ("वह दौड़ता है। वह देखती है।", 2),
        ("ماذا؟ لا شيء.", 2),
        ("One. Two", 2),
    ],
)
def test_sentences(text, count):
    assert num_sentences(text) == count


@given(st.text())
def test_counting_sentences_never_fails(text):
    assert num_sentences(text) >= 1


def captions(num=40, language="en"):
    """Two captions for each picture."""
    return [
        plain(f"{i}{half}", answer=f"{language} {i}{half}", language=language, image=f"i{i}")
        for i in range(num)
        for half in "ab"
    ]


def asked(sample):
    """(caption, answer) of a matching sample."""
    prompt = sample.turns[0].prompt
    return next(c.turns[0].answer for c in CAPTIONS if c.turns[0].answer in prompt), sample.turns[0].answer


CAPTIONS = captions()


def test_matching_asks_about_its_own_or_another_picture():
    samples = made("matching", CAPTIONS)
    answers = Counter(s.turns[0].answer for s in samples)
    assert set(answers) == {"yes", "no"}
    assert 25 < answers["yes"] < 55
    for sample, source in zip(samples, CAPTIONS, strict=True):
        number = source.extra["image"][1:]
        own = [f"en {number}{half}" for half in "ab"]
        said, answer = sample.turns[0].prompt, sample.turns[0].answer
        # "en 1a" is also in "en 11a": what is asked about stands in quotes or at a break.
        mine = any(f'"{text}"' in said or f"{text} " in said for text in own)
        assert mine == (answer == "yes")
    assert {s.turns[0].answer for s in made({"task": "matching", "negatives": 1}, CAPTIONS)} == {"no"}


def near(tmp_path, rows):
    path = tmp_path / "near.jsonl"
    path.write_text("".join(json.dumps({"id": name, "near": found}) + "\n" for name, found in rows.items()))
    return path


def test_hard_negatives_are_captions_of_neighbours(tmp_path):
    path = near(tmp_path, {f"i{i}": [f"i{(i + 1) % 40}"] for i in range(40)})
    spec = {"task": "matching", "neighbours": path, "negatives": 1, "hard": 1, "plain": True}
    for sample, source in zip(made(spec, CAPTIONS), CAPTIONS, strict=True):
        number = (int(source.extra["image"][1:]) + 1) % 40
        assert sample.turns[0].prompt in (f"en {number}a", f"en {number}b")
        assert sample.turns[0].answer == "no"
    half = made(spec | {"hard": 0.5}, CAPTIONS)
    hard = sum(
        s.turns[0].prompt[3:-1] == str((int(c.extra["image"][1:]) + 1) % 40)
        for s, c in zip(half, CAPTIONS, strict=True)
    )
    assert 25 < hard < 60
    with pytest.raises(UserError, match=r"near\.jsonl' does not know image 'i40'"):
        made(spec, captions(41))
    german = [plain("x", answer="Hund", language="de", image="i0"), *CAPTIONS[2:]]
    with pytest.raises(UserError, match="No neighbour of image 'i0' has a caption in 'de': make the pairs"):
        made(spec, german)


def test_pairs_that_were_translated_keep_their_answer():
    original = {"language": "en", "turns": [["a dog", "no"]]}
    pair = plain(1, "ein Hund", "nein", "de", "matching", original=original)
    (sample,) = made("matching", [pair])
    assert (sample.turns[0].answer, sample.language) == ("no", "en")
    assert "ein Hund" in sample.turns[0].prompt
    assert "English" in sample.turns[0].prompt
    with pytest.raises(UserError, match="is answered 'nein', neither yes nor no"):
        made("matching", [plain(1, "ein Hund", "nein", "de", "matching")])


def labels():
    return [
        plain(f"{code}{i}", answer=f"{code}-{i}", language=code, task="classification", **{"class": f"n{i}"})
        for code in ("de", "sw")
        for i in range(10)
    ]


def test_verification_asks_in_the_language_of_the_label(tmp_path):
    path = near(tmp_path, {f"n{i}": ["n3", "n99"] for i in range(10)})
    spec = {"task": "verification", "neighbours": path, "negatives": 1, "hard": 1, "plain": True}
    samples = made(spec, labels())
    for sample, source in zip(samples, labels(), strict=True):
        assert sample.turns[0].prompt.startswith(source.language)
        assert sample.turns[0].prompt != source.turns[0].answer
        if source.extra["class"] != "n3":
            assert sample.turns[0].prompt == f"{source.language}-3"
    with pytest.raises(UserError, match="its 'extra' names no 'class'"):
        made("verification", CAPTIONS)
    alone = [plain(1, answer="x", task="classification", **{"class": "n1"})]
    with pytest.raises(UserError, match="has no negative in 'en'"):
        made({"task": "verification", "negatives": 1}, alone)


def test_translated_prompts_take_their_share_and_name_the_language_of_the_answer(tmp_path):
    path = tmp_path / "prompts.json"
    prompts = {"vqa": {"de": ["Frage: {question} Kurze Antwort auf {own_language}:"]}}
    path.write_text(json.dumps(prompts))
    samples = made({"task": "vqa", "templates": str(path)}, [translated(i) for i in range(200)])
    german = [s for s in samples if "Frage:" in s.turns[0].prompt]
    assert 60 < len(german) < 140
    for sample in german:
        assert sample.turns[0].prompt.endswith("English:" if sample.language == "en" else "Deutsch:")


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        {"vqa": []},
        {"nothing": {}},
        {"vqa": {"de": "x"}},
        {"vqa": {"de": []}},
        {"vqa": {"de": ["ohne Frage"]}},
        {"vqa": {"de": ["{question} {other}"]}},
        {"vqa": {"dee": ["{question}"]}},
    ],
)
def test_files_of_prompts_that_are_none(tmp_path, prompts):
    (tmp_path / "p.json").write_text(json.dumps(prompts))
    with pytest.raises(UserError):
        read_templates(tmp_path / "p.json")


def test_every_task_has_several_english_prompts_that_name_the_language():
    for task, texts in DEFAULT.english.items():
        assert len(texts) >= 2 or task == "instruction"
        for text in texts:
            assert "language" in fields_of(text) or task == "instruction"


@pytest.mark.parametrize(("task", "about"), [("matching", "image"), ("verification", "class")])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A dog.", "a dog"),
        ("caf\u00e9", "cafe\u0301"),
        ("狗。", "狗"),
        ("Ein  Hund", "ein Hund!"),
        ("कुत्ता।", "कुत्ता"),
        ("«chien»", "Chien"),
    ],
)
def test_a_text_of_ones_own_written_otherwise_is_no_negative(task, about, one, other):
    samples = [
        Sample(str(i), (), (Turn("", text),), "fr", "caption", "s", {about: str(i)})
        for i, text in enumerate((one, other))
    ]
    with pytest.raises(UserError, match="has no negative in 'fr'"):
        list(build(Build(task=task, negatives=1.0, plain=True), lambda: samples, 0))


def test_neighbours_with_ones_own_text_give_no_negative(tmp_path):
    rows = [{"id": "0", "near": ["1", "2"]}, {"id": "1", "near": ["0", "2"]}, {"id": "2", "near": ["0"]}]
    (tmp_path / "near.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = ("A dog.", "a dog", "a cat")
    samples = [
        Sample(str(i), (), (Turn("", text),), "en", "caption", "s", {"image": str(i)})
        for i, text in enumerate(texts)
    ]
    spec = Build(task="matching", negatives=1.0, plain=True, neighbours=tmp_path / "near.jsonl", hard=1.0)
    [first] = [one for one in build(spec, lambda: samples[:3], 0) if one.id == "0"][:1]
    assert first.turns[0] == Turn("a cat", "no")
