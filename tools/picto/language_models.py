"""Pretrains Picto's tiny language models (Llama) on text alone.

Hidden matrices learn by Muon, the rest by AdamW. The learning rate warms up, stays, and falls linearly to zero in
the last part. Early documents are long (many languages of one concept help each other), later ones short, which is
what the model is asked for.
"""

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tools.picto.corpus import Corpus, Document, pack
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

LOG_EVERY = 100


@dataclass(frozen=True)
class Pretraining:
    """Settings of one run. A step sees `rows` x `length` tokens; `list_share` of the documents are lists."""

    languages: tuple[str, ...]
    steps: int
    rows: int = 32
    length: int = 128
    muon_rate: float = 0.02
    adam_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.02
    decay: float = 0.4
    first_lines: float = 12.0
    last_lines: float = 2.0
    english_share: float = 0.3
    source_noise: float = 1.0
    mixed_share: float = 0.0
    to_english_share: float = 0.0
    keyword_share: float = 0.25
    list_share: float = 0.0
    seed: int = 0


def new_decoder(tokenizer: PreTrainedTokenizerFast, width: int = 256, layers: int = 6) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    settings: Pretraining,
    out: Path,
    *,
    evaluate_every: int = 500,
    compiled: bool = True,
    report: Callable[[str], None] = print,
) -> None:
    """Train `model`, with a resumable state and a log in `out`; goes on from what is there."""
    out.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(tokenizer, settings.languages)
    optimizers = _optimizers(model, settings)
    state_file, step = out / "state.pt", 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
        report(f"resumed at step {step}")
    # On CPUs eager attention trains faster than SDPA at this length: SDPA's backward pass is the slow part.
    model.set_attn_implementation("eager")
    loss_of = partial(_loss, body=torch.compile(model.model, disable=not compiled))
    model.train()
    started, seen, running = time.monotonic(), step, 0.0
    while step < settings.steps:
        rng = random.Random(f"{settings.seed}/{step}")
        progress = step / settings.steps
        for optimizer, rate in zip(optimizers, (settings.muon_rate, settings.adam_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * _schedule(progress, settings)
        lines = settings.first_lines + (settings.last_lines - settings.first_lines) * min(1.0, progress / 0.8)
        torch.manual_seed(rng.getrandbits(31))
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, corpus, rng, lines, settings)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running += loss.item()
        step += 1
        if step % LOG_EVERY == 0 or step == settings.steps:
            row: dict[str, Any] = {
                "step": step,
                "loss": round(running / (step - seen), 4),
                "seconds": round(time.monotonic() - started, 1),
            }
            running, seen = 0.0, step
            due = step % evaluate_every == 0 or step == settings.steps
            if due and len(settings.languages) > 1:
                row["exact_from_english"] = translation_accuracy(
                    model, tokenizer, settings.languages, sample=100
                )
                model.train()
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
            }
            torch.save(state, out / "state.tmp")
            os.replace(out / "state.tmp", state_file)
            report(json.dumps(row))
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))


def translation_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, languages: Sequence[str], sample: int
) -> dict[str, float]:
    """Share of English names whose name in each other language the model writes exactly, greedily, mean as 'mean'."""
    from polylens.picto.prompts import prompt
    from polylens.picto.world import concepts

    picked = random.Random(0).sample([c for c in concepts() if c.scored], sample)
    model.eval()
    scores = {}
    for code in languages:
        if code == "en":
            continue
        pairs = [(f"{c.name('en')} {prompt(code)}", c.name(code)) for c in picked if c.name(code)]
        batch = tokenizer(
            [text for text, _ in pairs],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_token_type_ids=False,
        )
        with torch.no_grad():
            ids = model.generate(**batch, max_new_tokens=24, do_sample=False)
        said = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        same = [a.strip().casefold() == (b or "").casefold() for a, (_, b) in zip(said, pairs, strict=True)]
        scores[code] = round(sum(same) / len(same), 3)
    scores["mean"] = round(sum(scores.values()) / len(scores), 4)
    return scores


def _schedule(progress: float, settings: Pretraining) -> float:
    return min(1.0, progress / settings.warmup + 1e-3, (1 - progress) / settings.decay)


def _optimizers(model: PreTrainedModel, settings: Pretraining) -> list[torch.optim.Optimizer]:
    hidden: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and "embed" not in name and "shared" not in name and "bias" not in name
        (hidden if matrix else rest).append(parameter)
    return [
        torch.optim.Muon(hidden, weight_decay=settings.weight_decay),
        torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _read(
    model: PreTrainedModel, ids: Tensor, mixed: Tensor, shares: Tensor, source: Tensor, noise: float
) -> Tensor:
    """(B, T, L) embeddings of what is read: of each token, `shares` is that in `mixed`; and sources have noise, a row
    up to `noise` of the embeddings' deviation. What stands near a word is understood as that word, as visual tokens
    will have to be."""
    embed = model.get_input_embeddings()
    embeddings = torch.lerp(embed(ids), embed(mixed), shares[..., None])
    scale = noise * embeddings.detach().std() * torch.rand(len(embeddings), 1, 1)
    return embeddings + source[..., None] * scale * torch.randn_like(embeddings)


def _draw(corpus: Corpus, rng: random.Random, lines: float, settings: Pretraining) -> Document:
    if settings.list_share and rng.random() < settings.list_share:
        return corpus.list_document(rng, lines, settings.english_share)
    return corpus.document(
        rng,
        lines,
        settings.english_share,
        settings.mixed_share,
        settings.to_english_share,
        settings.keyword_share,
    )


def causal_mask(documents: Tensor) -> Tensor:
    """(B, 1, T, T) float32 for eager attention: tokens see their own document up to themselves.

    Eager attention adds its mask, so a boolean one would hide nothing.
    """
    same = documents[:, :, None] == documents[:, None, :]
    return torch.zeros(same.shape).masked_fill(~same.tril(), -1e9)[:, None]


def _loss(
    model: PreTrainedModel,
    corpus: Corpus,
    rng: random.Random,
    lines: float,
    settings: Pretraining,
    body: Callable[..., Any],
) -> Tensor:
    rows = pack(lambda: _draw(corpus, rng, lines, settings), settings.rows, settings.length)
    ids, labels = torch.from_numpy(rows.ids), torch.from_numpy(rows.labels)
    documents, positions = torch.from_numpy(rows.documents), torch.from_numpy(rows.positions)
    mixed, shares = torch.from_numpy(rows.mixed), torch.from_numpy(rows.shares)
    embeddings = _read(model, ids, mixed, shares, labels < 0, settings.source_noise)
    states = body(
        inputs_embeds=embeddings,
        attention_mask=causal_mask(documents),
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state
    wanted = (labels[:, 1:] >= 0) & (documents[:, 1:] == documents[:, :-1])
    return F.cross_entropy(model.lm_head(states[:, :-1][wanted]).float(), labels[:, 1:][wanted])
