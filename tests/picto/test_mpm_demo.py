"""MPM's claims from end to end, with few pictures and hardly any training, and how answers are told apart."""

import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from polylens.data.sample import Sample
from polylens.picto import mpm_demo
from polylens.picto.conversations import ASKED, conversations, question
from polylens.picto.mpm_measure import (
    Asked,
    answered_in,
    in_language,
    named_from_text,
    right_in_either,
    row,
    yes_no_right,
)
from polylens.picto.tasks import question_table
from polylens.picto.world import LANGUAGES, concepts
from polylens.recipe import load_recipe
from polylens.training.run import read_samples

CAT = next(concept for concept in concepts() if concept.name("en") == "cat")
CODES = ("en", "de", "fr")


def asked(code: str, kind: str) -> Sample:
    found = question(CAT, "twemoji", code, kind)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("mpm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYLENS_CACHE", str(folder / "cache"))
        for name in ("TEXT", "PRETRAIN", "INSTRUCT"):
            recipe = load_recipe(getattr(mpm_demo, name)).model_dump(mode="json", exclude_defaults=True)
            for part in recipe["data"].get("mix", [recipe["data"]]):
                part["options"] = part.get("options", {}) | {"num_concepts": 4}
            if name == "TEXT":
                recipe["data"]["languages"] = ["en", "de"]
            for stage in recipe["stages"]:
                stage |= {"steps": 1, "batch_size": 4, "warmup_steps": 0}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
            patch.setattr(mpm_demo, name, str(folder / f"{name}.yaml"))
        patch.setattr(mpm_demo, "SHARES", (0.0, 0.2))
        patch.setattr(mpm_demo, "NATIVE", ("de",))
        patch.setattr(mpm_demo, "NUM_EXAMPLES", 1)
        mpm_demo.MpmDemo(folder / "out", Console(quiet=True), languages=CODES).run(num_pictures=2)
    return {"folder": folder / "out", **json.loads((folder / "out" / "results.json").read_text())}


def test_all_three_claims_are_in_the_results(results: dict) -> None:
    tuned = mpm_demo.run_name(0.2)
    assert list(results["runs"]) == [
        mpm_demo.ZERO_SHOT,
        mpm_demo.run_name(0.0),
        tuned,
        mpm_demo.NATIVE_PLUS,
    ]
    assert set(results["languages"]) == set(results["baselines"][tuned]) == set(CODES)
    assert set(results["runs"][tuned]) == {mpm_demo.ENGLISH, mpm_demo.INTO, mpm_demo.OTHERS}
    assert results["curves"]["ticks"] == ["0%", "20%"]
    assert all(len(points) == 2 for points in results["curves"]["lines"].values())
    assert set(results["native_plus_minus_balance"]) == {"English", "Native", "Other languages"}
    assert set(results["text_ceiling"]) == {"de", "fr"}
    assert set(results["answer_languages"][tuned]["de"]) == {"caption", "keywords", "yesno", "identifier"}
    assert (results["n"], results["seeds"]) == (2, [0])


def test_the_page_shows_the_runs_and_their_curves(results: dict) -> None:
    page = (Path(results["folder"]) / "report.html").read_text()
    for text in (
        "Answers in the language of the question",
        "Native plus, 20% translated: Languages translated into",
        "Runs",
    ):
        assert text in page
    assert (Path(results["folder"]) / "curves.png").is_file()


def test_the_runs_of_a_recipe_differ_in_languages_alone(results: dict) -> None:
    recipes = {
        path.parent.name: yaml.safe_load(path.read_text())
        for path in Path(results["folder"]).glob("runs/*/recipe.yaml")
    }
    for names in (("pretrained", "pretrained-plus"), ("tuned-0", "tuned-20", "tuned-plus")):
        kept = [
            {key: recipes[name][key] for key in ("seed", "precision", "augmentation", "stages")}
            for name in names
        ]
        assert all(one == kept[0] for one in kept)


