"""Beam search over CPM-Bee: the prompt is read once for all beams, and no cache is ever copied or reordered.

All beams of a prompt are the queries of one row. What they have said goes to one buffer, `beams` places for every step,
and a mask tells each beam which places are its own past:

    keys     prompt ........ | step 0: beams 0 1 2 | step 1: beams 0 1 2 | ...
    queries  beam 0          |         1 . .       |         . 1 .       |  1 . .    beam 0 came from beam 1

Shapes: B prompts, T tokens of the longest, N beams, S steps done, H heads, V + E columns of logits.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from polylens.errors import UserError
from polylens.viscpm.cpm_bee.layout import CpmBeeBatch, Encoded, collate_data
from polylens.viscpm.cpm_bee.modeling import Cache, CpmBee
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer

NEVER = -10_000.0
DEAD = -1e9


@dataclass(frozen=True)
class BeamSettings:
    """How answers are searched; the defaults are those of the released chat.

    `length_penalty` p: an answer of n tokens scores sum of log-probabilities / n ** p, so a high one prefers long
    answers. `max_new_tokens` bounds an answer.

    With `sample`, one beam draws its tokens by `seed`, each from the `top_k` likeliest, and of those from the fewest
    that have `top_p` of the probability. Every prompt draws the same numbers, whatever else is in its batch.
    """

    num_beams: int = 3
    max_new_tokens: int = 514  # the released default of 512 lets two more through
    temperature: float = 0.7
    repetition_penalty: float = 1.1
    length_penalty: float = 3.0
    sample: bool = False
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sample and self.num_beams != 1:
            raise UserError(f"Sampling goes with one beam, and num_beams is {self.num_beams}: give 1.")
        if not self.sample and (self.top_k is not None or self.top_p is not None):
            raise UserError("top_k and top_p bound what is drawn: they go with sampling only.")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k is {self.top_k}, but must be at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}, but must be above 0 and at most 1.")
        if self.num_beams < 1 or self.max_new_tokens < 1:
            raise UserError(
                f"num_beams={self.num_beams} and max_new_tokens={self.max_new_tokens} must both be at least 1."
            )
        for name in ("temperature", "repetition_penalty"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}, but must be above 0.")


@dataclass
class _Search:
    """The answers of one prompt that have ended, best kept: at most `size`. A drawn one ends the search."""

    size: int
    penalty: float
    drawn: bool = False
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    done: bool = False

    def add(self, ids: list[int], logprob: float) -> None:
        score = logprob / max(len(ids), 1) ** self.penalty
        self.ended.append((score, ids))
        self.ended.sort(key=lambda pair: -pair[0])
        del self.ended[self.size :]
        self.done = self.done or self.drawn

    def finish(self, best: float, length: int) -> None:
        """Nothing better can come when even the best open beam would score below all that ended."""
        full = len(self.ended) == self.size
        self.done = self.done or (full and self.ended[-1][0] >= best / max(length, 1) ** self.penalty)


@torch.no_grad()
def search(
    model: CpmBee,
    tokenizer: CpmBeeTokenizer,
    prompts: Sequence[Encoded],
    settings: BeamSettings,
    visual: torch.Tensor | None = None,
) -> Iterator[list[list[int]]]:
    """After every step what is settled of each prompt's answer, and at last the best answers, without their ends.

    Settled are the tokens that all answers which may still win begin with. `prompts` have one empty `<ans>`; `visual`
    (pictures, Q, D) are the pictures of all of them, in order. What ids stand for: see `own_words`.
    """
    N = settings.num_beams
    rows = [prompt.without_answer() for prompt in prompts]
    batch = collate_data(rows, tokenizer).to(model.input_embedding.weight.device)
    B, T = batch.input_ids.shape
    device = batch.input_ids.device
    cache = model.new_cache(B, T + N * settings.max_new_tokens)
    model(batch, visual, cache)
    to_prompt = _prompt_bias(model, batch, torch.tensor(list(map(_answer_segment, prompts)), device=device))
    words = [own_words(prompt, tokenizer) for prompt in prompts]
    extension = _extension(words, tokenizer).to(device)
    forbidden = _forbidden(words, tokenizer, len(extension)).to(device)
    plain = torch.arange(len(tokenizer), device=device)
    pairs = torch.cat([torch.stack([plain, torch.zeros_like(plain)], 1), extension])

    searches = [_Search(N, settings.length_penalty, settings.sample) for _ in prompts]
    generators = [torch.Generator().manual_seed(settings.seed) for _ in prompts]
    tokens = torch.full((B, N), tokenizer.bos_id, device=device)
    said = torch.empty(B, N, 0, dtype=torch.long, device=device)
    past = torch.empty(B, N, 0, dtype=torch.long, device=device)  # the buffer's places of each beam
    scores = torch.full((B, N), DEAD, device=device)
    scores[:, 0] = 0.0
    for step in range(settings.max_new_tokens):
        newest = torch.arange(step * N, (step + 1) * N, device=device).expand(B, N)
        past = torch.cat([past, newest[..., None]], -1)
        states = _read(model, cache, pairs[tokens], to_prompt, past, step)
        logits = model.logits(states, extension).float() + forbidden[:, None]
        logits = _penalised(logits, said, settings.repetition_penalty)
        logprobs = (logits / settings.temperature).log_softmax(-1) + scores[..., None]
        if settings.sample:
            best, places = _drawn(logprobs[:, 0], settings, generators)
        else:
            best, places = logprobs.flatten(1).topk(2 * N)
        last = step == settings.max_new_tokens - 1
        chosen = _choose(searches, best, places, said, tokenizer.eos_id, logits.shape[-1], last)
        if last or all(search.done for search in searches):
            break
        beams = torch.tensor(chosen[0], device=device)
        tokens = torch.tensor(chosen[1], device=device)
        scores = torch.tensor(chosen[2], device=device)
        past = past.gather(1, beams[..., None].expand_as(past))
        said = torch.cat([said.gather(1, beams[..., None].expand_as(said)), tokens[..., None]], -1)
        yield [_settled(search, row) for search, row in zip(searches, said.tolist(), strict=True)]
    yield [search.ended[0][1] for search in searches]


def _settled(search: _Search, open_beams: list[list[int]]) -> list[int]:
    if search.done:
        return search.ended[0][1]
    living = [*open_beams, *(ids for _, ids in search.ended)]
    shared = itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*living, strict=False))
    return [ids[0] for ids in shared]


def _answer_segment(prompt: Encoded) -> int:
    """The segment to be predicted; there must be just one."""
    found = {segment for segment, context in zip(prompt.segments, prompt.context, strict=True) if not context}
    if len(found) != 1:
        raise UserError(
            f"An answer needs one empty '<ans>' in the dictionary, but this one has {len(found)}."
        )
    return found.pop()


def _prompt_bias(model: CpmBee, batch: CpmBeeBatch, answer: torch.Tensor) -> torch.Tensor:
    """(B, H, 1, T): how the answer's tokens look at the prompt; all their steps look alike."""
    rows = torch.arange(len(answer), device=answer.device)[:, None]
    relations = batch.relations[rows, answer[:, None], batch.segments]
    bias = model.position_bias(relations * 0, relations, torch.zeros_like(relations).bool())
    bias = bias.to(model.dtype).masked_fill(~batch.mask, torch.finfo(model.dtype).min)
    return bias.transpose(0, 1)[:, :, None]


