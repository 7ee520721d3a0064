"""A benchmark from official files to a report: read, find the pictures, ask, score, beside baselines.

Every answer is on disk as soon as it is given (predictions.jsonl), so a run that was killed goes on where it was.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from polylens import __version__
from polylens.data.sample import Picture
from polylens.errors import UserError
from polylens.evaluation.answer_language import answer_languages
from polylens.evaluation.benchmarks.asking import Asking, in_text_only, sha256_questions
from polylens.evaluation.benchmarks.baselines import NAMES, Translate, back, in_english
from polylens.evaluation.benchmarks.files import known_code
from polylens.evaluation.benchmarks.interface import Benchmark, Question, Scores, find_benchmark, picture_name
from polylens.evaluation.benchmarks.pictures import NAMED, Located, locate
from polylens.evaluation.benchmarks.protocols import find_protocol
from polylens.evaluation.benchmarks.scoring import majority
from polylens.evaluation.examples import best_and_worst
from polylens.evaluation.items import ScoredItem, write_items
from polylens.evaluation.measures import METRICS, Metric
from polylens.evaluation.predictor import Generation, Predictor
from polylens.evaluation.report import Example, write_report
from polylens.evaluation.runner import Item, answer, as_row
from polylens.files import make_writable_folder, write_atomic
from polylens.training.log import progress_bar

PIVOT = "en"
RESULTS = "results.json"
# Tasks whose answers are long enough to tell what language they are in.
SENTENCES = ("caption", "chair", "chair_detail", "question")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked, and how. `languages` as in "de,sw" or "all"; `limit` keeps the first N questions of each
    language. `changes` are settings of generation that depart from the protocol's.
    """

    benchmark: str
    data: Path | None = None
    images: tuple[Path, ...] = ()
    languages: str = "all"
    protocol: str | None = None
    limit: int | None = None
    skip_missing: bool = False
    likelihood: bool = False
    baselines: tuple[str, ...] = ("majority",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64


def evaluate_benchmark(
    predictor: Predictor,
    request: Request,
    out: Path,
    *,
    translate: Translate | None = None,
    translator: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Ask the questions of a benchmark and score the answers, language by language.

    Writes predictions.jsonl, items.jsonl (what each answer scored, for comparisons), results.json, results.csv and
    report.html with figures into `out`, and returns the results. Answers to baselines are kept in folders of `out`.
    Raises `UserError` for files or pictures that are missing, and for what the model or the protocol cannot do.
    """
    console = console or Console(quiet=True)
    benchmark = find_benchmark(request.benchmark)
    _check(request, benchmark, translate)
    asking = Asking(benchmark, find_protocol(request.protocol, benchmark.task), predictor)
    questions, unknown = asking.without_unknown(read_questions(benchmark, request))
    if not questions:
        raise UserError(
            f"The languages {', '.join(unknown)} have no name here, so no answer can be asked for in them."
        )
    if request.likelihood and not all(question.choices for question in questions):
        raise UserError(
            f"{benchmark.title} has no labels to choose from by likelihood: have the answers generated."
        )
    located = locate(questions, request.images, request.skip_missing)
    questions = located.questions
    # Whatever cannot be scored (a library that is missing, say) is said before hours of answering.
    for one in {question.language: question for question in questions}.values():
        if benchmark.score:
            benchmark.score([one], [""], asking.protocol)
    make_writable_folder(out)
    run = _Run(asking, request, out, console)
    start = time.monotonic()
    items = [asking.item(question, mine) for question, mine in zip(questions, located.pictures, strict=True)]
    said = run.answer(items, request.likelihood)
    answered = time.monotonic()
    results: dict[str, Any] = {
        "title": f"{benchmark.title}, protocol {asking.protocol.name}",
        "model": predictor.name,
        "benchmark": benchmark.name,
        "protocol": asking.protocol.name,
        "polylens_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": len({picture.key for pictures in located.pictures for picture in pictures}),
        "num_questions": len(questions),
    }
    scored = score_all(asking, questions, said)
    results |= _in_results(asking, questions, said, scored)
    for name in request.baselines:
        results |= run.baseline(name, questions, located.pictures, items, translate, scored)
    results["missing_images"] = {
        "pictures": len(located.missing),
        "questions": located.left_out,
        "first": located.missing[:NAMED],
    }
    results["notes"] = _notes(request, located, unknown, scored, benchmark)
    results["seconds"] = {
        "answers": round(answered - start, 1),
        "scores and baselines": round(time.monotonic() - answered, 1),
    }
    results["settings"] = _settings(asking, request, items, scored, run.generation, translator)
    _write_items(out, questions, scored)
    write_report(results, _examples(questions, items, said, scored), out)
    write_atomic(out / RESULTS, json.dumps(results, ensure_ascii=False, indent=1))
    return results


def read_questions(benchmark: Benchmark, request: Request) -> list[Question]:
    """The questions in the languages asked for. Raises `UserError` when a language is not in the files."""
    folder = request.data or Path()
    if request.languages.strip().lower() == "all":
        codes = None
    else:
        codes = [known_code(code.strip()) for code in request.languages.split(",") if code.strip()]
        if not codes:
            raise UserError(f"No language in '{request.languages}': give codes such as 'de,sw', or 'all'.")
    questions = list(benchmark.read(folder, codes))
    found = dict.fromkeys(question.language for question in questions)
    if missing := [code for code in codes or () if code not in found]:
        there = dict.fromkeys(question.language for question in benchmark.read(folder, None))
        raise UserError(
            f"{benchmark.title} in '{folder}' has nothing in {', '.join(missing)}: it has {', '.join(there) or 'none'}."
        )
    if not questions:
        raise UserError(f"'{folder}' holds no question of {benchmark.title}: give its folder with --data.")
    if request.limit is not None:
        kept, counts = [], dict.fromkeys(found, 0)
        for question in questions:
            counts[question.language] += 1
            if counts[question.language] <= request.limit:
                kept.append(question)
        questions = kept
    return questions


def score_all(asking: Asking, questions: Sequence[Question], said: Sequence[str]) -> dict[str, Scores]:
    """{language: scores of its questions}, of long answers also how many are in the language asked for.

    A benchmark that is left to a judge has only the latter.
    """
    found = {}
    for code, places in _by(questions, lambda question: question.language).items():
        mine, answers = [questions[at] for at in places], [said[at] for at in places]
        scores = Scores({})
        if asking.benchmark.score:
            scores = asking.benchmark.score(mine, answers, asking.protocol)
        if asking.benchmark.task in SENTENCES:
            told = answer_languages(answers, code)
            settings = {"answers in other languages": told.others} if told.others else {}
            scores = replace(
                scores,
                measures={**scores.measures, **told.measures},
                items={**scores.items, **told.items},
                settings={**scores.settings, **settings},
            )
        if scores.measures:
            found[code] = scores
    return found


class _Run:
    """Answers to the questions and to those of baselines, each kept in a folder of its own."""

    def __init__(self, asking: Asking, request: Request, out: Path, console: Console) -> None:
        self.asking, self.request, self.out, self.console = asking, request, out, console
        given = asking.protocol.settings_of(asking.benchmark.task)
        self.generation = replace(given, batch_size=request.batch_size, **request.changes)

    def answer(self, items: Sequence[Item], likelihood: bool, folder: str = "") -> list[str]:
        with progress_bar(self.console) as bar:
            task = bar.add_task(folder or "answers", total=len(items))
            return answer(
                self.asking.predictor,
                items,
                self.generation,
                likelihood=likelihood,
                folder=self.out / folder,
                fingerprint=self._fingerprint(likelihood, folder),
                advance=lambda count: bar.advance(task, count),
            )

    def _fingerprint(self, likelihood: bool, folder: str) -> dict[str, Any]:
        """All that moves an answer but the question, its pictures and its choices, which every row names."""
        generation = {key: value for key, value in asdict(self.generation).items() if key != "batch_size"}
        return {
            "model": dict(self.asking.predictor.settings),
            "benchmark": self.asking.benchmark.name,
            "protocol": self.asking.protocol.name,
            "generation": generation,
            "likelihood": likelihood,
            "baseline": folder,
        }

    def baseline(
        self,
        name: str,
        questions: Sequence[Question],
        pictures: Sequence[tuple[Picture, ...]],
        items: Sequence[Item],
        translate: Translate | None,
        scored: Mapping[str, Scores],
    ) -> dict[str, Any]:
        """{name: {language: value of the main measure}}, and all measures in `baseline_scores`."""
        if not scored:
            return {}
        if name == "majority":
            said = [""] * len(questions)
            for places in _by(questions, lambda question: question.language).values():
                most = majority([questions[at] for at in places])
                for at in places:
                    said[at] = most
            rescored = score_all(self.asking, questions, said)
        elif name == "text-only":
            said = self.answer(in_text_only(items), self.request.likelihood, name)
            rescored = score_all(self.asking, questions, said)
        else:
            assert translate is not None
            rescored = self._through_english(questions, pictures, translate)
        key = name.replace("-", "_")
        rows = {code: as_row(scores.measures) for code, scores in rescored.items()}
        main = {code: next(iter(scores.measures.values())).value for code, scores in rescored.items()}
        return {key: main, f"{key}_scores": rows}

    def _through_english(
        self, questions: Sequence[Question], pictures: Sequence[tuple[Picture, ...]], translate: Translate
    ) -> dict[str, Scores]:
        others = [place for place, question in enumerate(questions) if question.language != PIVOT]
        if not others:
            return {}
        english = in_english([questions[at] for at in others], translate)
        asked = [
            self.asking.item(question, pictures[at])
            for question, at in zip(english.questions, others, strict=True)
        ]
        # One English caption of a picture serves all languages.
        distinct: dict[tuple[Any, ...], Item] = {}
        keys = [
            (tuple(p.key for p in item.sample.images), item.sample.turns[-1].prompt, item.choices)
            for item in asked
        ]
        for key, item in zip(keys, asked, strict=True):
            distinct.setdefault(key, item)
        texts = self.answer(list(distinct.values()), self.request.likelihood, "translate-test")
        by_key = dict(zip(distinct, texts, strict=True))
        said = back([by_key[key] for key in keys], english.into, translate)
        # Options are compared in English, answers in the language that they are scored in.
        originals = [
            replace(questions[at], extra=question.extra)
            for question, at in zip(english.questions, others, strict=True)
        ]
        return score_all(self.asking, originals, said)


def _check(request: Request, benchmark: Benchmark, translate: Translate | None) -> None:
    if request.data is None and not benchmark.packaged:
        raise UserError(f"{benchmark.title} needs the folder of its files (--data): {benchmark.files}.")
    if request.data is not None and not request.data.is_dir():
        raise UserError(f"There is no folder '{request.data}': give the one that holds {benchmark.files}.")
    wrong = next((name for name in request.baselines if name not in NAMES), None)
    if wrong is not None:
        raise UserError(f"There is no baseline '{wrong}': choose from {', '.join(NAMES)}.")
    if "translate-test" in request.baselines and translate is None:
        raise UserError("The baseline translate-test needs a translator: name one with --translator.")


def _in_results(
    asking: Asking, questions: Sequence[Question], said: Sequence[str], scored: Mapping[str, Scores]
) -> dict[str, Any]:
    rows = {code: as_row(scores.measures) for code, scores in scored.items()}
    found: dict[str, Any] = {"languages": rows}
    if not rows:
        return found
    names = list(next(iter(scored.values())).measures)
    found["main_measure"] = names[0]
    found["means"] = {
        name: {
            "all": fmean(row[name] for row in rows.values()),
            "without_en": fmean(others)
            if (others := [row[name] for code, row in rows.items() if code != PIVOT])
            else None,
        }
        for name in names
    }
    groups = _by(questions, lambda question: question.group)
    if set(groups) != {""}:
        found["groups"] = {
            group or "-": {
                code: as_row(scores.measures)
                for code, scores in score_all(
                    asking, [questions[at] for at in places], [said[at] for at in places]
                ).items()
            }
            for group, places in groups.items()
        }
    return found


def _notes(
    request: Request,
    located: Located,
    unknown: Sequence[str],
    scored: Mapping[str, Scores],
    benchmark: Benchmark,
) -> list[str]:
    notes = []
    if request.limit is not None:
        notes.append(
            f"Only the first {request.limit} questions of each language were scored (--limit): not comparable with"
            " other scores."
        )
    if located.missing:
        notes.append(
            f"{len(located.missing):,} pictures are missing, and {located.left_out:,} questions were left out of the"
            " score (--skip-missing): not comparable with other scores."
        )
    if unknown:
        notes.append(f"Languages that have no name here were left out: {', '.join(unknown)}.")
    if request.changes:
        changed = ", ".join(f"{key} {value}" for key, value in request.changes.items())
        notes.append(
            f"Generation departs from the protocol ({changed}): not comparable with published scores."
        )
    if benchmark.score is None:
        notes.append("These answers are graded by a judge: see `polylens judge`.")
    remarks = dict.fromkeys(note for scores in scored.values() for note in scores.notes)
    return [*notes, *remarks]


def _settings(
    asking: Asking,
    request: Request,
    items: Sequence[Item],
    scored: Mapping[str, Scores],
    generation: Generation,
    translator: str,
) -> dict[str, Any]:
    protocol = asking.protocol
    files = sorted({str(item.sample.extra["file"]) for item in items if "file" in item.sample.extra})
    scoring: dict[str, Any] = {}
    for code, scores in scored.items():
        for name, value in scores.settings.items():
            scoring.setdefault(name, {}).setdefault(str(value), []).append(code)
    return {
        "benchmark": asking.benchmark.name,
        "data": str(request.data or "packaged"),
        "files": files,
        "images": [str(folder) for folder in request.images],
        "questions_sha256": sha256_questions(items),
        "languages": request.languages,
        "limit": request.limit,
        "skip_missing": request.skip_missing,
        "protocol": protocol.name,
        "prompt": items[0].sample.turns[-1].prompt,
        "answers": "likeliest label" if request.likelihood else "generated",
        "generation": asdict(generation),
        "labels_cleaned": protocol.clean_labels,
        "labels_strict": protocol.strict,
        "scoring": scoring,
        "baselines": list(request.baselines),
        "translator": translator,
        "model": dict(asking.predictor.settings),
    }


def _write_items(out: Path, questions: Sequence[Question], scored: Mapping[str, Scores]) -> None:
    """items.jsonl: every measure that has a value per question, for comparisons."""
    rows = []
    for code, places in _by(questions, lambda question: question.language).items():
        columns = scored[code].items if code in scored else {}
        for row, at in enumerate(places):
            names = [picture_name(name) for name in questions[at].images]
            values = {measure: column[row] for measure, column in columns.items()}
            rows.append(ScoredItem(questions[at].id, code, names, values))
    write_items(out, rows)


def _examples(
    questions: Sequence[Question], items: Sequence[Item], said: Sequence[str], scored: Mapping[str, Scores]
) -> list[Example]:
    """The best and worst answers by the main measure, where it has a value per question."""
    name = next(
        (name for scores in scored.values() for name in scores.measures if name in scores.items), None
    )
    if name is None:
        return []
    values: dict[str, float] = {}
    for code, places in _by(questions, lambda question: question.language).items():
        values |= {questions[at].id: scored[code].items[name][row] for row, at in enumerate(places)}
    # Shown by the language of the questions: answers to xGQA are all English.
    shown = [
        replace(item, sample=replace(item.sample, language=question.language))
        for question, item in zip(questions, items, strict=True)
    ]
    return best_and_worst(shown, said, values, METRICS.get(name) or Metric(name=name, label=name))


def _by(questions: Sequence[Question], key: Callable[[Question], str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        places.setdefault(key(question), []).append(place)
    return places
