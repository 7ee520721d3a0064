"""Made-up results in 30 languages and made-up examples, to see and test reports with."""

import random
from typing import Any

from PIL import Image, ImageDraw

CODES = "en de fr es pt ru uk pl tr fi hu el ar fa he hi bn ta th vi id zh ja ko sw am ka hy yo zu".split()
NAMES = {
    "en": "hedgehog",
    "de": "Igel",
    "fr": "hérisson",
    "ru": "ёж",
    "el": "σκαντζόχοιρος",
    "ar": "قنفذ",
    "fa": "جوجه‌تیغی",
    "he": "קיפוד",
    "hi": "साही",
    "bn": "শজারু",
    "ta": "முள்ளெலி",
    "th": "เม่นแคระ",
    "zh": "刺猬",
    "ja": "ハリネズミ",
    "ko": "고슴도치",
    "am": "ጃርት",
    "ka": "ზღარბი",
    "hy": "ոզնի",
}


def made_up_results() -> dict[str, Any]:
    draw = random.Random(0)
    languages, exact, choice = {}, 0.47, 0.81
    for place, code in enumerate(CODES):
        kept = 1 if place == 0 else draw.uniform(0.42, 0.97) ** (1 + place / 60)
        languages[code] = _scores(exact * kept, choice * kept**0.5, None if place == 0 else kept)
    worst = min(CODES[1:], key=lambda code: languages[code]["pivot_ratio"])
    return {
        "title": "English only, measured in 30 languages",
        "model": "picto",
        "polylens_version": "0.1.0",
        "date": "2026-02-03T14:05:06+00:00",
        "languages": languages,
        "mean_pivot_ratio": 0.74,
        "worst_pivot_ratio": languages[worst]["pivot_ratio"],
        "worst_language": worst,
        "mean_choice_pivot_ratio": 0.87,
        "controls": {"no_image": 0.004, "other_image": 0.36, "before_alignment": 0.002},
        "text_ceiling": {code: min(1, scores["exact_match"] + 0.18) for code, scores in languages.items()},
        "translate_test": {
            code: max(0, scores["exact_match"] - 0.05 + 0.1 * draw.random())
            for code, scores in languages.items()
            if code != "en"
        },
        "baselines": {
            "native": {code: _scores(0.4, 0.75, 0.85) for code in ("de", "zh", "sw")},
            "mix": {code: _scores(0.35 + 0.1 * draw.random(), 0.7, 0.8) for code in CODES},
        },
        "heldout_concepts": {code: _scores(0.02 + 0.1 * draw.random(), 0.4, 0.5) for code in CODES},
        "n": 1150,
        "seconds": {
            "loading": 4.25,
            "caching_features": 48.0,
            "warm_up": 31.5,
            "alignment": 172.0,
            "evaluation": 61,
        },
        "seeds": [0],
        "settings": {
            "recipe": "picto-demo",
            "training": {"steps": 800, "lr": 3e-4, "languages": ["en"]},
            "beams": 4,
        },
        "next_steps": [
            "Caption a picture of your own: `polylens caption cat.png --lang de,sw,zh`",
            "See what native pairs would give: `polylens demo --full`",
            "Train on your own captions: `polylens train picto-demo data.path=FOLDER`",
        ],
    }


def made_up_examples(count: int = 6) -> list[dict[str, Any]]:
    draw = random.Random(1)
    return [
        {"picture": _picture(place), "title": f"hedgehog {place + 1}", "answers": _answers(draw, place)}
        for place in range(count)
    ]


def own_data_results() -> dict[str, Any]:
    """As an evaluation of somebody's own captions gives it: other measures, most keys missing."""
    return {
        "languages": {
            code: {
                "cider_d": 0.9 - place / 8,
                "bleu_4": 0.3 - place / 40,
                "rouge_l": 0.5,
                "language_identified": 0.99,
            }
            | {"n": 40, "intervals": {"cider_d": [0.8 - place / 8, 1.0 - place / 8]}}
            for place, code in enumerate(["en", "de", "ar", "th"])
        },
        "n": 40,
        "settings": {"data": "my-photos"},
    }


def _scores(exact: float, choice: float, kept: float | None) -> dict[str, Any]:
    return {
        "exact_match": exact,
        "chrf": 100 * exact**0.6,
        "choice_accuracy": choice,
        "pivot_ratio": kept,
        "choice_pivot_ratio": None if kept is None else kept**0.5,
        "n": 1150,
        "n_ratio": 1102,
        "intervals": {
            "exact_match": [max(0, exact - 0.028), exact + 0.028],
            "choice_accuracy": [choice - 0.02, choice + 0.02],
        },
    }


def _answers(draw: random.Random, place: int) -> dict[str, Any]:
    answers = {}
    for code in CODES:
        wanted = NAMES.get(code, f"name ({code})")
        right = draw.random() < 0.55
        other = (
            NAMES[draw.choice([known for known in NAMES if known != code])] if code == "en" else wanted[::-1]
        )
        answers[code] = {"said": wanted if right else other, "wanted": wanted, "right": right}
    return answers


def _picture(place: int) -> Image.Image:
    picture = Image.new("RGB", (360, 360), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 90, 320, 310), fill=("#a6612a", "#4878d0", "#2a9474")[place % 3])
    draw.ellipse((240, 180, 270, 210), fill="#10131a")
    return picture