def _read(
    model: CpmBee, cache: Cache, pairs: torch.Tensor, to_prompt: torch.Tensor, past: torch.Tensor, step: int
) -> torch.Tensor:
    """(B, N, D) states of the beams' newest tokens, `pairs` (B, N, 2); `past` (B, N, step + 1) are their places."""
    N = pairs.shape[1]
    own = torch.zeros(*past.shape[:2], (step + 1) * N, dtype=torch.bool, device=past.device)
    own.scatter_(2, past, True)
    distances = torch.arange(-step, 1, device=past.device).repeat_interleave(N)
    bias = model.position_bias(distances).to(to_prompt.dtype)[None, :, None]
    bias = torch.where(own[:, None], bias, torch.finfo(to_prompt.dtype).min)
    bias = torch.cat([to_prompt.expand(-1, -1, N, -1), bias], -1)
    return model.run_layers(model.input_embedding(pairs[..., 0], pairs[..., 1]), bias, None, cache)


def own_words(row: Encoded, tokenizer: CpmBeeTokenizer) -> dict[int, str]:
    """What an answer may say beyond plain tokens: the prompt's unknown words, by the ids that `search` gives them.

    The first of them is `<unk>` itself; the others follow the vocabulary, by their sub-ids.
    """
    words = ((sub, word) for (i, sub), word in row.words.items() if i == tokenizer.unk_id)
    return {len(tokenizer) + sub - 1 if sub else tokenizer.unk_id: word for sub, word in words}


