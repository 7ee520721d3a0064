"""Translates samples: the plan, the cache, the engine and the gate put together.

    samples --plan--> (sample, language)  --texts, pieces-->  sentences, each once
                                                                  | not in the cache
                                                                  v
    samples.jsonl <--gate-- translated samples <--pieces-- cache <-- engine, batches by length
    rejects.jsonl <--'

Work goes in portions, so that memory does not grow with the data. Whatever the engine gave is in the cache
before anything is made of it: a run that was killed translates nothing again.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from polylens.data.language_plan import assign
from polylens.data.readers.jsonl import dump_row, sample_to_row
from polylens.data.sample import Sample
from polylens.data.translation.cache import TranslationCache
from polylens.data.translation.engine import Engine
from polylens.data.translation.gate import judge
from polylens.data.translation.pieces import join
from polylens.data.translation.texts import (
    TASKS,
    UNCONFIRMED,
    Part,
    Role,
    Texts,
    parts_of,
    texts_of,
    translated,
)
from polylens.errors import UserError
from polylens.files import json_text, make_writable_folder, write_atomic
from polylens.text import bare

SAMPLES = "samples.jsonl"
REJECTS = Path("rejects") / "rejects.jsonl"
SUMMARY = "summary.json"
PORTION = 50_000
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Texts of one pair of languages, of about one length."""

    source: str
    target: str
    texts: list[str]


Translate = Callable[[Iterable[Batch]], Iterable[tuple[Batch, list[str | None]]]]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Job:
    """One sample in one language; `target` is its own language where it stays as it is."""

    sample: Sample
    target: str


@dataclass
class Counts:
    """What became of the samples of one language; `unidentified` and `unconfirmed` ones are among the accepted."""

    accepted: int = 0
    rejected: int = 0
    unchanged: int = 0
    unidentified: int = 0
    unconfirmed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "rejected": self.rejected,
            "unchanged": self.unchanged,
            "unidentified": self.unidentified,
            "reasons": dict(self.reasons.most_common()),
            **({"unconfirmed": self.unconfirmed} if self.unconfirmed else {}),
        }


@dataclass
class Plan:
    """Which languages each sample gets: all of `languages`, or with `shares` one, by them.

    `shares` hold within each source and task.
    """

    languages: list[str]
    shares: Mapping[str, float] | None = None
    seed: int = 0
    tasks: Mapping[str, Texts] = field(default_factory=lambda: TASKS)
    sources: set[str] = field(default_factory=set, init=False)
    _given: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict, init=False)

    def prepare(self, samples: Iterable[Sample]) -> dict[str, int]:
        """Look at all samples once; returns {language: number of samples it will have}.

        Raises `UserError` for a task that is not known.
        """
        ids: dict[tuple[str, str], list[str]] = defaultdict(list)
        total: Counter[str] = Counter()
        for sample in samples:
            if not any(texts_of(sample, self.tasks)[:2]):
                total[sample.language] += 1
                continue
            self.sources.add(sample.language)
            ids[sample.source, sample.task].append(sample.id)
            if self.shares is None:
                total.update(self.languages)
        if self.shares is not None:
            for group, names in ids.items():
                languages = assign(names, self.shares, self.seed)
                self._given[group] = dict(zip(names, languages, strict=True))
                total.update(languages)
        return dict(total)

    def jobs(self, samples: Iterable[Sample]) -> Iterator[Job]:
        """What is to be done for the samples that were looked at, in their order."""
        for sample in samples:
            if not any(texts_of(sample, self.tasks)[:2]):
                yield Job(sample, sample.language)
            elif self.shares is not None:
                yield Job(sample, self._given[sample.source, sample.task][sample.id])
            else:
                yield from (Job(sample, code) for code in self.languages)


