"""Reports: what page, CSV, figures and terminal hold, and how the page behaves in a browser."""

import csv
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tests.evaluation.made_up import CODES, made_up_examples, made_up_results, own_data_results

from polylens.errors import UserError
from polylens.evaluation.plots import (
    DARK,
    LIGHT,
    SCRIPT_COLOURS,
    difference_plot,
    heat_map,
    score_bars,
    share_scatter,
)
from polylens.evaluation.report import print_table, results_csv, write_report
from polylens.evaluation.summary import duration, language_groups, main_column, pretraining_points, rows
from polylens.languages import LANGUAGES, language

VOID = {"meta", "link", "img", "br", "source", "path", "input"}
SCRIPT = "<script>alert('x')</script>"
COMPARED = {
    "comparison": {
        "measure": "accuracy",
        "level": 0.05,
        "languages": {
            code: {
                "difference": place / 99,
                "low": place / 99 - 0.1,
                "high": place / 99 + 0.1,
                "p_holm": place / 30,
            }
            for place, code in enumerate(CODES)
        },
    }
}


class Page(HTMLParser):
    """Text, tags and nesting of a page; fails on tags that are not closed in order."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.pieces))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(made_up_results(), made_up_examples(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report)


def test_page_shows_every_language(page: Page) -> None:
    for code in CODES:
        assert language(code).name in page.text
        assert language(code).own_name in page.text
    heads = [attributes for attributes in page.all("th") if attributes.get("scope") == "row"]
    groups = language_groups(made_up_results())
    assert {group.kind for group in groups} == {"Script", "Family"}
    assert len(heads) == 2 * len(CODES) + 1 + len(groups)  # by language, comparisons, mean, groups


def test_page_shows_the_numbers(page: Page) -> None:
    for number in ("47.0%", "44.2–49.8", "0.74", "0.87", "1,150 pictures", "30 languages", "5 min 17 s"):
        assert number in page.text
    assert "the 29 other languages keep on average 74% of that" in page.text
    assert "it answers from what it sees" in page.text
    assert "training.languages" in page.text


def test_page_needs_nothing_else(page: Page) -> None:
    without_pictures = re.sub(r"base64,[^\"]+", "", page.source)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_pictures)
    assert page.all("script") == []
    for attributes in page.all("img"):
        assert (attributes["src"] or "").startswith("data:image/")
    for attributes in page.all("a"):
        target = attributes["href"] or ""
        assert target.startswith("#") or "/" not in target


def test_page_can_be_read_by_everyone(page: Page) -> None:
    assert page.all("html") == [{"lang": "en"}]
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all("scope" in attributes for attributes in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {
        (attributes["href"] or "")[1:] for attributes in page.all("a") if attributes["href"][:1] == "#"
    }  # type: ignore[index]
    assert targets <= set(ids)
    said = [attributes for attributes in page.all("p") if attributes.get("class") == "text"]
    assert {attributes["lang"] for attributes in said} == set(CODES)
    assert {attributes["dir"] for attributes in said} == {"auto"}
    marks = [attributes.get("aria-label") for attributes in page.all("svg")]
    assert len(marks) == 6 * len(CODES)
    assert set(marks) == {"right", "wrong"}


def test_colours_of_the_page_can_be_told_apart(page: Page) -> None:
    grounds = re.findall(r"--paper: (#\w+).*?--ink: (#\w+); --muted: (#\w+)", page.source)
    accents = re.findall(
        r"--accent: (#\w+); --right: (#\w+); --wrong: (#\w+); --wrong-ground: (#\w+)", page.source
    )
    assert len(grounds) == len(accents) == 2
    for (paper, *inks), (*colours, wrong_ground) in zip(grounds, accents, strict=True):
        assert min(_contrast(paper, colour) for colour in [*inks, *colours]) >= 4.5
        assert min(_contrast(wrong_ground, colour) for colour in [*inks, colours[2]]) >= 4.5
        assert min(_contrast(paper, colour) for colour in SCRIPT_COLOURS) >= 3


def test_csv_holds_all_numbers(report: Path) -> None:
    results = made_up_results()
    lines = list(csv.DictReader(io.StringIO((report.parent / "results.csv").read_text(encoding="utf-8"))))
    assert sorted(line["code"] for line in lines) == sorted(CODES)
    for line in lines:
        scores = results["languages"][line["code"]]
        assert float(line["exact_match"]) == scores["exact_match"]
        assert [float(line["exact_match.low"]), float(line["exact_match.high"])] == scores["intervals"][
            "exact_match"
        ]
        assert float(line["text_ceiling"]) == results["text_ceiling"][line["code"]]
        assert bool(line["baselines.native.chrf"]) == (line["code"] in ("de", "zh", "sw"))
    assert lines[0]["code"] == "en"
    assert lines[0]["pivot_ratio"] == ""


def test_figures_beside_the_page(report: Path) -> None:
    assert sorted(path.name for path in report.parent.iterdir()) == [
        "heatmap.png",
        "pretraining.png",
        "report.html",
        "results.csv",
        "scores.png",
    ]
    for name in ("scores.png", "heatmap.png"):
        with Image.open(report.parent / name) as figure:
            assert figure.format == "PNG"
            assert figure.width == 2160


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_nothing_is_cut_off_at_the_edges_of_figures(theme: Any, narrow: bool) -> None:
    for draw in (
        score_bars,
        heat_map,
        share_scatter,
        lambda results, **style: difference_plot(COMPARED, **style),
    ):
        pixels = np.asarray(
            Image.open(io.BytesIO(draw(made_up_results(), theme=theme, narrow=narrow))).convert("RGB")
        )
        edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        ground = [int(theme.paper[at : at + 2], 16) for at in (1, 3, 5)]
        assert np.abs(edges.astype(int) - ground).max() <= 8


@pytest.mark.parametrize("narrow", [False, True])
def test_labels_beside_few_squares_are_whole(narrow: bool) -> None:
    few = {"languages": {code: {"accuracy": 0.5} for code in ("en", "pt", "vi")}}
    pixels = np.asarray(Image.open(io.BytesIO(heat_map(few, narrow=narrow))).convert("RGB"))
    assert (pixels[:, 0] >= 247).all()


def test_figures_of_a_hundred_languages(recwarn: pytest.WarningsRecorder) -> None:
    results = {"languages": {code: {"exact_match": 0.3, "chrf": 40.0} for code in LANGUAGES}}
    for draw in (score_bars, heat_map, share_scatter):
        with Image.open(io.BytesIO(draw(results))) as figure:
            assert figure.width == 2160
    assert [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)] == []


def test_names_are_escaped(tmp_path: Path) -> None:
    results = own_data_results() | {
        "title": SCRIPT,
        "model": SCRIPT,
        "date": SCRIPT,
        "notes": [SCRIPT],
        "settings": {SCRIPT: SCRIPT},
        "next_steps": [f"{SCRIPT} `{SCRIPT}`"],
        "seconds": {SCRIPT: 1},
        "controls": {SCRIPT: 0.5},
        "baselines": {SCRIPT: {"de": {"cider_d": 0.5, SCRIPT: 1}}},
    }
    results["languages"][SCRIPT] = {"cider_d": 0.1, SCRIPT: 0.2}
    answer = {"said": SCRIPT, "wanted": SCRIPT, "right": False}
    example = {
        "picture": Image.new("RGB", (8, 8)),
        "title": SCRIPT,
        "answers": {"de": answer, SCRIPT: answer},
    }
    page = Page(write_report(results, [example], tmp_path))
    assert page.all("script") == []
    assert page.text.count(SCRIPT) >= 12
    assert page.source.count("<code>") == 1


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"languages": {}, "next_steps": None, "seeds": None, "settings": None},
        {"languages": {"de": {"exact_match": 0.5}}},
        {"languages": {"de": {"n": 3}, "sw": {"exact_match": math.nan, "chrf": None, "intervals": None}}},
        {"languages": {"en": {"exact_match": 0.0}, "de": {"exact_match": 0.0}}, "mean_pivot_ratio": None},
        {key: value for key, value in made_up_results().items() if key != "languages"},
    ],
    ids=["nothing", "empty", "one score", "no numbers", "zeros", "no languages"],
)
def test_page_shows_what_is_there(results: dict[str, Any], tmp_path: Path) -> None:
    page = Page(write_report(results, [], tmp_path))
    assert len(page.all("h1")) == 1
    assert "nan" not in page.text
    assert "None" not in page.text
    scored = main_column(results) is not None
    assert (tmp_path / "scores.png").exists() == (tmp_path / "heatmap.png").exists() == scored
    assert (tmp_path / "results.csv").read_text(encoding="utf-8").startswith("code,language,script")


def test_own_data_and_other_measures(tmp_path: Path) -> None:
    answer = {"said": "فيل يقف أمام منزل صغير ذو سقف أحمر وشجرة كبيرة", "wanted": "فيل"}
    Image.new("RGB", (600, 300)).save(tmp_path / "a.png")
    example = {"picture": tmp_path / "a.png", "title": "elephant", "answers": {"ar": answer}}
    page = Page(write_report(own_data_results(), [example], tmp_path / "report"))
    assert "the mean CIDEr-D is 71.2, from 90.0 in English to 52.5 in Thai" in page.text
    assert "Right language" in page.text
    assert "Pivot ratio" not in page.text
    assert page.all("svg") == []  # not judged, so not marked
    assert any(attributes.get("class") == "answers long" for attributes in page.all("ul"))


def test_results_survive_json(tmp_path: Path) -> None:
    results = made_up_results()
    assert results_csv(json.loads(json.dumps(results))) == results_csv(results)


def test_rows_are_grouped_by_script() -> None:
    order = rows(made_up_results())
    assert order[0].code == "en"
    scripts = [row.script for row in order]
    assert len(set(scripts)) == 1 + sum(a != b for a, b in pairwise(scripts))
    assert scripts[0] == "Latin"


def test_controls_that_fail_are_said_so(tmp_path: Path) -> None:
    results = {
        "languages": {"en": {"exact_match": 0.5}, "de": {"exact_match": 0.4}},
        "controls": {"no_image": 0.3},
    }
    assert "part of the score is guessing" in Page(write_report(results, [], tmp_path)).text


def test_captions_are_led_by_cider_not_by_exact_match() -> None:
    results = {"languages": {"de": {"exact_match": 0.0, "chrf": 40.0, "cider_d": 0.7}}}
    assert main_column(results).key == "cider_d"
    assert main_column(results | {"main_measure": "chrf"}).key == "chrf"


def test_yardsticks_are_shown_in_the_main_measure(tmp_path: Path) -> None:
    results = own_data_results() | {"text_only": {"en": 0.111, "de": 0.05}, "majority": {"en": 0.022}}
    page = Page(write_report(results, [], tmp_path))
    for piece in ("Text only", "Majority", "11.1", "2.2"):
        assert piece in page.text


def test_best_and_worst_answers_stand_apart(tmp_path: Path) -> None:
    answers = {"de": {"said": "x", "wanted": "y", "score": "12.3"}}
    examples = [
        {"picture": Image.new("RGB", (8, 8)), "title": str(place), "answers": answers, "kind": kind}
        for place, kind in enumerate(["Best answers"] * 2 + ["Worst answers"] * 2)
    ]
    page = Page(write_report(own_data_results(), examples, tmp_path))
    assert page.text.count("Best answers") == page.text.count("Worst answers") == 1
    assert page.text.index("Best answers") < page.text.index("Worst answers")
    assert page.text.count("12.3") == 4


def test_groups_of_languages() -> None:
    results = {
        "languages": {code: {"cider_d": value} for code, value in (("en", 0.9), ("de", 0.5), ("ja", 0.2))}
    }
    groups = {(group.kind, group.name): group for group in language_groups(results)}
    latin = groups["Script", "Latin"]
    assert (latin.codes, latin.mean) == (("en", "de"), pytest.approx(0.7))
    assert (latin.best, latin.worst) == (("en", 0.9), ("de", 0.5))
    assert groups["Family", "Indo-European"].codes == ("en", "de")
    assert groups["Family", "Japonic"].mean == 0.2


def test_pretraining_shares_are_those_of_the_table() -> None:
    points = pretraining_points({"languages": {code: {"accuracy": 0.5} for code in ("en", "sw", "quz")}})
    assert points == {
        "en": (language("en").mc4_share, 0.5),
        "sw": (language("sw").mc4_share, 0.5),
    }


def test_published_numbers_only_where_confirmed(tmp_path: Path) -> None:
    shown = Page(write_report(own_data_results() | {"benchmark": "xm3600"}, [], tmp_path / "a"))
    assert "English 78.1, average of 36 languages 41.3" in shown.text
    other = Page(write_report(own_data_results() | {"benchmark": "cvqa"}, [], tmp_path / "b"))
    assert "Published numbers" not in other.text


def test_parts_of_the_data(tmp_path: Path) -> None:
    part = {"en": {"cider_d": 0.5, "n": 3}, "de": {"cider_d": 0.3, "n": 4}}
    page = Page(
        write_report(own_data_results() | {"groups": {"outdoors": part, "indoors": part}}, [], tmp_path)
    )
    assert "outdoors" in page.text
    assert "40.0" in page.text  # the mean of the two, times 100


@pytest.mark.parametrize("width", [80, 140])
def test_table_in_the_terminal(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    print_table(made_up_results(), console)
    text = console.export_text()
    for code in CODES:
        assert re.search(rf"^ *{re.escape(language(code).name)} ", text, re.MULTILINE)
    assert "…" not in text
    for piece in ("47.0", "63.6", "81.0", "0.89", "65.0", "no picture 0.4%", "alignment 2 min 52 s"):
        assert piece in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59.7, "1 min 0 s"), (317, "5 min 17 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_unreadable_picture_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    example = {"picture": tmp_path / "a.png", "title": "a", "answers": {}}
    with pytest.raises(UserError, match=r"a\.png"):
        write_report(own_data_results(), [example], tmp_path)


def test_folder_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="out"):
        write_report({}, [], tmp_path / "out")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser(report: Path, tmp_path: Path, width: int, dark: bool) -> None:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        chrome.set_page_load_timeout(60)
        view = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", view)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chrome.get(report.as_uri())
        assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
        assert chrome.execute_script("return window.innerWidth") == width
        broken = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
        assert chrome.execute_script(broken) == 0
        shown = chrome.execute_script("return document.querySelector('figure img').currentSrc")
        other = chrome.execute_script("return document.querySelector('figure img').src")
        assert (shown == other) == (width == 1400 and not dark)
        ground = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(16, 19, 26)" if dark else "rgb(246, 247, 249)")
        direction = (
            "return [...document.querySelectorAll('p.text[lang=he]')].map(p => getComputedStyle(p).direction)"
        )
        assert set(chrome.execute_script(direction)) == {"rtl"}
        assert chrome.get_log("browser") == []
    finally:
        chrome.quit()


def _contrast(first: str, second: str) -> float:
    low, high = sorted(_luminance(colour) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
