"""CIDEr-D and its companions on 100,000 captions: seconds and memory on one core, beside pycocoevalcap if installed.

python benchmarks/caption_metrics.py
python benchmarks/caption_metrics.py --captions 10000
"""

import argparse
import random
import resource
import time

from polylens.evaluation.caption_metrics import caption_scores
from polylens.evaluation.caption_metrics.scores import _ngram_scores
from polylens.evaluation.caption_metrics.segmentation import caption_tokenizer

SECONDS, GIGABYTES = 20.0, 2.0
WORDS = 12_000


def main() -> None:
    """Time tokens, CIDEr and everything apart; the targets are those of CIDEr on 100,000 captions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--references", type=int, default=2, help="of each caption; XM3600 has about two")
    options = parser.parse_args()
    said, references = made_up(options.captions, options.references)
    start = time.process_time()
    tokenizer = caption_tokenizer("en")
    predicted = [tokenizer(text) for text in said]
    referred = [[tokenizer(text) for text in several] for several in references]
    tokens = time.process_time() - start
    start = time.process_time()
    _, clipped, _ = _ngram_scores(predicted, referred)
    cider = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.process_time()
    scores = caption_scores(said, references)
    everything = time.process_time() - start
    assert abs(scores.cider.value - clipped.mean()) < 1e-9
    print(
        f"{options.captions:,} captions with {options.references} references each; CIDEr-D {scores.cider.value:.4f}"
    )
    print(f"tokens {tokens:.1f} s, n-grams, CIDEr and BLEU {cider:.1f} s, at most {memory:.2f} GiB so far")
    reached = tokens + cider <= SECONDS and memory <= GIGABYTES
    print(
        f"CIDEr from texts: {tokens + cider:.1f} s of processor time; target {SECONDS:g} s and {GIGABYTES:g} GB: "
        f"{'reached' if reached else 'missed'}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"all measures with ROUGE-L and intervals {everything:.1f} s, at most {peak:.2f} GiB")
    beside_pycocoevalcap(predicted, referred, clipped.mean())


def made_up(num_captions: int, num_references: int) -> tuple[list[str], list[list[str]]]:
    """Captions of about ten words out of a vocabulary with the frequencies of a language (Zipf)."""
    draw = random.Random(0)
    vocabulary = [
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS)
    ]
    weights = [1 / (place + 1) for place in range(WORDS)]
    pool = draw.choices(vocabulary, weights, k=2_000_000)

    def caption() -> str:
        start, length = draw.randrange(len(pool) - 20), draw.randint(6, 14)
        return " ".join(pool[start : start + length]).capitalize() + "."

    said = [caption() for _ in range(num_captions)]
    # References share words with the captions, or nothing would match.
    return said, [[f"{text[: len(text) // 2]} {caption()}" for _ in range(num_references)] for text in said]


def beside_pycocoevalcap(predicted: list[list[str]], referred: list[list[list[str]]], ours: float) -> None:
    """The peer's CIDEr on the same tokens; its tokenizer is Java and is left out."""
    try:
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        print("pycocoevalcap is not installed (pip install pycocoevalcap), so there is no ratio")
        return
    said = {place: [" ".join(tokens)] for place, tokens in enumerate(predicted)}
    references = {place: [" ".join(tokens) for tokens in several] for place, several in enumerate(referred)}
    start = time.process_time()
    theirs, _ = Cider().compute_score(references, said)
    seconds = time.process_time() - start
    print(f"pycocoevalcap's CIDEr on the same tokens, without its tokenizer: {seconds:.1f} s, {theirs:.4f}")
    assert abs(theirs - ours) < 1e-6


if __name__ == "__main__":
    main()
