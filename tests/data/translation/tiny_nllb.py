"""A model of NLLB's architecture, hardly trained, with a tokenizer of a few words, as transformers saves it."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import M2M100Config, M2M100ForConditionalGeneration

TEXTS = [
    "A brown dog runs across the meadow.", "Two cats sleep on a red chair near the window.", "What is this?",
    "Is it a horse? Yes, it is.", "Ein Hund und eine Katze.", "Der Mann mit dem Hut isst Brot.",
    "Mbwa anakimbia, paka analala.", "a man, a woman, a child and 3 birds", "How many people are there? 12!",
]  # fmt: skip
LANGUAGES = ["eng_Latn", "deu_Latn", "swh_Latn", "rus_Cyrl", "zho_Hans"]


def make_tiny_nllb(folder: Path, seed: int = 0) -> Path:
    """A folder with weights, config and tokenizer. It translates everything into a few words of nonsense."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _train_pieces()
    words = ["<s>", "<pad>", "</s>", "<unk>", *vocabulary]
    tokenizer = Tokenizer(models.Unigram([(w, -float(i)) for i, w in enumerate(words)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in ["<s>", "<pad>", "</s>", "<unk>", *LANGUAGES, "<mask>"]]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            names
            | {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "mask_token": "<mask>",
                "additional_special_tokens": LANGUAGES,
            }
        )
    )
    torch.manual_seed(seed)
    config = M2M100Config(
        vocab_size=tokenizer.get_vocab_size(), d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
        max_position_embeddings=600, dropout=0.0, activation_function="relu", init_std=0.1,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    _teach(model, tokenizer)
    model.eval().save_pretrained(folder)
    return folder


def _teach(model: M2M100ForConditionalGeneration, tokenizer: Tokenizer) -> None:
    """Enough steps for answers that end and depend on the source; they stay nonsense."""

    def ids(language: str, text: str) -> list[int]:
        inner = tokenizer.encode(text, add_special_tokens=False).ids
        return [tokenizer.token_to_id(language), *inner, tokenizer.token_to_id("</s>")]

    sources = [torch.tensor(ids("eng_Latn", text)) for text in TEXTS for _ in LANGUAGES]
    targets = [
        torch.tensor(ids(code, " ".join(text.split()[i % 2 :: 2])))
        for text in TEXTS
        for i, code in enumerate(LANGUAGES)
    ]
    inputs = torch.nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=1)
    labels = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = model(input_ids=inputs, attention_mask=(inputs != 1).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _train_pieces() -> list[str]:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=120, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [pieces.id_to_piece(i) for i in range(3, pieces.vocab_size())]
