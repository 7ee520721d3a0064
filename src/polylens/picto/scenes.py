"""Scenes: pictures of one to three pictograms, captioned with a list of their names.

    cat, tree        de  Katze, Baum        ja  猫、木

A scene is a pure function of its split, seed and number: which pictograms, where, how large, on which ground. Two or
three lie in the cells of a 2 x 2 grid and are listed in reading order. A tenth of all pairs of concepts, chosen by
hash, never stand together in training: about 10^5 pairs that no model can have memorised.

    train        trained drawings, no unseen pair
    validation   the drawings in Noto and OpenMoji that training never shows
    seen         pairs of training scenes, in another style
    unseen       pairs of the tenth that training never shows, in that style
    triples      three concepts, no unseen pair, in that style
    heldout      pairs of concepts outside of image training, in that style
"""

import hashlib
import io
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from polylens.data.sample import Sample, Turn
from polylens.errors import UserError
from polylens.languages import parse_languages
from polylens.picto.lists import joined
from polylens.picto.prompts import prompt
from polylens.picto.world import DEVELOPMENT_STYLE, LANGUAGES, STYLES, Concept, annotations, concepts

SPLITS = ("train", "validation", "seen", "unseen", "triples", "heldout")
SIDE = 64  # pixels of a scene, which is what the packaged encoder takes
CELL = SIDE // 2
SINGLE_SIDES = (40, 64)
SIDES = (26, 34)
JITTER = 4
# Of ten training scenes, how many show one, two and three pictograms: few, while the decoder cannot write lists.
SIZES = (1, 1, 1, 1, 1, 1, 1, 2, 2, 3)
UNSEEN_SHARE = 0.1
WHITE_SHARE = 0.5
DARKEST_GROUND = 160
# Changes whenever a scene of the same number would have other pixels, so that no cache of older ones is read.
VERSION = 1


@dataclass(frozen=True)
class Placed:
    """One pictogram of a scene: its drawing, its left and upper edge and its side in pixels."""

    concept: Concept
    style: str
    left: int
    top: int
    side: int


@dataclass(frozen=True)
class Scene:
    """A 64 x 64 picture composed of pictograms; see `Picture` in data/sample.py."""

    placed: tuple[Placed, ...]
    ground: tuple[int, int, int]

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """What it shows, in reading order."""
        return tuple(one.concept for one in self.placed)

    @property
    def key(self) -> str:
        placed = "+".join(f"{p.concept.id}/{p.style}@{p.left},{p.top},{p.side}" for p in self.placed)
        return f"scene-{VERSION}:{placed}:{bytes(self.ground).hex()}"

    def load(self) -> Image.Image:
        canvas = Image.new("RGBA", (SIDE, SIDE), (*self.ground, 255))
        for one in self.placed:
            drawing = _drawing(one.concept, one.style)
            if one.side != drawing.width:
                drawing = drawing.resize((one.side, one.side), Image.Resampling.LANCZOS)
            canvas.alpha_composite(drawing, (one.left, one.top))
        return canvas.convert("RGB")

    def name(self, code: str) -> str:
        """The list of its pictograms' names, which must all have one in that language."""
        return joined([concept.name(code) or "" for concept in self.concepts], code)


def samples(
    *,
    languages: Sequence[str] | None = None,
    split: str = "train",
    num_scenes: int = 1000,
    languages_per_scene: int | None = None,
    style: str = DEVELOPMENT_STYLE,
    seed: int = 0,
) -> list[Sample]:
    """The source `picto-scenes`: captions of scenes, one for each scene and language in which all names exist.

    With `languages_per_scene` each scene is captioned in that many of the languages, drawn by chance. `style` is
    what the test splits are drawn in. Raises `UserError` for a split, style or language that Picto does not have.
    """
    if languages_per_scene is not None and languages_per_scene < 1:
        raise UserError(f"languages_per_scene is {languages_per_scene}: it must be 1 or more.")
    codes = parse_languages(",".join(languages), annotations()) if languages else list(LANGUAGES)
    found = []
    for number, scene in enumerate(scenes(split, num_scenes, style=style, seed=seed)):
        named = [code for code in codes if all(concept.name(code) for concept in scene.concepts)]
        if languages_per_scene is not None:
            rng = random.Random(f"{seed}/{split}/{number}/languages")
            named = rng.sample(named, min(languages_per_scene, len(named)))
        found += [captioned(scene, code, f"{split}-{seed}-{number}") for code in named]
    return found


def captioned(scene: Scene, code: str, name: str = "scene") -> Sample:
    """The captioning sample of a scene."""
    return Sample(
        id=f"{name}/{code}",
        images=(scene,),
        turns=(Turn(prompt(code), scene.name(code)),),
        language=code,
        task="caption",
        source="picto-scenes",
        extra={"concepts": [concept.id for concept in scene.concepts], "style": scene.placed[0].style},
    )