def test_pretraining_touches_only_what_images_pass_through_and_instruction_all_but_the_patch_embedding() -> (
    None
):
    pretrain, instruct = load_recipe("picto-mpm-pretrain"), load_recipe("picto-mpm-instruct")
    for stage in pretrain.stages:
        assert set(stage.table) <= {"projector.*", "resampler.*"}
    table = {pattern: row.learning_rate for pattern, row in instruct.stages[0].table.items()}
    published = load_recipe("mpm-instruct").stages[0].table
    assert table["*"]
    assert [rate for rate in table.values() if rate is None] == [None]
    assert len(published) == len(table) == 2


def test_english_alone_is_english_alone_and_a_share_is_the_share_of_draws() -> None:
    for share in (0.0, 0.01, 0.2):
        recipe = load_recipe(
            "picto-mpm-instruct", [*mpm_demo.mixed(share), "data.mix.0.options.num_concepts=300"]
        )
        mix, _ = read_samples(recipe)
        drawn = [mix[number].language for step in range(200) for number, _ in mix.order(32, 0).batch(step)]
        others = sum(code != "en" for code in drawn) / len(drawn)
        assert others == pytest.approx(share, abs=0.01)


def test_a_question_is_in_its_language_and_nothing_announces_it() -> None:
    for code in LANGUAGES:
        for sample in conversations(languages=[code], split="heldout", num_concepts=3):
            assert len(sample.turns) >= len(ASKED) - 1
            assert ":" not in sample.turns[0].prompt.split(" ")[0] or code != "en"
            templates = question_table()[code]
            assert {templates["what"]} <= {turn.prompt for turn in sample.turns}


def test_told_conversations_have_words_for_a_picture() -> None:
    (sample,) = conversations(languages=["de"], tasks=["caption"], num_concepts=1, told=True)
    assert sample.images == ()
    *words, question_text = sample.turns[0].prompt.partition("Was ist das?")[:2]
    assert question_text == "Was ist das?"
    name = words[0].strip()
    assert name == " ".join([name[: (len(name) + 1) // 4].strip()] * 4)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Katze", "asked"),
        ("cat", "english"),
        ("ja", "asked"),
        ("yes", "english"),
        ("Pizza", "both"),
        ("Katzze", "neither"),
        ("", "neither"),
        ("Haustier, Katze, cat", "asked"),
        ("Pizza, cat", "english"),
        ("Katze, cat", "neither"),
    ],
)
def test_the_language_of_an_answer(text: str, found: str) -> None:
    assert answered_in(text, "de") == found


def test_answers_are_right_in_either_language() -> None:
    assert (
        right_in_either(asked("de", "caption"), "cat")
        == right_in_either(asked("de", "caption"), "Katze")
        == 1
    )
    assert right_in_either(asked("de", "caption"), "gato") == 0
    question_de = asked("de", "yesno")
    truth = {"ja": ("ja", "yes"), "nein": ("nein", "no")}[question_de.turns[0].answer]
    assert [yes_no_right(question_de, text) for text in truth] == [1, 1]
    assert yes_no_right(question_de, "no" if truth[0] == "ja" else "yes") == 0


def test_shares_leave_out_what_tells_nothing_and_english_questions() -> None:
    def said(code: str, text: str) -> dict[str, list[tuple[Sample, str]]]:
        return {
            kind: [(asked(code, kind), text if kind == "caption" else "")]
            for kind in ("caption", "keywords", "yesno")
        }

    given = Asked({"en": said("en", "cat"), "de": said("de", "Pizza"), "fr": said("fr", "chat")})
    values, _ = in_language(given, "asked", ["caption"])
    assert values == [1.0]
    assert row(given.of(["fr"]))["asked_language"] == pytest.approx(1 / 3)
    assert "asked_language" not in row(given.of(["en"]))


def test_the_yardstick_asks_in_the_language_of_a_name_told_in_english() -> None:
    class Echo:
        def generate(self, samples: list[Sample], **_: object) -> list[str]:
            assert all(not sample.images for sample in samples)
            return [sample.turns[0].prompt for sample in samples]

    class Knowing(Echo):
        def generate(self, samples: list[Sample], **_: object) -> list[str]:
            return ["Katze" if "cat cat cat cat Was" in text else "" for text in super().generate(samples)]

    assert named_from_text(Knowing(), [(CAT, "twemoji")], ["de"]) == {"de": 1.0}  # type: ignore[arg-type]
