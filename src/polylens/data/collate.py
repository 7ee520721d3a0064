"""From samples to one batch of tokens, masks and pictures.

    Sample(images=(a, b), turns=(Turn("German:", "Katze"),))

    decoder          input_ids   [a a a a][b b b b] German : Katze </s>      labels  .  . ... .  .  Katze </s>
    encoder-decoder  input_ids   [a a a a][b b b b] German : </s>            labels  Katze </s>

Every picture takes `num_image_tokens` places, in the order of the sample. Shapes: B samples, N pictures of
the whole batch, T tokens, A answer tokens.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from PIL.Image import Image
from transformers import PreTrainedTokenizerBase

from polylens.data.layout import Layout
from polylens.data.plain_text import ChatText, plain_ids
from polylens.data.sample import Sample
from polylens.errors import UserError

IGNORED = -100
IMAGE_MARK = "\ue000"  # stands for a picture while a chat template is filled, unless the texts have it

PROBE = "a"  # any text

# How far the pictures of a batch have come on their way into the language model.
Level = Literal["pixels", "patches", "queries", "tokens"]


@dataclass
class Batch:
    """What a `VisionLanguageModel` reads.

    `visual` holds the N pictures of the batch, row by row, at one `level`: "pixels" (N, 3, H, W), "patches"
    (N, P, V) out of the image encoder, "queries" (N, Q, D) out of the resampler, or "tokens" (N, Q, L) as the
    language model reads them. It is None where there are no pictures. `image_mask` (B, T) is True where a visual
    token goes. `labels` hold -100 where there is no target; a decoder's (B, T) are aligned with `input_ids` (not
    shifted), an encoder-decoder's are (B, A).
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    image_mask: torch.Tensor
    labels: torch.Tensor | None
    sample_ids: list[str]
    num_targets: int
    visual: torch.Tensor | None = None
    level: Level = "pixels"

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in values.items()
        }
        return Batch(**moved)


@dataclass
class Row:
    """One sample as tokens, not padded yet. `labels` of a decoder are as long as `ids`."""

    sample_id: str
    ids: list[int] = field(default_factory=list)
    image: list[bool] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    @property
    def num_targets(self) -> int:
        return sum(label != IGNORED for label in self.labels)

    def add(self, ids: Sequence[int], image: bool = False, target: bool = False) -> None:
        """Append tokens: those of a picture, those to be learnt, or those that are only read."""
        self.ids += ids
        self.image += [image] * len(ids)
        self.labels += ids if target else [IGNORED] * len(ids)


