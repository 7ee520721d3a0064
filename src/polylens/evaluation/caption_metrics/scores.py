"""BLEU-1 to 4, ROUGE-L, CIDEr-D and plain CIDEr, in pycocoevalcap's definitions and on its scale.

BLEU: Papineni et al., 2002, over the corpus, closest reference length. ROUGE-L: Lin, 2004, beta 1.2, the best
precision and recall of the references. CIDEr: Vedantam et al., 2015; what pycocoevalcap and papers call CIDEr
is CIDEr-D: n-gram counts clipped to the reference's, and a Gaussian penalty on the difference in length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polylens.errors import UserError
from polylens.evaluation.bootstrap import Floats, Score, bootstrap_all
from polylens.evaluation.caption_metrics.ngrams import MAX_ORDER, Ints, NgramCounts, ngram_counts
from polylens.evaluation.caption_metrics.segmentation import caption_tokenizer

ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
CIDER_SCALE = 10.0
# pycocoevalcap's guards against empty captions, which show in the sixth digit of small sets.
BLEU_TINY, BLEU_SMALL = 1e-15, 1e-9
# CIDEr's document frequencies come from the scored set itself; below this many images they say little.
FEW_IMAGES = 500


@dataclass(frozen=True)
class CaptionScores:
    """Scores over `n` images: BLEU and ROUGE-L 0-1, both CIDErs 0-10 (papers print 100 times the value).

    `cider` is CIDEr-D. `items` holds the values (n,) of "rouge_l", "cider" and "cider_plain", for pairing.
    """

    bleu: tuple[Score, Score, Score, Score]
    rouge_l: Score
    cider: Score
    cider_plain: Score
    n: int
    language: str
    protocol: str
    segmenter: str
    tokenizer: str
    notes: tuple[str, ...]
    items: dict[str, Floats]


def caption_scores(
    candidates: Sequence[str],
    references: Sequence[str | Sequence[str]],
    language: str = "en",
    protocol: str = "polylens",
    *,
    seed: int = 0,
) -> CaptionScores:
    """Score one candidate per image against its references, which may differ in number; none may be missing.

    Raises `UserError` when there are no images, numbers do not fit, or a library for the language is missing.
    """
    if len(candidates) != len(references):
        raise UserError(
            f"{len(candidates)} captions and references of {len(references)} images: give one each."
        )
    texts = [[one] if isinstance(one, str) else list(one) for one in references]
    empty = next((i for i, several in enumerate(texts) if not several), None)
    if empty is not None:
        raise UserError(f"Image {empty} has no reference caption: give at least one, or leave it out.")
    if not texts:
        raise UserError("There is nothing to score: 0 captions are left; check data, language and limit.")
    tokenizer = caption_tokenizer(language, protocol)
    predicted = [tokenizer(caption) for caption in candidates]
    referred = [[tokenizer(caption) for caption in several] for several in texts]
    items = {"rouge_l": rouge_l(predicted, referred)}
    bleu_counts, items["cider"], items["cider_plain"] = _ngram_scores(predicted, referred)
    scores = _bootstrapped(bleu_counts, items, seed)
    notes = []
    if len(texts) < FEW_IMAGES:
        notes.append(
            f"CIDEr weighs words by how rare they are among the {len(texts)} images scored here"
            f"{', which makes it 0 on one image' if len(texts) == 1 else ''}: compare equal sets only."
        )
    return CaptionScores(
        bleu=(scores["bleu_1"], scores["bleu_2"], scores["bleu_3"], scores["bleu_4"]),
        rouge_l=scores["rouge_l"],
        cider=scores["cider"],
        cider_plain=scores["cider_plain"],
        n=len(texts),
        language=language,
        protocol=protocol,
        segmenter=tokenizer.segmenter,
        tokenizer=tokenizer.tokenizer,
        notes=tuple(notes),
        items=items,
    )


def _bootstrapped(bleu_counts: Floats, items: dict[str, Floats], seed: int) -> dict[str, Score]:
    """All scores from the same resamples of images."""
    num_items, num_counts = bleu_counts.shape
    statistics = np.column_stack([bleu_counts, *items.values(), np.ones(num_items)])

    def bleu(order: int) -> Callable[[Floats], Floats]:
        return lambda sums: bleu_from_counts(sums[:, :num_counts])[:, order]

    def mean(place: int) -> Callable[[Floats], Floats]:
        return lambda sums: sums[:, place] / sums[:, -1]

    scores = {f"bleu_{order + 1}": bleu(order) for order in range(MAX_ORDER)}
    scores |= {name: mean(place) for place, name in enumerate(items, start=num_counts)}
    return bootstrap_all(statistics, scores, seed=seed)


def rouge_l(predicted: Sequence[list[str]], referred: Sequence[list[list[str]]]) -> Floats:
    """ROUGE-L of every image, (n,)."""
    return np.array([_rouge_l(tokens, several) for tokens, several in zip(predicted, referred, strict=True)])


def bleu_from_counts(counts_RK: Floats) -> Floats:
    """BLEU-1 to 4, (R, 4), of sums (R, 10): matches and n-grams per order, length, reference length."""
    matches, ngrams = counts_RK[:, :MAX_ORDER], counts_RK[:, MAX_ORDER : 2 * MAX_ORDER]
    length, reference_length = counts_RK[:, 2 * MAX_ORDER], counts_RK[:, 2 * MAX_ORDER + 1]
    orders = np.arange(1, MAX_ORDER + 1)
    precision = np.cumprod((matches + BLEU_TINY) / (ngrams + BLEU_SMALL), axis=1) ** (1 / orders)
    ratio = (length + BLEU_TINY) / (reference_length + BLEU_SMALL)
    # A prediction without words has ratio 1e-15 or so, whose penalty is 0 without computing it.
    penalty = np.where(ratio < 1, np.exp(1 - 1 / np.maximum(ratio, 1e-3)), 1.0)
    return precision * penalty[:, None]


def _rouge_l(tokens: list[str], several: list[list[str]]) -> float:
    # As there, a caption without tokens counts as one empty token, equal to another such.
    tokens = tokens or [""]
    places: dict[str, int] = {}
    for i, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << i
    precision = recall = 0.0
    for reference in several:
        common = _common_subsequence(places, len(tokens), reference or [""])
        precision = max(precision, common / len(tokens))
        recall = max(recall, common / len(reference or [""]))
    if not common and not precision:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def _common_subsequence(places: dict[str, int], length: int, reference: list[str]) -> int:
    """Length of the longest common subsequence, a table row in the bits of one number (Hyyrö, 2004)."""
    full = row = (1 << length) - 1
    for token in reference:
        matching = row & places.get(token, 0)
        row = ((row + matching) | (row - matching)) & full
    return length - row.bit_count()


def _ngram_scores(
    predicted: list[list[str]], referred: list[list[list[str]]]
) -> tuple[Floats, Floats, Floats]:
    """BLEU's counts (n, 10), CIDEr-D (n,) and plain CIDEr (n,)."""
    num_items = len(predicted)
    # n-grams are of words: the no-break space inside a token ("3 1/2") separates two, as it does there.
    captions = [_words(tokens) for tokens in predicted]
    captions += [_words(tokens) for several in referred for tokens in several]
    num_references = np.array([len(several) for several in referred])
    item_of_reference = np.repeat(np.arange(num_items), num_references)
    lengths = np.array([len(caption) for caption in captions])
    own, theirs = lengths[:num_items], lengths[num_items:]

    bleu_counts = np.zeros((num_items, 2 * MAX_ORDER + 2))
    bleu_counts[:, 2 * MAX_ORDER] = own
    bleu_counts[:, 2 * MAX_ORDER + 1] = _closest(own, theirs, num_references)
    # There, the length of a caption is its number of bigrams, so that no word is as long as one.
    difference = np.maximum(own[item_of_reference] - 1, 0) - np.maximum(theirs - 1, 0)
    length_penalty = np.exp(-(difference.astype(np.float64) ** 2) / (2 * CIDER_SIGMA**2))
    clipped, plain = np.zeros(len(theirs)), np.zeros(len(theirs))
    for order, counts in enumerate(ngram_counts(captions)):
        bleu_counts[:, order] = _matches(counts, num_items, item_of_reference)
        bleu_counts[:, MAX_ORDER + order] = np.maximum(own - order, 0)
        clipped_order, plain_order = _similarities(counts, num_items, item_of_reference)
        clipped += clipped_order / MAX_ORDER
        plain += plain_order / MAX_ORDER

    def mean_of_references(values: Floats) -> Floats:
        return CIDER_SCALE * np.bincount(item_of_reference, values, num_items) / num_references

    return bleu_counts, mean_of_references(clipped * length_penalty), mean_of_references(plain)


