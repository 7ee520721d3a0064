"""NLLB through transformers: the same translations (float32, up to ties), slowly, where CTranslate2 is missing."""

from collections.abc import Sequence

import torch

from polylens.data.translation.engine import EngineSettings
from polylens.data.translation.nllb import END, MAX_NEW_TOKENS, NllbTokenizer, fingerprint, model_folder
from polylens.errors import UserError
from polylens.pretrained import load_whole

PADDING = "<pad>"


class TransformersEngine:
    """On the GPU in bfloat16 where there is one, else in float32."""

    exact = False

    def __init__(self, settings: EngineSettings):
        from safetensors import SafetensorError
        from transformers import AutoModelForSeq2SeqLM

        if settings.precision is not None:
            raise UserError("The engine 'transformers' chooses its own precision: leave out --precision.")
        folder = model_folder(settings.model)
        self.tokenizer = NllbTokenizer(folder)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        self.fingerprint = fingerprint(folder, "transformers", dtype, settings.beams)
        self._beams = settings.beams
        try:
            self._model = load_whole(AutoModelForSeq2SeqLM, folder, dtype=dtype).to(device).eval()
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"transformers cannot load '{folder}' ({error}): give an NLLB model.") from error

    def check(self, source: str, targets: Sequence[str]) -> None:
        for code in (source, *targets):
            self.tokenizer.language_token(code)

    @torch.inference_mode()
    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        id_of = self.tokenizer.id_of
        encoded = self.tokenizer.encode(texts, source)
        rows = [torch.tensor(ids) for ids in encoded if ids]
        if not rows:
            return [None] * len(encoded)
        inputs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=id_of(PADDING))
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        output = self._model.generate(
            input_ids=inputs.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            forced_bos_token_id=id_of(self.tokenizer.language_token(target)),
            decoder_start_token_id=id_of(END),
            num_beams=self._beams,
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            forced_eos_token_id=None,  # would end what has not ended
        )
        # The first token of a row is where the decoder starts: an end token, too.
        results = iter(output[:, 1:].tolist())
        return [None if ids is None else self.tokenizer.decode(next(results)) for ids in encoded]