def translate_samples(
    read: Callable[[], Iterable[Sample]],
    plan: Plan,
    engine: Engine,
    cache: TranslationCache,
    out: str | Path,
    *,
    kept: Sequence[str] = (),
    check_labels: bool = False,
    batch_size: int = 64,
    translate: Translate | None = None,
    started: Callable[[dict[str, int]], None] = lambda totals: None,
    progress: Progress = lambda language, amount: None,
) -> dict[str, Counts]:
    """Translate what `read()` gives, each time anew, into `out`; returns counts by language.

    `out` gets `samples.jsonl` (what was accepted, and what stays as it is), `rejects/rejects.jsonl` (what was
    not, with the reasons) and `summary.json`. `kept` are words that are never translated. With `check_labels`, labels
    are translated back, and samples whose label comes back as another one say so in `extra`. `translate` runs
    batches elsewhere; `started` is told how many samples each language will have, `progress` of each share of
    them that is done. The result does not depend on batches, portions or workers. Raises `UserError` for
    samples that cannot be read, a language that the engine does not have, and places that cannot be written.
    """
    totals = plan.prepare(read())
    if not totals:
        raise UserError("There is nothing to translate: the input has no samples.")
    wanted = [code for code in (plan.shares or plan.languages) if plan.sources - {code}]
    for source in sorted(plan.sources):
        engine.check(source, [code for code in wanted if code != source])
        for code in wanted if check_labels else ():
            if code != source:
                engine.check(code, [source])
    started(totals)
    out = make_writable_folder(out)
    counts: dict[str, Counts] = defaultdict(Counts)
    run = translate or (lambda batches: ((batch, _translate(engine, batch)) for batch in batches))
    with _lines(out / SAMPLES) as accept, _lines(out / REJECTS) as reject:
        for jobs in _portions(plan.jobs(read()), PORTION):
            prepared = [
                (job, parts_of(job.sample, job.target, plan.tasks, kept, engine.exact))
                if job.target != job.sample.language
                else (job, [])
                for job in jobs
            ]
            known = _translations(prepared, cache, batch_size, run, progress)
            doubtful = (
                _unconfirmed(prepared, plan.tasks, known, cache, batch_size, run) if check_labels else set()
            )
            for job, parts in prepared:
                _finish(job, parts, known, engine, counts[job.target], out, accept, reject, doubtful)
    rows = {code: counts[code].row() for code in sorted(counts)}
    summary = {"engine": engine.fingerprint, "kept": sorted(kept), "languages": rows}
    write_atomic(out / SUMMARY, json_text(summary, indent=1) + "\n")
    return dict(counts)


Known = Mapping[tuple[str, str], Mapping[str, str | None]]


def _translations(
    prepared: Sequence[tuple[Job, list[Part]]],
    cache: TranslationCache,
    batch_size: int,
    run: Translate,
    progress: Progress,
) -> Known:
    """{(source, target): {sentence: translation}} of a portion, after adding to the cache what it lacks."""
    wanted: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    num_jobs: Counter[str] = Counter()
    for job, parts in prepared:
        num_jobs[job.target] += 1
        sentences = wanted[job.sample.language, job.target]
        sentences |= {piece.text: None for part in parts for piece in part.pieces if piece.open}
    known, batches = _looked_up(wanted, cache, batch_size)
    missing: Counter[str] = Counter()
    for batch in batches:
        missing[batch.target] += len(batch.texts)
    for code in num_jobs:
        if not missing[code]:
            progress(code, num_jobs[code])
    for batch in _run(batches, known, cache, run):
        progress(batch.target, num_jobs[batch.target] * len(batch.texts) / missing[batch.target])
    return known


def _looked_up(
    wanted: Mapping[tuple[str, str], Iterable[str]], cache: TranslationCache, batch_size: int
) -> tuple[dict[tuple[str, str], dict[str, str | None]], list[Batch]]:
    """What the cache knows of the wanted sentences of each pair of languages, and batches of the others."""
    known = {pair: cache.look_up(sentences, *pair) for pair, sentences in wanted.items()}
    batches: list[Batch] = []
    for (source, target), sentences in wanted.items():
        new = [text for text in sentences if text not in known[source, target]]
        # The longest first: what does not fit into memory shows at once.
        new.sort(key=lambda text: (-len(text), text))
        batches += [Batch(source, target, some) for some in _portions(new, batch_size)]
    return known, batches


