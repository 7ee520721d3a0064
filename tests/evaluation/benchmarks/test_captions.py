"""Own captions as a benchmark: what they are scored by, and what stands beside the score."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.benchmarks.stand_ins import ByLength, ByRule, draw

from polylens.errors import UserError
from polylens.evaluation.benchmarks.choices import choice_items
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores
from polylens.evaluation.benchmarks.ratios import with_ratios
from polylens.evaluation.benchmarks.run import evaluate_benchmark
from polylens.evaluation.bootstrap import bootstrap_mean
from polylens.evaluation.compare import compare_runs, read_run
from polylens.evaluation.measures import Metric
from polylens.evaluation.names import exact_match, loose_match
from polylens.evaluation.overview import overview, overview_table
from polylens.evaluation.runner import Item
from polylens.evaluation.settings import EvaluationSettings

ENGLISH = ["the red dog runs fast", "a blue cat sleeps", "two old men talk", "the green boat sails home"]
GERMAN = [
    "der rote Hund läuft schnell",
    "eine blaue Katze schläft",
    "zwei alte Männer reden",
    "das Boot fährt",
]


@pytest.fixture
def own(tmp_path):
    """Four pictures in two languages; two German captions of the first; the year is a further field."""
    draw(tmp_path / "own", [f"{n}.png" for n in range(4)])
    rows = [
        {
            "image": f"{n}.png",
            "captions": {"en": [en], "de": [de]},
            "year": n % 2,
            "id": "x",
            "prediction": "y",
        }
        for n, (en, de) in enumerate(zip(ENGLISH, GERMAN, strict=True))
    ]
    rows[0]["captions"]["de"].append("ein Hund")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "own" / "captions.jsonl").write_text(text, encoding="utf-8")
    return tmp_path / "own"


def number(sample):
    return int(sample.images[0].path.stem) if sample.images else None


def knows_half(sample):
    """English is always right, German for two pictures of four; text in the picture's place is put into German."""
    prompt = sample.turns[-1].prompt
    if not sample.images:
        return next((GERMAN[n] for n, text in enumerate(ENGLISH) if text in prompt), "nothing")
    at = number(sample)
    return ENGLISH[at] if prompt == "caption in en" or at > 1 else GERMAN[at]


def evaluate(own, predictor, **changes):
    settings = EvaluationSettings(data=own, **changes)
    return evaluate_benchmark(predictor, settings, own.parent / "out")


def test_scores_ratios_and_rows(own):
    results = evaluate(own, ByRule(knows_half), group_by="year")
    assert (results["benchmark"], results["protocol"]) == ("captions", "raw")
    assert results["title"] == "Captions of own, protocol raw"
    assert results["main_measure"] == "cider_d"
    row = results["languages"]["de"]
    assert (row["exact_match"], row["n"]) == (0.5, 4)
    assert (row["pivot_ratio"], row["n_ratio"]) == (0.5, 4)
    assert 0 < row["cider_pivot_ratio"] < 1
    low, high = row["intervals"]["pivot_ratio"]
    assert 0 <= low <= 0.5 <= high <= 1
    assert results["mean_pivot_ratio"] == results["worst_pivot_ratio"] == 0.5
    assert results["worst_language"] == "de"
    assert "pivot_ratio" not in results["languages"]["en"]
    assert {year: rows["de"]["n"] for year, rows in results["groups"].items()} == {"0": 2, "1": 2}
    assert "majority" not in results
    out = own.parent / "out"
    header, *rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert "fingerprint" in header
    # Fields of the data never take the place of an answer or its id.
    assert {row["id"] for row in rows} == {f"{n}.png:{code}:0" for n in range(4) for code in ("de", "en")}
    assert "y" not in {row["prediction"] for row in rows}
    again = ByRule(knows_half)
    assert evaluate(own, again)["languages"]["de"]["exact_match"] == 0.5
    assert again.asked == []


def test_ceiling_and_translation_by_the_model_itself(own):
    predictor = ByRule(knows_half)
    results = evaluate(
        own, predictor, baselines=("text-ceiling", "translate-test", "text-only"), translator="model"
    )
    scores = {
        name: results[f"{name}_scores"]["de"]["exact_match"] for name in ("text_ceiling", "translate_test")
    }
    assert scores == {"text_ceiling": 1.0, "translate_test": 1.0}
    assert results["text_ceiling"].keys() == {"de"}
    prompts = {sample.turns[-1].prompt for sample in predictor.asked if not sample.images}
    assert f"{ENGLISH[0]} caption in de" in prompts
    assert results["settings"]["translator"] == "model"
    assert results["settings"]["baselines"] == ["text-ceiling", "translate-test", "text-only"]
    page = (own.parent / "out" / "report.html").read_text(encoding="utf-8")
    assert "Text ceiling" in page
    assert "Pivot ratio" in page


def test_a_ceiling_needs_english_captions(own):
    with pytest.raises(UserError, match="made of English captions, and the questions have none"):
        evaluate(own, ByRule(knows_half), languages="de", baselines=("text-ceiling",))
    with pytest.raises(UserError, match="needs a translator"):
        evaluate(own, ByRule(knows_half), baselines=("translate-test",))
    assert not (own.parent / "out").exists()


class LooksUp(ByRule):
    """Chooses the right caption in English, and the first candidate of the alphabet elsewhere."""

    def choose(self, samples, candidates, generation):
        for place, texts in enumerate(candidates):
            wanted = ENGLISH[number(samples[place])]
            yield place, texts.index(wanted) if wanted in texts else texts.index(min(texts))