def _extension(words: Sequence[dict[int, str]], tokenizer: CpmBeeTokenizer) -> torch.Tensor:
    """(E, 2) the pairs of `<unk>` and a sub-id that some prompt has a word for; never empty, as in `collate_data`."""
    count = max((max(own, default=0) - len(tokenizer) + 1 for own in words), default=0)
    return torch.tensor([(tokenizer.unk_id, sub) for sub in range(1, count + 1)] or [(tokenizer.pad_id, 1)])


def _forbidden(words: Sequence[dict[int, str]], tokenizer: CpmBeeTokenizer, size: int) -> torch.Tensor:
    """(B, V + E), very low where a prompt must not be answered: `<unk>` and words that it does not have."""
    table = torch.zeros(len(words), len(tokenizer) + size)
    for row, own in zip(table, words, strict=True):
        special = (tokenizer.unk_id, *range(len(tokenizer), len(row)))
        row[[column for column in special if column not in own]] = NEVER
    return table


def _penalised(logits: torch.Tensor, said: torch.Tensor, penalty: float) -> torch.Tensor:
    """Logits (B, N, V + E), those of tokens said before (B, N, S) made less likely."""
    found = logits.gather(-1, said)
    return logits.scatter(-1, said, torch.where(found < 0, found * penalty, found / penalty))


def _drawn(
    logprobs: torch.Tensor, settings: BeamSettings, generators: Sequence[torch.Generator]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probability, token) that each row of (B, V + E) draws, (B, 1) each."""
    ranked, order = logprobs.sort(descending=True, stable=True)
    shares = ranked.softmax(-1)
    if settings.top_k is not None:
        shares[:, settings.top_k :] = 0
    if settings.top_p is not None:
        before = shares.cumsum(-1) - shares
        shares[before >= settings.top_p * shares.sum(-1, keepdim=True)] = 0
    heights = torch.stack([torch.rand(1, generator=one) for one in generators]).to(shares.device)
    sums = shares.cumsum(-1)
    at = torch.searchsorted(sums, heights * sums[:, -1:], right=True)
    at = at.clamp(max=(shares > 0).sum(-1, keepdim=True) - 1)
    return ranked.gather(1, at), order.gather(1, at)


def _choose(
    searches: Sequence[_Search],
    best: torch.Tensor,
    places: torch.Tensor,
    said: torch.Tensor,
    end: int,
    width: int,
    last: bool,
) -> tuple[list[list[int]], list[list[int]], list[list[float]]]:
    """(beam to go on from, token, score) of the next beams, (B, N) each; answers that end go to `searches`."""
    step, N = said.shape[2], said.shape[1]
    beams: list[list[int]] = []
    tokens: list[list[int]] = []
    scores: list[list[float]] = []
    before = said.tolist()
    for number, (search, row, values) in enumerate(
        zip(searches, places.tolist(), best.tolist(), strict=True)
    ):
        search.finish(values[0], step)
        going: list[tuple[int, int, float]] = []
        for place, value in zip(row, values, strict=True):
            if search.done or len(going) == N:
                break
            beam, token = divmod(place, width)
            if token == end:
                search.add(before[number][beam], value)
            elif last:
                search.add([*before[number][beam], token], value)
            else:
                going.append((beam, token, value))
        going += [(0, end, DEAD)] * (N - len(going))  # a prompt that is done is carried along
        beams.append([beam for beam, _, _ in going])
        tokens.append([token for _, token, _ in going])
        scores.append([value for _, _, value in going])
    return beams, tokens, scores
