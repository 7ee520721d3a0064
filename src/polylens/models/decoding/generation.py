"""Answers by greedy search or beams, or, with further settings (sampling), by transformers' own generation.

What a language model's folder says of generation does not count, except for its end tokens: an answer depends
on the settings given alone.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from polylens.data.answer import Answer
from polylens.data.collate import Batch
from polylens.errors import UserError
from polylens.models.decoding.interface import Decodable
from polylens.models.decoding.scoring import read_prompts
from polylens.models.decoding.search import Search, beam_search, greedy_search

SEARCH_SETTINGS = {"num_beams", "max_new_tokens", "length_penalty"}


def generate_answers(
    model: Decodable, batches: Iterable[Batch], repetition_penalty: float, settings: dict[str, Any]
) -> list[list[int]]:
    """The answers' tokens, the end token included; see `VisionLanguageModel.generate`."""
    search = _search(model, settings, repetition_penalty)
    generation = _config(model, settings) if set(settings) - SEARCH_SETTINGS else None
    if repetition_penalty <= 0:
        raise UserError(f"repetition_penalty is {repetition_penalty}, but must be above 0 (1 = none).")
    return [answer for batch in batches for answer in _answer(model, batch, search, generation)]


def _search(model: Decodable, settings: dict[str, Any], repetition_penalty: float) -> Search:
    num_beams, max_new_tokens = settings["num_beams"], settings["max_new_tokens"]
    if num_beams < 1 or max_new_tokens < 1:
        raise UserError(f"num_beams={num_beams} and max_new_tokens={max_new_tokens} must both be at least 1.")
    ends = frozenset(end_ids(model))
    return Search(num_beams, max_new_tokens, settings["length_penalty"], repetition_penalty, ends)


def _config(model: Decodable, settings: dict[str, Any]) -> GenerationConfig:
    chosen = {"do_sample": False, "pad_token_id": _pad_id(model), "eos_token_id": end_ids(model)} | settings
    if settings["num_beams"] == 1:
        del chosen["length_penalty"]
    if model.is_encoder_decoder:
        chosen["decoder_start_token_id"] = model.decoder_start
    try:
        return GenerationConfig(**chosen)
    except ValueError as error:
        raise UserError(f"These generation settings do not go together: {error}") from error


def _pad_id(model: Decodable) -> int:
    return model.collator(with_pictures=False).pad_id


def end_ids(model: Decodable) -> list[int]:
    """The tokenizer's end token, and those that the language model names besides (BLIP-2 ends OPT at a new
    line).
    """
    named = getattr(model.lm.generation_config, "eos_token_id", None)
    more = named if isinstance(named, list) else [named]
    rows = model.lm.get_output_embeddings().weight.shape[0]
    return sorted({i for i in (model.tokenizer.eos_token_id, *more) if i is not None and i < rows})


def as_answer(model: Decodable, ids: list[int]) -> Answer:
    """The text of an answer's tokens; without an end token it was cut."""
    text = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Answer(text, "stop" if ids and ids[-1] in end_ids(model) else "length")


def _answer(
    model: Decodable, batch: Batch, search: Search, generation: GenerationConfig | None
) -> list[list[int]]:
    if generation is None:
        find = greedy_search if search.num_beams == 1 else beam_search
        return find(model, read_prompts(model, batch), search)
    # transformers' own setting takes the padding in front of embeddings off the answer (5.23).
    penalty = (
        [RepetitionPenaltyLogitsProcessor(float(search.repetition_penalty))]
        if search.repetition_penalty != 1
        else []
    )
    rows = model.lm.generate(
        inputs_embeds=model.embed(batch),
        attention_mask=batch.attention_mask,
        generation_config=generation,
        logits_processor=LogitsProcessorList(penalty),
    )
    return [_closed(row, generation.eos_token_id) for row in _answers_only(model, rows).tolist()]


def _answers_only(model: Decodable, rows: torch.Tensor) -> torch.Tensor:
    return rows[:, 1:] if model.is_encoder_decoder else rows


def _closed(ids: list[int], ends: list[int]) -> list[int]:
    """The tokens up to the first end token; what follows is padding."""
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]