def _words(tokens: list[str]) -> list[str]:
    return " ".join(tokens).split()


def _closest(own: Ints, theirs: Ints, num_references: Ints) -> Ints:
    """Per item, the reference length nearest to its own; of two as near the shorter."""
    closest, start = np.empty(len(own), np.int64), 0
    for i, (length, number) in enumerate(zip(own.tolist(), num_references.tolist(), strict=True)):
        closest[i] = min(
            theirs[start : start + number].tolist(), key=lambda other: (abs(other - length), other)
        )
        start += number
    return closest


def _matches(counts: NgramCounts, num_items: int, item_of_reference: Ints) -> Floats:
    """Per item, how many of its n-grams its references have, each as often as in the richest one: (n,)."""
    split = np.searchsorted(counts.caption, num_items)
    item = item_of_reference[counts.caption[split:] - num_items]
    keys = item * counts.num_grams + counts.gram[split:]
    most_keys, group = np.unique(keys, return_inverse=True)
    most = np.zeros(len(most_keys), np.int64)
    np.maximum.at(most, group, counts.count[split:])
    own_keys = counts.caption[:split] * counts.num_grams + counts.gram[:split]
    found = np.minimum(counts.count[:split], _look_up(own_keys, most_keys, most))
    return np.bincount(counts.caption[:split], found, num_items).astype(np.float64)