@dataclass(frozen=True)
class Collator:
    """Turns samples into a `Batch`. With a `processor` it also loads and normalises their pictures.

    `max_length` limits the text tokens of a row (pictures not counted): a longer training row loses its
    end, and an encoder's prompt keeps its closing tokens. Prompts to be answered are never cut.
    """

    tokenizer: PreTrainedTokenizerBase
    num_image_tokens: int
    layout: Layout
    is_encoder_decoder: bool
    max_length: int | None = None
    processor: Callable[[list[Image]], torch.Tensor] | None = None

    @property
    def pad_id(self) -> int:
        ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)
        return next(i for i in ids if i is not None)

    def __call__(self, samples: Sequence[Sample], answers: bool = True) -> Batch:
        """A batch to train on, or with `answers=False` one to answer the last turns of.

        Raises `UserError` for a sample without a target token, and for one with nothing to answer.
        """
        batch = self.stack([self.row(sample, answers) for sample in samples], answers)
        pictures = [picture for sample in samples for picture in sample.images]
        if self.processor is not None and pictures:
            batch.visual = self.processor([picture.load() for picture in pictures])
        return batch

    def stack(self, rows: Sequence[Row], answers: bool = True) -> Batch:
        """Rows as one batch without pictures, padded on the right; decoders' prompts to answer, on the left."""
        left = not answers and not self.is_encoder_decoder
        labels = pad_rows([row.labels for row in rows], IGNORED, left) if answers else None
        return Batch(
            input_ids=pad_rows([row.ids for row in rows], self.pad_id, left),
            attention_mask=pad_rows([[1] * len(row.ids) for row in rows], 0, left),
            image_mask=pad_rows([row.image for row in rows], 0, left).bool(),
            labels=labels,
            sample_ids=[row.sample_id for row in rows],
            num_targets=sum(row.num_targets for row in rows) if answers else 0,
        )

    def row(self, sample: Sample, answers: bool = True) -> Row:
        """The tokens of one sample, with its answers or up to the last one. Raises `UserError` as `__call__` does."""
        if not sample.turns:
            raise UserError(
                f"Sample '{sample.id}' of {sample.source} has no turn: give a prompt (it may be empty)."
            )
        row = Row(sample.id)
        if self.layout.kind == "chat":
            self._fill_chat(row, sample, answers)
        elif self.is_encoder_decoder:
            self._fill_encoder(row, sample, answers)
        else:
            self._fill_decoder(row, sample, answers)
        if answers and not self.is_encoder_decoder:
            self._cut(row)
        if not row.ids:
            raise UserError(
                f"Sample '{sample.id}' of {sample.source} has no image and an empty prompt: give one."
            )
        if answers and not row.num_targets:
            limit = f" within max_length={self.max_length}" if self.max_length else ""
            raise UserError(
                f"Sample '{sample.id}' of {sample.source} has no target token{limit}: its turns are "
                f"{sample.turns}; give it an answer, or raise the limit."
            )
        return row

    def answer_ids(self, answer: str) -> list[int]:
        """The target tokens of an answer, end of sequence included."""
        return self.all_answer_ids([answer])[answer]

    def all_answer_ids(self, answers: Collection[str]) -> dict[str, list[int]]:
        """`answer_ids` of each answer, tokenized together, which takes a fraction of the time."""
        if self.layout.kind == "chat":
            question = [{"role": "user", "content": "?"}]
            before = self._render(question, True)
            found = {}
            for answer in answers:
                text = ChatText(self.tokenizer, [answer])
                found[answer] = self._chat_answer(text, question, before, answer)[0]
            return found
        rows = plain_ids(self.tokenizer, [self.layout.answer_prefix + answer for answer in answers])
        eos = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        return {answer: [*ids, *eos] for answer, ids in zip(answers, rows, strict=True)}

    def _fill_decoder(self, row: Row, sample: Sample, answers: bool) -> None:
        bos = self.tokenizer.bos_token_id
        if self.layout.bos == "first" and bos is not None:
            row.add([bos])
        self._add_images(row, sample)
        last = len(sample.turns) - 1
        for i, turn in enumerate(sample.turns):
            if i == 0:
                row.add(self._first_text(turn.prompt))
            else:
                row.add(self._encode(self.layout.turn_separator + turn.prompt))
            if i < last or answers:
                trained = turn.answer != "" and (i == last or self.layout.train_turns != "last")
                row.add(self.answer_ids(turn.answer), target=trained)
        # Nothing precedes the first token, so nothing can predict it.
        row.labels[:1] = [IGNORED] * len(row.labels[:1])

    def _fill_encoder(self, row: Row, sample: Sample, answers: bool) -> None:
        self._add_images(row, sample)
        *earlier, turn = sample.turns
        said = [t.prompt + self.layout.answer_prefix + t.answer + self.layout.turn_separator for t in earlier]
        front, behind = self._added()
        ids = [*front, *self._encode("".join(said) + turn.prompt), *behind]
        row.add(self._cut_prompt(ids) if answers else ids)
        row.labels = self.answer_ids(turn.answer)[: self.max_length] if answers and turn.answer else []

    def _fill_chat(self, row: Row, sample: Sample, answers: bool) -> None:
        messages: list[dict[str, str]] = []
        done = ""
        last = len(sample.turns) - 1
        targets: list[int] = []
        text = ChatText(
            self.tokenizer, [part for turn in sample.turns for part in (turn.prompt, turn.answer)]
        )
        for i, turn in enumerate(sample.turns):
            marks = text.mark * len(sample.images) if i == 0 else ""
            messages.append({"role": "user", "content": marks + text.hide(turn.prompt)})
            before = self._render(messages, add_generation_prompt=True)
            for j, piece in enumerate(self._after(before, done).split(text.mark)):
                if j:
                    row.add([self.pad_id] * self.num_image_tokens, image=True)
                row.add(text.encode(piece))
            if i == last and not answers:
                break
            ids, said = self._chat_answer(text, messages, before, turn.answer)
            messages.append({"role": "assistant", "content": text.hide(turn.answer)})
            done = before + said
            if i == last and self.is_encoder_decoder:
                targets = ids[: self.max_length] if turn.answer else []
            else:
                trained = turn.answer != "" and (i == last or self.layout.train_turns != "last")
                row.add(ids, target=trained)
        if self.is_encoder_decoder:
            row.labels = targets

    def _chat_answer(
        self, text: ChatText, messages: list[dict[str, str]], before: str, answer: str
    ) -> tuple[list[int], str]:
        """The target tokens of an answer in a chat, and the text they stand for: up to the end token."""
        answered = [*messages, {"role": "assistant", "content": text.hide(answer)}]
        said = self._after(self._render(answered, False), before)
        eos = self.tokenizer.eos_token
        if eos is not None and eos in said:
            said = said[: said.index(eos) + len(eos)]
            return text.encode(said), said
        ids = text.encode(said)
        return (ids if eos is None else [*ids, self.tokenizer.eos_token_id]), said

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        if self.tokenizer.chat_template is None:
            raise UserError(
                "The layout is 'chat', but the tokenizer has no chat template: use layout 'plain'."
            )
        filled: Any = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return filled

    def _after(self, text: str, start: str) -> str:
        if not text.startswith(start):
            raise UserError(
                "The tokenizer's chat template rewrites earlier turns: use layout 'plain', or one turn."
            )
        return text[len(start) :]

    def _encode(self, text: str) -> list[int]:
        """The tokens of a text as data: none of them is special."""
        return plain_ids(self.tokenizer, [text])[0]

    def _first_text(self, prompt: str) -> list[int]:
        """A decoder's first prompt, with the special tokens that its tokenizer puts in front, none behind.

        A tokenizer that closes every text would end the sequence before the answer.
        """
        front, _ = self._added()
        if self.layout.bos == "first" and front[:1] == [self.tokenizer.bos_token_id]:
            front = front[1:]
        ids = self._encode(prompt)
        return [*front, *ids] if ids else []

    def _added(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts in front of a text and behind it."""
        plain: list[int] = self.tokenizer(PROBE, add_special_tokens=False).input_ids
        ids: list[int] = self.tokenizer(PROBE, add_special_tokens=True).input_ids
        for front in range(len(ids) - len(plain) + 1):
            if ids[front : front + len(plain)] == plain:
                return ids[:front], ids[front + len(plain) :]
        raise UserError("The tokenizer changes a text that it adds special tokens to: use another.")

    def _add_images(self, row: Row, sample: Sample) -> None:
        row.add([self.pad_id] * (self.num_image_tokens * len(sample.images)), image=True)

    def _cut_prompt(self, ids: list[int]) -> list[int]:
        if self.max_length is None or len(ids) <= self.max_length:
            return ids
        return [*ids[: self.max_length - 1], ids[-1]]

    def _cut(self, row: Row) -> None:
        if self.max_length is not None:
            length = self.max_length + sum(row.image)
            row.ids, row.image, row.labels = row.ids[:length], row.image[:length], row.labels[:length]


def pad_rows(rows: Sequence[Sequence[int]], value: int, left: bool) -> torch.Tensor:
    """(B, T) of rows of unequal lengths, filled up with `value`."""
    length = max((len(row) for row in rows), default=0)
    padded = torch.full((len(rows), length), value, dtype=torch.long)
    for i, row in enumerate(rows):
        if row:
            where = slice(length - len(row), length) if left else slice(0, len(row))
            padded[i, where] = torch.tensor(row, dtype=torch.long)
    return padded