def test_choice_among_captions(own):
    results = evaluate(own, LooksUp(knows_half), choices=3)
    english, german = (results["languages"][code] for code in ("en", "de"))
    assert english["choice_accuracy"] == 1
    assert german["choice_accuracy"] == german["choice_pivot_ratio"] < 1
    assert results["measures"]["choice_accuracy"]["chance"] == pytest.approx(1 / 3)
    assert results["settings"]["choices"] == 3
    page = (own.parent / "out" / "report.html").read_text(encoding="utf-8")
    assert "likeliest of 3 captions in that language; guessing gives 33.3%" in page
    with pytest.raises(
        UserError, match=r"captions.jsonl, .*: 4 different captions in \w+ are too few .* among 9"
    ):
        evaluate(own, ByLength(knows_half), choices=9)
    with pytest.raises(UserError, match="gives no likelihoods to choose by: leave --choices out"):
        evaluate(own, ByRule(knows_half), choices=2)


def test_candidates_are_the_same_pictures_in_every_language(own):
    asked = [
        Question(id=f"{code}{n}", images=(f"{n}.png",), language=code, answers=(f"{code} {n}",))
        for code in ("en", "de")
        for n in range(30)
    ]
    items = choice_items(asked, [Item(None, question.answers) for question in asked], 5)  # type: ignore[arg-type]
    pictures = [[text.split()[1] for text in item.choices] for item in items]
    assert pictures[:30] == pictures[30:]
    assert all(len(set(mine)) == 5 and mine[0] == str(at) for at, mine in enumerate(pictures[:30]))
    assert len({tuple(mine[1:]) for mine in pictures[:30]}) > 20


def test_a_split_scores_the_upper_pictures_alone(own):
    whole = evaluate(own, ByRule(knows_half))
    upper = evaluate_benchmark(
        ByRule(knows_half), EvaluationSettings(data=own, split=0.5), own.parent / "upper"
    )
    assert 0 < upper["n"] < whole["n"]
    assert upper["settings"]["split"] == 0.5


def scored(code, values):
    questions = [
        Question(id=f"{code}{n}", images=(f"{n}.png",), language=code, answers=(f"{code} {n}",))
        for n in range(len(values))
    ]
    return questions, Scores({"hit": bootstrap_mean(values)}, {"hit": values})


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=6), st.integers(1, 6))
def test_a_ratio_is_over_common_pictures(values, common):
    english, top = scored("en", [1.0, 0.0] * 3)
    german, mine = scored("de", values)
    common = min(common, len(values))
    german, mine = german[:common], Scores(mine.measures, {"hit": values[:common]})
    found = with_ratios({"en": top, "de": mine}, [*english, *german], {"hit": "ratio"})
    assert found["de"].measures["ratio"].value == pytest.approx(sum(values[:common]) / -(-common // 2))
    assert found["de"].beside == {"n_ratio": common}
    assert found["en"] == top


@pytest.mark.parametrize(
    ("said", "reference", "code", "same"),
    [
        ("A dog.", "the dog", "en", True),
        ("dog on grass", "A dog on the grass!", "en", True),
        ("l’eau", "eau", "fr", True),
        ("ein Hund。", "Hund", "de", True),
        ("der Hund", "Hunde", "de", False),
        ("一只狗。", "一只狗", "zh", True),
        ("कुत्ता।", "कुत्ता", "hi", True),
        ("the", "a", "en", False),
        ("...", "!", "en", False),
        ("dog? ", "dog", "sw", True),
    ],
)
def test_loose_matches(said, reference, code, same):
    assert loose_match(said, reference, code) == same


@given(st.text(), st.text(), st.sampled_from(["en", "fr", "zh"]))
def test_an_exact_match_is_a_loose_one(said, reference, code):
    assert loose_match(said, said, code) == 1
    assert loose_match(said, reference, code) >= exact_match(said, reference)
    assert loose_match(said, reference, code) == loose_match(reference, said, code)


def loudness(questions, said, protocol):
    values = [float(text.isupper()) for text in said]
    return Scores({"loudness": bootstrap_mean(values)}, {"loudness": values})


def test_a_benchmark_from_outside_the_package_is_one_object(tmp_path):
    """Reader, scorer and measure are given here; the run, the report and the comparison know no more of it."""
    draw(tmp_path / "images", ["1.png", "2.png"])
    benchmark = Benchmark(
        name="loud",
        title="Loud",
        task="vqa",
        files="none",
        images="anything",
        read=lambda folder, languages: [
            Question(
                id=f"{code}/{n}",
                images=(f"{n}.png",),
                language=code,
                answers=("YES",),
                fields={"question": "Loud?"},
            )
            for code in ("de", "sw")
            if languages is None or code in languages
            for n in (1, 2)
        ],
        score=loudness,
        packaged=True,
        baselines=(),
        measures=(
            Metric(name="loudness", label="Loudness", meaning="answers that shout", scale=100, unit="%"),
        ),
    )

    def run(name, rule):
        settings = EvaluationSettings(benchmark=benchmark, images=(tmp_path / "images",))
        return evaluate_benchmark(ByRule(rule, name), settings, tmp_path / name)

    run("quiet", lambda sample: "yes")
    results = run("loud", lambda sample: "YES" if sample.language == "sw" else "yes")
    assert {code: row["loudness"] for code, row in results["languages"].items()} == {"de": 0, "sw": 1}
    folders: list[Path] = [tmp_path / "quiet", tmp_path / "loud"]
    assert "answers that shout" in (folders[1] / "report.html").read_text(encoding="utf-8")
    compared = compare_runs(*map(read_run, folders))
    assert compared["comparison"]["measures"]["loudness"]["sw"]["difference"] == 1
    table = overview_table(overview(folders))
    assert [str(column.header) for column in table.columns[1:]] == [
        "Loud, quiet\nLoudness,\u00a0%",
        "Loud, loud\nLoudness,\u00a0%",
    ]