def _run(
    batches: Sequence[Batch],
    known: dict[tuple[str, str], dict[str, str | None]],
    cache: TranslationCache,
    run: Translate,
) -> Iterator[Batch]:
    """Translate the batches into the cache and into `known`; yields each that is done."""
    for batch, results in run(batches):
        translations = dict(zip(batch.texts, results, strict=True))
        cache.add(translations, batch.source, batch.target)
        known[batch.source, batch.target] |= translations
        yield batch


def _unconfirmed(
    prepared: Sequence[tuple[Job, list[Part]]],
    tasks: Mapping[str, Texts],
    known: Known,
    cache: TranslationCache,
    batch_size: int,
    run: Translate,
) -> set[tuple[str, str, str]]:
    """(language, language it was translated into, label) of labels that come back as another text."""
    there: dict[tuple[str, str, str], str] = {}
    for job, parts in prepared:
        source, target = job.sample.language, job.target
        if target == source or not tasks[job.sample.task].label:
            continue
        for part in parts:
            text = join(part.pieces, known[source, target].get, target)
            if part.role == "answer" and text is not None and bare(text) != bare(part.text):
                there[source, target, part.text] = text
    wanted: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for (source, target, _), text in there.items():
        wanted[target, source][text] = None
    back, batches = _looked_up(wanted, cache, batch_size)
    for _ in _run(batches, back, cache, run):
        pass
    return {
        (source, target, label)
        for (source, target, label), text in there.items()
        # Translators add capitals and a full stop.
        if bare(back[target, source].get(text) or "") != bare(label)
    }


def _finish(
    job: Job,
    parts: Sequence[Part],
    known: Known,
    engine: Engine,
    counts: Counts,
    out: Path,
    accept: Callable[[str], None],
    reject: Callable[[str], None],
    doubtful: Collection[tuple[str, str, str]],
) -> None:
    """Put a sample together and write it where the gate says."""
    sample, target = job.sample, job.target
    if target == sample.language:
        counts.unchanged += 1
        accept(dump_row(sample_to_row(sample, out)))
        return
    sentences = known[sample.language, target]
    texts: dict[tuple[int, Role], str] = {}
    found: list[dict[str, Any]] = []
    identified = engine.exact
    for part in parts:
        text = join(part.pieces, sentences.get, target)
        reasons = ["unknown"] if text is None else []
        if text is not None and not engine.exact:
            reasons, in_language = judge(part.text, text, sample.language, target)
            identified = identified or in_language is True
        texts[part.turn, part.role] = text or ""
        if reasons:
            found.append(
                {"turn": part.turn + 1, "role": part.role, "reasons": reasons, "text": part.text}
                | {"translation": text}
            )
    if found:
        counts.rejected += 1
        counts.reasons.update({reason for fault in found for reason in fault["reasons"]})
        row = {"id": sample.id, "source": sample.source, "task": sample.task, "language": target}
        reject(dump_row(row | {"faults": found}))
        return
    counts.accepted += 1
    counts.unidentified += not identified
    made = translated(sample, target, lambda *key: texts.get(key))
    if any((sample.language, target, part.text) in doubtful for part in parts if part.role == "answer"):
        counts.unconfirmed += 1
        made = replace(made, extra=made.extra | {UNCONFIRMED: True})
    accept(dump_row(sample_to_row(made, out)))


def _translate(engine: Engine, batch: Batch) -> list[str | None]:
    return engine.translate(batch.texts, batch.source, batch.target)


def _portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while portion := list(islice(rest, size)):
        yield portion


@contextmanager
def _lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Writes lines to a file that appears whole at the end, or not at all."""
    temporary = make_writable_folder(path.parent) / f".{path.name}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:

            def write(line: str) -> None:
                file.write(line)

            yield write
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
