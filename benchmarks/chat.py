"""Conversations: VisCPM's beam search, and the fifth turn with a causal language model, against plain programs.

Both peers are written here, after what is published, on the same random weights in the same type:

  beams   CPM-Bee reads the prompt once for every beam, with attention scores written out; the position bias is computed
          at every step for all positions; keys and values are concatenated, and reordered with the beams.
  turn 5  the pictures and all turns before are read again, and transformers' `generate` answers, with its own cache.

The first peer takes one conversation at a time: it is compared on one, and on several that Polylens answers as a batch.
Texts must be equal before any time counts. Prints tokens per second, the time to the first token and that of the whole,
each with its factor. Where a turn is long, most of the whole is writing, in which nothing can be reused: the target of
the fifth turn is about the time until it begins.

    python benchmarks/chat.py                                      small: a few minutes on two cores
    python benchmarks/chat.py --size large                         the full comparison: about a quarter of an hour
    python benchmarks/chat.py --size tiny --turns 1 --tokens 8     only shows that the program works
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from _machine import print_machine
from _pictures import SIDE, Noise
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, ViTConfig, ViTModel
from transformers.generation.streamers import BaseStreamer

from polylens.data.images import ImageProcessor
from polylens.data.sample import Sample, Turn
from polylens.models.checkpoints.build import compose
from polylens.models.config import ModelConfig, ResamplerConfig
from polylens.models.decoding.chat import Chat
from polylens.models.parts.vision import VisionTower
from polylens.models.vlm import VisionLanguageModel
from polylens.viscpm.beit3 import Beit3Config
from polylens.viscpm.cpm_bee.config import CpmBeeConfig
from polylens.viscpm.cpm_bee.generation import BeamSettings, search
from polylens.viscpm.cpm_bee.layout import Encoded, collate_data
from polylens.viscpm.cpm_bee.modeling import RESIDUAL, CpmBee
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer
from polylens.viscpm.files import viscpm_processor
from polylens.viscpm.model import VisCpmChat
from polylens.viscpm.modeling import VisCpm, VisCpmConfig

# (width, layers, vocabulary) of the language models, and (width, layers) of the vision towers.
SIZES = {
    "tiny": ((64, 2, 600), (32, 2)),
    "small": ((512, 8, 20_000), (384, 6)),
    "medium": ((1024, 16, 40_000), (768, 12)),
    "large": ((1536, 20, 86_583), (1024, 24)),
}
QUERIES, HEAD = 64, 64
NUM_BEAMS = 3
SPEED, FIRST, WHOLE = "tokens/s", "seconds to the first token", "seconds for the whole"
WORDS_OF_A_QUESTION, EARLIER_TURNS = 24, 4


@dataclass
class Answered:
    """Answers, the seconds to the first token of the first of them and to the end of the last, and all their tokens."""

    text: object
    first: float
    whole: float
    tokens: int


def viscpm(size: str, dtype: torch.dtype) -> VisCpmChat:
    (width, layers, vocabulary), (eye_width, eye_layers) = SIZES[size]
    torch.manual_seed(0)
    specials = "<pad> <unk> <mask> <sep> </n> </_> <s> </s> <root> <ans>".split()
    # All that prompts are made of is known: the peer has no unknown words.
    specials += ["image", "context", "question", "User", "AI", ":"]
    words = [f"w{number}" for number in range(vocabulary - len(specials))]
    config = VisCpmConfig(
        llm=CpmBeeConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=width * 5 // 2,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD,
            head_dim=HEAD,
        ),
        vision=Beit3Config(
            image_size=SIDE,
            vocab_size=16,
            hidden_size=eye_width,
            intermediate_size=eye_width * 4,
            num_hidden_layers=eye_layers,
            num_attention_heads=eye_width // 32,
        ),
        num_queries=QUERIES,
    )
    model = VisCpm(config).to(dtype).eval()
    return VisCpmChat(model, CpmBeeTokenizer([*specials, *words]), viscpm_processor(SIDE))


def question(seed: int) -> str:
    draw = torch.Generator().manual_seed(seed)
    return " ".join(f"w{int(i)}" for i in torch.randint(10, 500, (WORDS_OF_A_QUESTION,), generator=draw))


def conversation(seed: int) -> Sample:
    """Four turns behind, one to answer."""
    numbers = range(1000 * seed, 1000 * seed + EARLIER_TURNS)
    turns = [Turn(question(n), question(100 + n)) for n in numbers]
    last = Turn(question(1000 * seed + 9), "")
    return Sample(f"chat-{seed}", (Noise(seed),), (*turns, last), "en", "chat", "benchmark")


def beams_of_polylens(
    model: VisCpmChat, rows: Sequence[Encoded], visual: torch.Tensor, settings: BeamSettings
) -> Answered:
    begin = time.perf_counter()
    steps = search(model.lm, model.tokenizer, rows, settings, visual)
    ids = next(steps)
    first = time.perf_counter() - begin
    for step in steps:
        ids = step
    return Answered(ids, first, time.perf_counter() - begin, sum(map(len, ids)))


def plain_read(
    lm: CpmBee,
    tokens: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor],
    relations: torch.Tensor,
    past: list[tuple[torch.Tensor, torch.Tensor]] | None,
    visual: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """States of `tokens` (N, T), and keys and values of all so far; `seen` are segments and places of all (K)."""
    segments, places = seen
    N, T = tokens.shape
    query, key = segments[-T:], segments
    distances = places[None, :] - places[-T:, None]
    bias = lm.position_bias(
        distances, relations[query[:, None], key[None, :]], query[:, None] == key[None, :]
    )
    x = lm.input_embedding(tokens, torch.zeros_like(tokens))
    if visual is not None:
        x = x.masked_scatter(visual[0].expand(N, -1)[..., None], visual[1].expand(N, -1, -1))
    now = []
    for number, layer in enumerate(lm.encoder.layers):
        attention = layer.self_att.self_attention
        normed = layer.self_att.layernorm_before_attention(x)
        scale = x.shape[-1] ** -0.5
        q, k, v = (
            (part(normed) * scale).view(N, T, -1, HEAD).transpose(1, 2)
            for part in (attention.project_q, attention.project_k, attention.project_v)
        )
        if past is not None:
            k, v = torch.cat([past[number][0], k], 2), torch.cat([past[number][1], v], 2)
        now.append((k, v))
        scores = (q @ k.transpose(2, 3)) / HEAD**0.5 + bias
        heard = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = (x + attention.attention_out(heard) * heard.shape[-1] ** -0.5) / RESIDUAL
        x = layer.ffn(x)
    return lm.encoder.output_layernorm(x), now


def beams_of_the_peer(
    model: VisCpmChat, rows: Sequence[Encoded], visual: torch.Tensor, settings: BeamSettings
) -> Answered:
    """One conversation after the other; `visual` (N, Q, D) holds a picture of each."""
    begin = time.perf_counter()
    done = [peer_beams(model, row, visual[n : n + 1], settings) for n, row in enumerate(rows)]
    whole = time.perf_counter() - begin
    ids = [one for one, _ in done]
    return Answered(ids, done[0][1], whole, sum(map(len, ids)))


@torch.no_grad()
def peer_beams(
    model: VisCpmChat, row: Encoded, visual: torch.Tensor, settings: BeamSettings
) -> tuple[list[int], float]:
    """The answer, and the seconds to its first token."""
    begin = time.perf_counter()
    lm, tokenizer, N = model.lm, model.tokenizer, settings.num_beams
    answer = row.segments[-1]
    batch = collate_data([row.without_answer()], tokenizer)
    segments, places = batch.segments[0], torch.arange(batch.segments.shape[1])
    tokens = batch.input_ids.expand(N, -1)
    images = (batch.image_mask, visual)
    _, past = plain_read(lm, tokens, (segments, places), batch.relations[0], None, images)
    tokens, beams = torch.full((N, 1), tokenizer.bos_id), [([], 0.0)] + [([], -1e9)] * (N - 1)
    ended: list[tuple[float, list[int]]] = []
    first = 0.0
    for step in range(settings.max_new_tokens):
        segments = torch.cat([segments, torch.tensor([answer])])
        places = torch.cat([places, torch.tensor([step])])
        states, past = plain_read(lm, tokens, (segments, places), batch.relations[0], past, None)
        logits = lm.logits(states[:, -1], torch.tensor([(tokenizer.pad_id, 1)])).float()
        logits[:, [tokenizer.unk_id, -1]] = -10_000.0
        for number, (said, _) in enumerate(beams):
            for token in set(said):
                value = logits[number, token]
                change = settings.repetition_penalty if value < 0 else 1 / settings.repetition_penalty
                logits[number, token] = value * change
        scores = (logits / settings.temperature).log_softmax(-1) + torch.tensor([[s] for _, s in beams])
        best, at = scores.flatten().topk(2 * N)
        length = max(step, 1) ** settings.length_penalty
        if len(ended) == N and ended[-1][0] >= best[0].item() / length:
            break
        going = []
        for value, place in zip(best.tolist(), at.tolist(), strict=True):
            beam, token = divmod(place, scores.shape[1])
            whole = beams[beam][0] if token == tokenizer.eos_id else [*beams[beam][0], token]
            if token == tokenizer.eos_id or step == settings.max_new_tokens - 1:
                ended.append((value / max(len(whole), 1) ** settings.length_penalty, whole))
                ended = sorted(ended, key=lambda one: -one[0])[:N]
            elif len(going) < N:
                going.append((beam, whole, value))
        if not going:
            break
        order = torch.tensor([beam for beam, _, _ in going])
        past = [(k[order], v[order]) for k, v in past]
        tokens = torch.tensor([[whole[-1]] for _, whole, _ in going])
        beams = [(whole, value) for _, whole, value in going]
        first = first or time.perf_counter() - begin
    return ended[0][1], first


def causal_model(size: str, dtype: torch.dtype) -> VisionLanguageModel:
    (width, layers, vocabulary), (eye_width, eye_layers) = SIZES[size]
    torch.manual_seed(0)
    words = {f"w{number}": number + 3 for number in range(vocabulary - 3)} | {"<pad>": 0, "</s>": 1, "<s>": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    )
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    eye = ViTConfig(
        hidden_size=eye_width,
        num_hidden_layers=eye_layers,
        num_attention_heads=eye_width // 32,
        intermediate_size=eye_width * 4,
        image_size=SIDE,
    )
    resampler = ResamplerConfig(kind="perceiver", num_tokens=QUERIES, width=eye_width, depth=2, num_heads=4)
    processor = ImageProcessor(height=SIDE, width=SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)
    parts = (VisionTower(ViTModel(eye)), LlamaForCausalLM(config), fast, processor)
    return compose(ModelConfig(resampler=resampler), *parts).to(dtype).eval()


def after_four_turns(model: VisionLanguageModel, sample: Sample, tokens: int) -> tuple[Sample, Chat]:
    """The sample with the model's own answer in the fourth turn, and the conversation in which it was given."""
    earlier = [
        {"role": role, "content": text}
        for turn in sample.turns[:-2]
        for role, text in (("user", turn.prompt), ("assistant", turn.answer))
    ]
    chat = model.chat(messages=earlier, max_new_tokens=tokens)
    chat.exchanges[0] = replace(chat.exchanges[0], images=sample.images)
    fourth = Turn(sample.turns[-2].prompt, chat.say(sample.turns[-2].prompt))
    return replace(sample, turns=(*sample.turns[:-2], fourth, sample.turns[-1])), chat


