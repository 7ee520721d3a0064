"""Captions in many languages: Polylens' runner against transformers' `Blip2.generate`, language by language.

One model with random weights in the shapes of a BLIP-2 with mT5 (ViT-L/14, a Q-Former of 12 layers, mT5-base with its
vocabulary of 250,112) answers both times, so that equal texts are the check before any time counts. The peer does what
a user would do: for each language it gives pictures and prompts to `generate`, in the batch size that is its fastest
here, with its key-value cache. Then each feature of the runner is left out on its own, and its factor printed.

    python benchmarks/evaluation.py                                2 pictures: minutes on two cores
    python benchmarks/evaluation.py --images 100 --ablation 16     the full comparison: about two hours
    python benchmarks/evaluation.py --tiny                         only shows that the program works
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from unittest import mock

import torch
from _machine import print_machine
from _pictures import SIDE, Noise
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    MT5Config,
    PreTrainedTokenizerFast,
)

from polylens.data.images import ImageProcessor
from polylens.data.sample import Sample, Turn
from polylens.evaluation.generation import Generation
from polylens.evaluation.predictor import LocalPredictor
from polylens.languages import language
from polylens.models.config import ModelConfig, ResamplerConfig
from polylens.models.decoding.vocabulary import ScreenedHead
from polylens.models.parts.resamplers import QFormer
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel

LANGUAGES = "en de es fr id ja ru sw ta th tr zh".split()
NUM_QUERIES = 32
PROMPT = "Caption in {}:"
PICTURE_GAIN, TEXT_GAIN = 32.0, 8.0
TARGET = 4.0
# Layers and vocabulary of the comparison, and of a run that only shows that the program works.
FULL, TINY = (24, 12, 12, 250_112), (2, 2, 2, 4_000)
# Batch sizes that the peer may choose from, as far as there are pictures.
PEER_BATCHES = (8, 32, 100)


def main() -> None:
    """Check that both give the same texts, then time both in turns, then leave out feature by feature."""
    options = _options()
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    peer = random_blip2(*(TINY if options.tiny else FULL)).to(dtype).eval()
    model = as_polylens(peer)
    pictures = [Noise(seed) for seed in range(options.images)]
    generation = Generation(
        num_beams=options.beams, max_new_tokens=options.tokens, batch_size=options.batch_size
    )
    num_items = len(pictures) * len(LANGUAGES)
    parameters = sum(parameter.numel() for parameter in peer.parameters())
    print_machine(
        dtype=options.dtype, parameters=f"{parameters / 1e6:.0f} M", pictures=len(pictures),
        languages=len(LANGUAGES), beams=options.beams, tokens=options.tokens, seed=0,
    )  # fmt: skip
    size, trials = best_batch(peer, model, pictures, generation)
    print("peer's batch sizes, items/s:", ", ".join(f"{one}: {rate:.3f}" for one, rate in trials.items()))
    ours_times, peer_times = [], []
    for turn in range(options.turns):
        ours, seconds = timed(lambda: run_polylens(model, pictures, generation))
        ours_times.append(seconds)
        print(f"turn {turn + 1}: Polylens {seconds:.1f} s", end="", flush=True)
        theirs, seconds = timed(lambda: run_peer(peer, model, pictures, generation, size))
        peer_times.append(seconds)
        print(f", peer {seconds:.1f} s", flush=True)
        if turn == 0:
            different = [at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
            print(f"texts: {num_items - len(different)} of {num_items} equal, {len(set(ours))} distinct")
            if different and dtype == torch.float32:
                at = different[0]
                raise SystemExit(f"The texts differ, so no time counts: {ours[at]!r} and {theirs[at]!r}")
    ours_median, peer_median = statistics.median(ours_times), statistics.median(peer_times)
    for name, times, median in (("peer", peer_times, peer_median), ("Polylens", ours_times, ours_median)):
        spread = (
            f", from {min(times):.1f} to {max(times):.1f} s in {len(times)} turns" if len(times) > 1 else ""
        )
        print(f"{name}: {median:.1f} s, {num_items / median:.3f} items/s{spread}")
    factor = peer_median / ours_median
    verdict = "reached" if factor >= TARGET else "missed"
    print(f"Polylens answers {factor:.2f} times as many items per second; target {TARGET:g}: {verdict}")
    if options.ablation:
        print_factors(model, pictures[: options.ablation], generation)


def random_blip2(
    vision_layers: int, qformer_layers: int, text_layers: int, vocabulary: int
) -> Blip2ForConditionalGeneration:
    """The widths of ViT-L/14, of BLIP-2's Q-Former with 32 queries and of mT5-base, in so many layers."""
    vision = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": vision_layers, "num_attention_heads": 16,
        "image_size": SIDE, "patch_size": 14,
    }  # fmt: skip
    qformer = Blip2QFormerConfig(encoder_hidden_size=1024, num_hidden_layers=qformer_layers)
    text = MT5Config(
        vocab_size=vocabulary, d_model=768, d_kv=64, d_ff=2048, num_layers=text_layers, num_heads=12,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    config = Blip2Config(
        vision_config=vision, qformer_config=qformer.to_dict(), text_config=text.to_dict(),
        num_query_tokens=NUM_QUERIES, image_token_index=vocabulary - 1,
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        # What random weights would hardly let through: the picture to the encoder, and the encoder to the text.
        model.language_projection.weight.mul_(PICTURE_GAIN)
        for block in model.language_model.decoder.block:
            block.layer[1].EncDecAttention.o.weight.mul_(TEXT_GAIN)
            block.layer[1].EncDecAttention.q.weight.mul_(TEXT_GAIN)
    return model


def as_polylens(peer: Blip2ForConditionalGeneration) -> VisionLanguageModel:
    """The peer's own modules in our composition: the same weights, in memory once."""
    resampler = QFormer(peer.config.qformer_config, NUM_QUERIES)
    resampler.model, resampler.query_tokens = peer.qformer, peer.query_tokens
    processor = ImageProcessor(height=SIDE, width=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return VisionLanguageModel(
        VisionTower(peer.vision_model),
        resampler,
        peer.language_projection,
        peer.language_model,
        tokenizer(peer.config.text_config.vocab_size),
        processor,
        ModelConfig(resampler=ResamplerConfig(num_tokens=NUM_QUERIES)),
    ).eval()


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """So many tokens; prompts are cut into pieces of three letters, so that their lengths differ."""
    texts = [PROMPT.format(language(code).name) for code in LANGUAGES]
    cut = pre_tokenizers.Split(Regex(r"\w{1,3}|[^\w\s]"), "removed", invert=True)
    pieces = dict.fromkeys(piece for text in texts for piece, _ in cut.pre_tokenize_str(text))
    words = ["<pad>", "</s>", "<unk>", *pieces]
    words += [f"t{place}" for place in range(len(words), vocabulary)]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = cut
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def samples_of(pictures: Sequence[Noise]) -> list[Sample]:
    """Every picture in every language, all languages of a picture side by side."""
    return [
        Sample(
            f"{picture.key}:{code}", (picture,), (Turn(PROMPT.format(language(code).name), ""),), code, "", ""
        )
        for picture in pictures
        for code in LANGUAGES
    ]


def run_polylens(model: VisionLanguageModel, pictures: Sequence[Noise], generation: Generation) -> list[str]:
    """The runner as `polylens evaluate` calls it."""
    samples = samples_of(pictures)
    said = dict(LocalPredictor(model).generate(samples, generation))
    return [said[place] for place in range(len(samples))]


@torch.no_grad()
def run_peer(
    peer: Blip2ForConditionalGeneration,
    model: VisionLanguageModel,
    pictures: Sequence[Noise],
    generation: Generation,
    batch_size: int,
    codes: Sequence[str] = LANGUAGES,
) -> list[str]:
    """transformers' `generate`, language by language, over the pictures in batches."""
    said: dict[tuple[int, str], str] = {}
    for code in codes:
        prompt = model.tokenizer(PROMPT.format(language(code).name))["input_ids"]
        ids = torch.tensor([[peer.config.image_token_index] * NUM_QUERIES + prompt])
        for start in range(0, len(pictures), batch_size):
            chunk = pictures[start : start + batch_size]
            rows = ids.expand(len(chunk), -1)
            pixels = model.processor([picture.load() for picture in chunk]).to(peer.dtype)
            answers = peer.generate(
                pixel_values=pixels,
                input_ids=rows,
                attention_mask=torch.ones_like(rows),
                num_beams=generation.num_beams,
                max_new_tokens=generation.max_new_tokens,
                length_penalty=generation.length_penalty,
                do_sample=False,
                use_cache=True,
            )
            texts = model.tokenizer.batch_decode(answers, skip_special_tokens=True)
            said |= {(picture.seed, code): text.strip() for picture, text in zip(chunk, texts, strict=True)}
    return [said[picture.seed, code] for picture in pictures for code in codes]


def best_batch(
    peer: Blip2ForConditionalGeneration,
    model: VisionLanguageModel,
    pictures: Sequence[Noise],
    generation: Generation,
) -> tuple[int, dict[int, float]]:
    """The peer's fastest batch size, and items per second of each, in one language over all pictures of a batch."""
    sizes = [size for size in PEER_BATCHES if size < len(pictures)] + [len(pictures)]
    run_peer(peer, model, pictures[:1], generation, 1, LANGUAGES[:1])  # warm-up
    rates = {}
    for size in dict.fromkeys(sizes):
        _, seconds = timed(
            lambda size=size: run_peer(peer, model, pictures[:size], generation, size, LANGUAGES[:1])
        )
        rates[size] = size / seconds
    return max(rates, key=lambda size: rates[size]), rates


def print_factors(model: VisionLanguageModel, pictures: Sequence[Noise], generation: Generation) -> None:
    """How much longer the runner takes without each of its features, all others kept."""
    samples = samples_of(pictures)
    settings = {"num_beams": generation.num_beams, "max_new_tokens": generation.max_new_tokens}
    size = generation.batch_size

    def whole() -> None:
        run_polylens(model, pictures, generation)

    def encode_each_time() -> None:
        ordered = sorted(samples, key=lambda sample: len(sample.turns[-1].prompt))
        for start in range(0, len(ordered), size):
            chunk = ordered[start : start + size]
            pixels = model.processor([sample.images[0].load() for sample in chunk])
            with torch.no_grad():
                tokens = model.visual_tokens(model.encode(pixels))
            visual = {sample.images[0].key: own for sample, own in zip(chunk, tokens, strict=True)}
            model.generate(chunk, visual=visual, batch_size=size, **settings)

    def their_search() -> None:
        # Any further setting goes through transformers' own search; this one is its default.
        visual = model.encode_pictures(pictures, size)
        ordered = sorted(samples, key=lambda sample: len(sample.turns[-1].prompt))
        model.generate(ordered, visual=visual, batch_size=size, renormalize_logits=False, **settings)

    def unsorted() -> None:
        visual = model.encode_pictures(pictures, size)
        model.generate(samples, visual=visual, batch_size=size, **settings)

    def plain_head() -> None:
        with mock.patch.object(ScreenedHead, "of", return_value=None):
            run_polylens(model, pictures, generation)

    def small_batches() -> None:
        one_by_one = Generation(**(generation.__dict__ | {"batch_size": 1}))
        run_polylens(model, pictures[:1], one_by_one)

    print(f"\nwithout one feature, {len(samples)} items:")
    base = min(timed(whole)[1] for _ in range(2))
    print(f"  {'everything on':44} {base:8.1f} s")
    for name, run, share in (
        ("pictures encoded once", encode_each_time, 1.0),
        ("own beam search", their_search, 1.0),
        ("output head in bfloat16 first", plain_head, 1.0),
        ("sorting by length", unsorted, 1.0),
        ("batches", small_batches, len(pictures)),
    ):
        _, seconds = timed(run)
        print(f"  without {name:36} {seconds * share:8.1f} s, factor {seconds * share / base:.2f}")


def timed(run: Callable[[], list[str] | None]) -> tuple[list[str], float]:
    """What `run` gives, and its seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result or [], time.perf_counter() - start


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1, help="how often both sides run")
    parser.add_argument("--ablation", type=int, default=2, help="pictures for the factors; 0: none")
    parser.add_argument("--tiny", action="store_true", help="few layers and tokens: no times that count")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=96, help="of the runner")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
