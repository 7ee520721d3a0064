"""Tasks out of plain samples: the prompt around them, and for yes-or-no tasks what is asked about.

    ("", "Ein Hund.")  --caption-->  ("Caption in German: ", "Ein Hund.")
                       --matching--> ('Does "Eine Katze." describe the image? ...', "no")

All that is random in a sample follows from the seed and the sample's id, whatever else is built.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from polylens.data.neighbours import read_neighbours
from polylens.data.prompts import DEFAULT, own_templates, read_templates
from polylens.data.sample import Sample, Turn
from polylens.data.sentences import num_sentences
from polylens.data.spec import Build
from polylens.data.translation.texts import UNCONFIRMED
from polylens.errors import UserError
from polylens.text import bare

Read = Callable[[], Iterable[Sample]]
YES, NO = "yes", "no"
ENGLISH = "en"
# Where another one is drawn at random, so many may be unfit before none is taken to exist.
TRIES = 50


def build(spec: Build, read: Read, seed: int) -> Iterator[Sample]:
    """The samples of a task out of plain ones; `read()` gives those anew each time.

    Raises `UserError` for samples that the task cannot be made of.
    """
    ask = Asker(spec, seed)
    if spec.task in ("matching", "verification"):
        yield from _pairs(spec, ask, read, seed)
        return
    make: Callable[[Sample, random.Random], Iterable[Sample]] = {
        "caption": partial(_answered, ask),
        "classification": partial(_answered, ask),
        "vqa": partial(_vqa, ask),
        "vqg": partial(_vqg, ask),
        "explanation": partial(_reasoned, ask),
        "chain_of_thought": partial(_reasoned, ask),
        "instruction": partial(_instructions, ask),
        "entailment": partial(_judged, ask, "hypothesis"),
        "reasoning": partial(_judged, ask, "statement"),
    }[spec.task]
    for sample in read():
        yield from make(sample, ask.rng(sample))


class Asker:
    """Puts prompts around the samples of one task: translated ones in their share, else English ones."""

    def __init__(self, spec: Build, seed: int):
        self.spec, self._seed = spec, seed
        self._english = own_templates(spec.task, spec.prompts) if spec.prompts else DEFAULT
        self._prompts = read_templates(spec.templates) if spec.templates else DEFAULT

    def rng(self, sample: Sample) -> random.Random:
        return random.Random(f"{self._seed}/{self.spec.task}/{sample.source}/{sample.id}/{sample.language}")

    def turn(
        self, answer: str, code: str, rng: random.Random, /, about: str | None = None, **values: str
    ) -> Turn:
        """A prompt that asks for an answer in `code`; translated prompts are in the language `about`, else `code`."""
        own = about or code
        has_own = own in self._prompts.translated.get(self.spec.task, {})
        if has_own and rng.random() < self.spec.translated:
            return Turn(self._prompts.prompt(self.spec.task, own, rng, answer_in=code, **values), answer)
        return Turn(self._english.prompt(self.spec.task, code, rng, **values), answer)


def _built(sample: Sample, turn: Turn, task: str, **changes: Any) -> Sample:
    return replace(sample, turns=(turn,), task=task, **changes)


def _answered(ask: Asker, sample: Sample, rng: random.Random) -> Iterator[Sample]:
    """Captions and labels: the prompt names the language, the answer is as it is."""
    answer = _only_turn(sample).answer
    yield _built(sample, ask.turn(answer, sample.language, rng), ask.spec.task)


def _vqa(ask: Asker, sample: Sample, rng: random.Random) -> Iterator[Sample]:
    turn = _only_turn(sample)
    answer, code = _answer(ask, sample, rng)
    asked = ask.turn(answer, code, rng, about=sample.language, question=turn.prompt)
    yield _built(sample, asked, ask.spec.task, language=code)


def _vqg(ask: Asker, sample: Sample, rng: random.Random) -> Iterator[Sample]:
    question = _only_turn(sample).prompt
    answer, _ = _answer(ask, sample, rng)
    yield _built(sample, ask.turn(question, sample.language, rng, answer=answer), ask.spec.task)


def _answer(ask: Asker, sample: Sample, rng: random.Random) -> tuple[str, str]:
    """(answer, its language): of a translated sample, in its share, the English one that it was made of.

    So is one whose translation was checked and not confirmed.
    """
    draw = rng.random()
    original = sample.extra.get("original")
    doubtful = bool(sample.extra.get(UNCONFIRMED))
    if original and original.get("language") == ENGLISH and (doubtful or draw < ask.spec.english_answers):
        return original["turns"][0][1], ENGLISH
    return _only_turn(sample).answer, sample.language


def _reasoned(ask: Asker, sample: Sample, rng: random.Random) -> Iterator[Sample]:
    """The answer and then its reason, or first the reason: one sample for every reason, in English as published."""
    turn = _only_turn(sample)
    reasons = sample.extra.get("rationales")
    if not reasons or sample.language != ENGLISH:
        raise UserError(
            f"Sample '{sample.id}' of {sample.source} cannot become '{ask.spec.task}': English samples with "
            "'rationales' are needed, as the source 'aokvqa' gives them."
        )
    for number, written in enumerate(reasons, start=1):
        reason = written.strip().rstrip(".")
        reason = reason[:1].upper() + reason[1:]
        if ask.spec.task == "explanation":
            answer = f"{turn.answer}. {reason}."
        else:
            answer = f"{reason}. So the answer is {turn.answer}."
        asked = ask.turn(answer, ENGLISH, rng, question=turn.prompt)
        yield _built(sample, asked, ask.spec.task, id=f"{sample.id}/{number}")


def _judged(ask: Asker, field: str, sample: Sample, rng: random.Random) -> Iterator[Sample]:
    """A statement about the pictures and whether it is true, in English, whatever the statement is in."""
    turn = _only_turn(sample)
    about = sample.extra.get("question_language", sample.language)
    asked = ask.turn(turn.answer, ENGLISH, rng, about=about, **{field: turn.prompt})
    yield _built(sample, asked, ask.spec.task, language=ENGLISH)


def _instructions(ask: Asker, sample: Sample, rng: random.Random) -> Iterator[Sample]:
    """One sample for every turn whose answer is short enough, if that is asked for."""
    most = ask.spec.max_sentences
    # A translated answer is as long as the one that it was made of: sentences are told best in English.
    originals = (sample.extra.get("original") or {}).get("turns") or [("", t.answer) for t in sample.turns]
    for number, (turn, (_, counted)) in enumerate(zip(sample.turns, originals, strict=True), start=1):
        if most is None or num_sentences(counted) <= most:
            asked = ask.turn(turn.answer, sample.language, rng, question=turn.prompt)
            yield _built(sample, asked, ask.spec.task, id=f"{sample.id}/{number}")


def _only_turn(sample: Sample) -> Turn:
    if len(sample.turns) != 1:
        raise UserError(
            f"Sample '{sample.id}' of {sample.source} has {len(sample.turns)} turns, and one was expected: build "
            "'instruction' out of conversations."
        )
    return sample.turns[0]


def _pairs(spec: Build, ask: Asker, read: Read, seed: int) -> Iterator[Sample]:
    """Yes-or-no samples. Those that are pairs already (made before translation) only get their prompt."""
    field, about = ("caption", "image") if spec.task == "matching" else ("label", "class")
    others: Others | None = None
    for sample in read():
        rng = ask.rng(sample)
        turn = _only_turn(sample)
        if sample.task == spec.task:
            text, answer = turn.prompt, _english_answer(sample)
        else:
            if others is None:
                others = Others(spec, read(), about)
            no = rng.random() < spec.negatives
            text = others.draw(sample, rng) if no else turn.answer
            answer = NO if no else YES
        if spec.plain:
            yield _built(sample, Turn(text, answer), spec.task)
            continue
        asked = ask.turn(answer, ENGLISH, rng, about=sample.language, **{field: text})
        yield _built(sample, asked, spec.task, language=ENGLISH)


def _english_answer(sample: Sample) -> str:
    """Yes or no of a pair; a translated one keeps it in what it was made of."""
    original = sample.extra.get("original")
    answer = original["turns"][0][1] if original else sample.turns[0].answer
    if answer not in (YES, NO):
        raise UserError(
            f"Sample '{sample.id}' of {sample.source} is answered '{answer}', neither yes nor no."
        )
    return answer


class Others:
    """What else could be asked about a picture: captions of other pictures, labels of other classes."""

    def __init__(self, spec: Build, samples: Iterable[Sample], about: str):
        self._spec, self._about = spec, about
        self._near = read_neighbours(spec.neighbours) if spec.neighbours else None
        # Texts of each picture or class, by language: a negative is in the language of what it replaces.
        # Texts that are the same but for case, Unicode form and final punctuation (`bare`) are one.
        self._texts: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        for sample in samples:
            text = _only_turn(sample).answer
            self._texts[sample.language][self._name(sample)].setdefault(bare(text), text)
        self._names = {code: list(names) for code, names in self._texts.items()}

    def draw(self, sample: Sample, rng: random.Random) -> str:
        """The text of another one, a neighbour in the spec's share where neighbours are given.

        Raises `UserError` when the neighbours do not know the sample, or there is no other text.
        """
        mine, texts = self._name(sample), self._texts[sample.language]
        own = texts[mine].keys()
        if self._near is not None and rng.random() < self._spec.hard:
            if mine not in self._near:
                raise UserError(
                    f"'{self._spec.neighbours}' does not know {self._about} '{mine}' of {sample.source}: "
                    "make the file anew for these samples."
                )
            near = [
                text
                for name in self._near[mine]
                if name in texts
                for key, text in texts[name].items()
                if key not in own
            ]
            if near:
                return rng.choice(near)
            if self._spec.task == "matching":
                raise UserError(
                    f"No neighbour of {self._about} '{mine}' has a caption in '{sample.language}': make the pairs "
                    "of untranslated captions with 'plain: true', and translate those."
                )
            # Neighbouring classes may have no name in this language; any other class is then as near as can be.
        names = self._names[sample.language]
        for _ in range(TRIES):
            key, text = rng.choice(list(texts[rng.choice(names)].items()))
            if key not in own:
                return text
        raise UserError(
            f"Sample '{sample.id}' of {sample.source} has no negative in '{sample.language}': more than one "
            f"{self._about} with another text is needed."
        )

    def _name(self, sample: Sample) -> str:
        name = sample.extra.get(self._about)
        if not isinstance(name, str):
            raise UserError(
                f"Sample '{sample.id}' of {sample.source} cannot become '{self._spec.task}': its 'extra' names no "
                f"'{self._about}'."
            )
        return name