def scenes(split: str, count: int, *, style: str = DEVELOPMENT_STYLE, seed: int = 0) -> list[Scene]:
    """The first `count` scenes of a split; more of them begin with the same ones.

    Raises `UserError` for a split or style that there is none of.
    """
    if split not in SPLITS:
        raise UserError(f"Picto has no scenes '{split}': choose one of {', '.join(SPLITS)}.")
    if style not in STYLES:
        raise UserError(f"Picto has no style '{style}': choose one of {', '.join(STYLES)}.")
    made = _drawn(split, style, seed)
    return list(itertools.islice(made, count))


def single(concept: Concept, style: str) -> Scene:
    """One pictogram as it is drawn, on white."""
    return Scene((Placed(concept, style, 0, 0, SIDE),), (255, 255, 255))


def is_unseen(first: Concept, second: Concept) -> bool:
    """Whether training never shows these two together."""
    pair = "+".join(sorted((first.id, second.id)))
    digest = hashlib.sha256(f"pair {pair}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < UNSEEN_SHARE


def _drawn(split: str, style: str, seed: int) -> Iterator[Scene]:
    for number in itertools.count():
        rng = random.Random(f"scene/{split}/{seed}/{number}")
        if split == "train":
            size = SIZES[number % len(SIZES)]
            shown = _together(_trained(), size, rng)
            drawn = [(concept, rng.choice(concept.trained_styles())) for concept in shown]
        elif split == "validation":
            shown = _together(_validated(), 1 + number % 3, rng)
            drawn = [(concept, concept.validation_style() or "") for concept in shown]
        elif split == "seen":
            # The pair of a training scene, of those whose names and drawings can be tested.
            drawn = [(concept, style) for concept in _seen_pair(number, style, seed)]
        else:
            size = 3 if split == "triples" else 2
            shown = _together(_tested(style, split == "heldout"), size, rng, unseen=split == "unseen")
            drawn = [(concept, style) for concept in shown]
        yield _placed(drawn, rng)


def _placed(drawn: Sequence[tuple[Concept, str]], rng: random.Random) -> Scene:
    if len(drawn) == 1:
        side = rng.randint(*SINGLE_SIDES)
        corners = [(rng.randint(0, SIDE - side), rng.randint(0, SIDE - side), side)]
    else:
        corners = []
        for cell in sorted(rng.sample(range(4), len(drawn))):
            side = rng.randint(*SIDES)
            row, column = divmod(cell, 2)
            left, top = (
                min(max(at * CELL + (CELL - side) // 2 + rng.randint(-JITTER, JITTER), 0), SIDE - side)
                for at in (column, row)
            )
            corners.append((left, top, side))
    white = rng.random() < WHITE_SHARE
    red, green, blue = (255 if white else rng.randint(DARKEST_GROUND, 255) for _ in range(3))
    placed = [Placed(*one, *corner) for one, corner in zip(drawn, corners, strict=True)]
    return Scene(tuple(placed), (red, green, blue))


def _together(
    pool: Sequence[Concept], size: int, rng: random.Random, *, unseen: bool = False
) -> list[Concept]:
    """Concepts of which every two may be shown together, or, with `unseen`, none."""
    while True:
        shown = rng.sample(pool, size)
        if all(is_unseen(*pair) == unseen for pair in itertools.combinations(shown, 2)):
            return shown


def _seen_pair(number: int, style: str, seed: int) -> tuple[Concept, ...]:
    """The pair of the training scene of that place among those of two testable concepts."""
    pairs = _seen_pairs(style, seed)
    while len(pairs.found) <= number:
        pairs.look_further()
    return pairs.found[number]


class _SeenPairs:
    """Pairs of training scenes, found one after another."""

    def __init__(self, style: str, seed: int):
        self.found: list[tuple[Concept, ...]] = []
        self._tested = set(_tested(style, False))
        self._scenes = _drawn("train", style, seed)

    def look_further(self) -> None:
        shown = next(self._scenes).concepts
        if len(shown) == 2 and self._tested.issuperset(shown):
            self.found.append(shown)


@cache
def _seen_pairs(style: str, seed: int) -> _SeenPairs:
    return _SeenPairs(style, seed)


@cache
def _trained() -> tuple[Concept, ...]:
    return tuple(concept for concept in concepts() if concept.trained_styles())


@cache
def _validated() -> tuple[Concept, ...]:
    return tuple(c for c in concepts() if c.validation_style() and c.scored and _named_by_all(c))


@cache
def _tested(style: str, heldout: bool) -> tuple[Concept, ...]:
    return tuple(
        concept
        for concept in concepts()
        if concept.scored
        and concept.drawn_in(style)
        and _named_by_all(concept)
        and bool(concept.trained_styles()) != heldout
    )


def _named_by_all(concept: Concept) -> bool:
    return all(concept.name(code) for code in LANGUAGES)


@cache
def _drawing(concept: Concept, style: str) -> Image.Image:
    return Image.open(io.BytesIO(concept.picture(style).read())).convert("RGBA")