def _similarities(counts: NgramCounts, num_items: int, item_of_reference: Ints) -> tuple[Floats, Floats]:
    """Cosines of each reference's tf-idf vector and its candidate's, clipped (CIDEr-D) and plain: (R,)."""
    split = np.searchsorted(counts.caption, num_items)
    reference = counts.caption[split:] - num_items
    item = item_of_reference[reference]
    in_item = np.unique(item * counts.num_grams + counts.gram[split:])
    documents = np.bincount(in_item % counts.num_grams, minlength=counts.num_grams)
    rarity = np.log(num_items) - np.log(np.maximum(documents, 1))

    weight = counts.count * rarity[counts.gram]
    own, theirs = weight[:split], weight[split:]
    own_norm = np.sqrt(np.bincount(counts.caption[:split], own**2, num_items))
    their_norm = np.sqrt(np.bincount(reference, theirs**2, len(item_of_reference)))
    own_keys = counts.caption[:split] * counts.num_grams + counts.gram[:split]
    meeting = _look_up(item * counts.num_grams + counts.gram[split:], own_keys, own)

    norms = own_norm[item_of_reference] * their_norm
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0.0)
    clipped = np.bincount(reference, np.minimum(meeting, theirs) * theirs, len(item_of_reference))
    plain = np.bincount(reference, meeting * theirs, len(item_of_reference))
    return (clipped * inverse).astype(np.float64), (plain * inverse).astype(np.float64)


def _look_up(keys: Ints, sorted_keys: Ints, values: np.ndarray) -> np.ndarray:
    """The value of each key, 0 where `sorted_keys` has it not."""
    if len(sorted_keys) == 0:
        return np.zeros(len(keys), values.dtype)
    place = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.where(sorted_keys[place] == keys, values[place], np.zeros(1, values.dtype))