def turn_of_polylens(model: VisionLanguageModel, sample: Sample, before: Chat, tokens: int) -> Answered:
    """The fifth turn, going on from the state that `before` is in, which stays as it is."""
    chat = model.chat(max_new_tokens=tokens)
    chat.exchanges, chat._visual = list(before.exchanges), before._visual
    chat.speaker.reader.cache = copy.deepcopy(before.speaker.reader.cache)
    chat.speaker.reader.tokens = list(before.speaker.reader.tokens)
    begin = time.perf_counter()
    pieces = chat.stream(sample.turns[-1].prompt)
    text = next(pieces)
    first = time.perf_counter() - begin
    text += "".join(pieces)
    return Answered(text, first, time.perf_counter() - begin, len(text.split()))


class FirstToken(BaseStreamer):
    """Notes when the first token is there; `generate` hands over the prompt before it."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


@torch.no_grad()
def turn_of_the_peer(model: VisionLanguageModel, sample: Sample, tokens: int) -> Answered:
    begin, heard = time.perf_counter(), FirstToken()
    batch = model.collator()([sample], answers=False).to(model.device)
    ids = model.lm.generate(
        inputs_embeds=model.embed(batch),
        attention_mask=batch.attention_mask,
        max_new_tokens=tokens,
        do_sample=False,
        streamer=heard,
    )
    text = model.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    whole = time.perf_counter() - begin
    return Answered(text, heard.times[1] - begin, whole, len(text.split()))


def compare(
    name: str,
    ours: Callable[[], Answered],
    theirs: Callable[[], Answered],
    turns: int,
    targets: dict[str, float],
) -> None:
    """Both sides in turns, each shown as it is done; then medians, spreads, and a factor for each measure."""
    print(f"\n{name}", flush=True)
    one, other = ours(), theirs()
    if one.text != other.text:
        raise SystemExit(f"{name}: the answers differ, so no time counts: {one.text} and {other.text}")
    print(
        f"  equal answers, {one.tokens} tokens; not counted: {one.whole:.1f} s and {other.whole:.1f} s",
        flush=True,
    )
    found: list[tuple[Answered, Answered]] = []
    for turn in range(turns):
        found.append((ours(), theirs()))
        shown = [f"{side.whole:.2f} s, first token {side.first:.2f} s" for side in found[-1]]
        print(f"  turn {turn + 1} of {turns}: Polylens {shown[0]}; peer {shown[1]}", flush=True)
    measures: dict[str, tuple[Callable[[Answered], float], bool]] = {
        SPEED: (lambda a: a.tokens / a.whole, True),
        FIRST: (lambda a: a.first, False),
        WHOLE: (lambda a: a.whole, False),
    }
    for measure, (value, more_is_better) in measures.items():
        mine, peer = ([value(pair[side]) for pair in found] for side in (0, 1))
        a, b = statistics.median(mine), statistics.median(peer)
        factor = a / b if more_is_better else b / a
        spread = f"{min(mine):.3g}-{max(mine):.3g} and {min(peer):.3g}-{max(peer):.3g}"
        aim = f" (target {targets[measure]:g}x)" if measure in targets else ""
        print(f"  {measure}: Polylens {a:.3g}, peer {b:.3g} ({spread}): {factor:.2f}x{aim}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--conversations", type=int, default=4, help="how many Polylens answers as a batch")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    width, layers, vocabulary = SIZES[given.size][0]
    print_machine(
        size=f"{given.size} (width {width}, {layers} layers, {vocabulary} words)",
        dtype=given.dtype,
        beams=NUM_BEAMS,
        tokens=given.tokens,
        seed=0,
    )
    beams(given, dtype)
    fifth_turn(given, dtype)


def beams(given: argparse.Namespace, dtype: torch.dtype) -> None:
    samples = [conversation(seed) for seed in range(given.conversations)]
    model = viscpm(given.size, dtype)
    rows = [model.encode_sample(sample) for sample in samples]
    seen = model.encode_pictures([sample.images[0] for sample in samples])
    visual = torch.stack([seen[sample.images[0].key] for sample in samples])
    settings = BeamSettings(num_beams=NUM_BEAMS, max_new_tokens=given.tokens)
    print(f"CPM-Bee: {parameters(model.lm):,} parameters, prompts of {len(rows[0].ids)} tokens", flush=True)
    for count in dict.fromkeys((1, given.conversations)):
        compare(
            f"{NUM_BEAMS} beams, {count} conversation{'s' if count > 1 else ''}",
            lambda count=count: beams_of_polylens(model, rows[:count], visual[:count], settings),
            lambda count=count: beams_of_the_peer(model, rows[:count], visual[:count], settings),
            given.turns,
            {SPEED: 3.0} if count == given.conversations else {},
        )


def fifth_turn(given: argparse.Namespace, dtype: torch.dtype) -> None:
    model = causal_model(given.size, dtype)
    sample, before = after_four_turns(model, conversation(0), WORDS_OF_A_QUESTION)
    length = model.collator(with_pictures=False)([sample], answers=False).input_ids.shape[1]
    print(f"\nCausal model: {parameters(model.lm):,} parameters, prompt of {length} tokens", flush=True)
    compare(
        "turn 5",
        lambda: turn_of_polylens(model, sample, before, given.tokens),
        lambda: turn_of_the_peer(model, sample, given.tokens),
        given.turns,
        {FIRST: 5.0},
    )


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
