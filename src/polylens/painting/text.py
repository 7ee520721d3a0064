"""Prompts to hidden states, by any language model: logits never exist, but for the next token of an answer.

Shapes: B prompts, T tokens of the longest, L width of the language model.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import islice

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polylens.data.collate import pad_rows
from polylens.painting.config import TextConfig
from polylens.painting.pivot import Pivot
from polylens.viscpm.cpm_bee.layout import Encoded, collate_data, encode_data
from polylens.viscpm.cpm_bee.modeling import CpmBee
from polylens.viscpm.cpm_bee.tokenizer import CpmBeeTokenizer, escape


class TextEncoder(nn.Module, ABC):
    """A frozen language model as the reader of prompts."""

    config: TextConfig
    width: int

    @abstractmethod
    def encode(self, prompts: Sequence[str], batch_size: int = 16) -> list[torch.Tensor]:
        """The states (T, L) of every prompt, without padding."""

    @abstractmethod
    def num_states(self, prompt: str) -> int:
        """T, how many states a prompt has."""

    @abstractmethod
    def num_tokens(self, prompt: str) -> int:
        """How long a prompt is before it is cut."""

    @abstractmethod
    def padding(self) -> torch.Tensor | None:
        """The state (L,) that stands where a prompt is shorter than its neighbours; None: such places are masked."""

    def read_as(self, prompts: Sequence[str]) -> list[str]:
        """What to `encode` in place of the prompts: they themselves, unless a pivot puts them into English."""
        return list(prompts)

    def batch(self, rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rows as one (B, T, L) and the mask (B, T), True where there is a state; no mask where it says nothing."""
        sizes = [len(row) for row in rows]
        states = pad_sequence(list(rows), batch_first=True)
        if len(set(sizes)) == 1:
            return states, None
        places, ends = torch.arange(max(sizes)), torch.tensor(sizes)
        mask = (places < ends[:, None]).to(states.device)
        fill = self.padding()
        if fill is None:
            return states, mask
        return torch.where(mask[..., None], states, fill.to(states)), None


class LanguageModelText(TextEncoder):
    """A decoder, or the encoder of an encoder-decoder, of transformers."""

    def __init__(
        self, language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TextConfig
    ) -> None:
        super().__init__()
        self.is_encoder_decoder = language_model.config.is_encoder_decoder
        if config.answer:
            self.model = language_model
        else:
            self.model = (
                language_model.get_encoder() if self.is_encoder_decoder else language_model.get_decoder()
            )
        self.tokenizer = tokenizer
        self.config = config
        self.width = language_model.get_input_embeddings().weight.shape[1]
        suffix = config.template.partition("{prompt}")[2].strip()
        self._suffix = len(tokenizer(suffix, add_special_tokens=False).input_ids) if suffix else 0
        self._pivot = Pivot(language_model, tokenizer, config) if config.pivot else None

    def num_tokens(self, prompt: str) -> int:
        return len(self._all_ids(prompt))

    def num_states(self, prompt: str) -> int:
        return self.config.answer or len(self._ids(prompt))

    def padding(self) -> torch.Tensor | None:
        return None

    def read_as(self, prompts: Sequence[str]) -> list[str]:
        if self._pivot is None:
            return list(prompts)
        said = [prompt for prompt in prompts if prompt.strip()]
        english = dict(zip(said, self._pivot(said), strict=True))
        return [english.get(prompt, prompt) for prompt in prompts]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], batch_size: int = 16) -> list[torch.Tensor]:
        rows: list[torch.Tensor] = []
        ids = [self._ids(prompt) for prompt in prompts]
        device = next(self.model.parameters()).device
        for start in range(0, len(ids), batch_size):
            piece = ids[start : start + batch_size]
            left = bool(self.config.answer) and not self.is_encoder_decoder
            mask = pad_rows([[1] * len(row) for row in piece], 0, left).to(device)
            inputs = pad_rows(piece, self.tokenizer.pad_token_id or 0, left).to(device)
            if self.config.answer:
                rows += self._answer_states(inputs, mask, self.config.answer)
            else:
                ends = [len(row) for row in piece]
                states = self._states(inputs, mask)
                rows += [state[:end] for state, end in zip(states, ends, strict=True)]
        return rows

    def _answer_states(self, ids: torch.Tensor, mask: torch.Tensor, count: int) -> list[torch.Tensor]:
        """The states (`count`, L) from which each row's answer and its end are written."""
        written = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=count,
            do_sample=False,
            num_beams=1,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        steps = written.decoder_hidden_states if self.is_encoder_decoder else written.hidden_states
        states = torch.stack([layers[self.config.layer][:, -1] for layers in steps], 1)
        end = self.model.generation_config.eos_token_id
        ending = torch.tensor([] if end is None else end, device=ids.device)
        ends = torch.isin(written.sequences[:, -len(steps) :], ending)
        # argmax finds the first end; where there is none, all states count.
        last = torch.where(ends.any(1), ends.int().argmax(1), len(steps) - 1)
        places = torch.arange(count, device=ids.device).minimum(last[:, None])
        return list(torch.take_along_dim(states, places[..., None], 1))

    def _states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.config.layer == -1:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return output.hidden_states[self.config.layer]

    def _all_ids(self, prompt: str) -> list[int]:
        """At least one token."""
        text = self.config.template.replace("{prompt}", prompt)
        return self.tokenizer(text, truncation=False).input_ids or [self.tokenizer.eos_token_id]

    def _ids(self, prompt: str) -> list[int]:
        """Of a long prompt the beginning, and all of the template's end."""
        ids, limit = self._all_ids(prompt), self.config.max_tokens
        if len(ids) <= limit:
            return ids
        kept = min(self._suffix + (ids[-1] == self.tokenizer.eos_token_id), limit)
        return ids[: limit - kept] + ids[len(ids) - kept :]


class CpmBeeText(TextEncoder):
    """CPM-Bee reading {caption: prompt, objects: ""}, as VisCPM-Paint has it; places beyond a prompt are not masked."""

    def __init__(self, language_model: CpmBee, tokenizer: CpmBeeTokenizer, config: TextConfig) -> None:
        super().__init__()
        self.model = language_model
        self.tokenizer = tokenizer
        self.config = config
        self.width = language_model.config.hidden_size
        self._padding: torch.Tensor | None = None

    def num_tokens(self, prompt: str) -> int:
        return len(list(self.tokenizer.tokenize(escape(prompt))))

    def num_states(self, prompt: str) -> int:
        return len(self._row(prompt).ids)

    @torch.no_grad()
    def padding(self) -> torch.Tensor:
        # A place that attends to nothing is the same in every row: one is computed, beyond an empty prompt.
        if self._padding is None:
            row = self._row("")
            batch = collate_data([row], self.tokenizer, len(row.ids) + 1).to(
                self.model.input_embedding.weight.device
            )
            self._padding = self.model(batch)[0, -1]
        return self._padding

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], batch_size: int = 16) -> list[torch.Tensor]:
        states: list[torch.Tensor] = []
        rows = iter([self._row(prompt) for prompt in prompts])
        while piece := list(islice(rows, batch_size)):
            batch = self.model(
                collate_data(piece, self.tokenizer).to(self.model.input_embedding.weight.device)
            )
            states += [state[: len(row.ids)] for state, row in zip(batch, piece, strict=True)]
        return states

    def _row(self, prompt: str) -> Encoded:
        pieces = list(self.tokenizer.tokenize(escape(prompt)))
        kept = "".join(pieces[: self.config.max_tokens])
        return encode_data(self.tokenizer, {"caption": escape(kept), "objects": ""})
