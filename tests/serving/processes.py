"""Real servers on loopback, in processes of their own, over a tiny model."""

import base64
import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tests.models.tiny_models import NoisePicture, tiny_vlm

from polylens.models.checkpoints.folder import save_model
from polylens.models.vlm import VisionLanguageModel

SECONDS = 120


def endless_model() -> VisionLanguageModel:
    """A tiny model whose answers do not end by themselves."""
    model = tiny_vlm("llama")
    with torch.no_grad():
        model.lm.lm_head.weight[model.tokenizer.eos_token_id] = 0
    return model


def save_endless(folder: Path) -> Path:
    save_model(endless_model(), folder, standalone=True)
    return folder


def data_uri(picture: Image.Image | int = 0, kind: str = "PNG") -> str:
    image = NoisePicture(picture).load() if isinstance(picture, int) else picture
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def asking(text: str, *urls: str) -> list[dict[str, Any]]:
    """The messages of one question about pictures."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


@dataclass
class Serving:
    process: subprocess.Popen[str]
    url: str
    log: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def serving(model: Path, *options: str, **environment: str) -> Iterator[Serving]:
    command = [sys.executable, "-m", "polylens", "serve", str(model), "--port", "0", *options]
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"} | environment
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, bufsize=1
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        line = process.stdout.readline()
        found = re.search(r"(http://[\d.]+:\d+)/v1", line)
        assert found, f"{line!r} {log}"
        yield Serving(process, found[1], log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)
        reader.join(SECONDS)
        process.stdout.close()
        process.stderr.close()
