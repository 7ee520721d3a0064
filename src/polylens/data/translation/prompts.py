"""The prompts of task builders in other languages: translated as samples are, collected in one file for the builders.

    DEFAULT.english --one sample each--> translate_samples --accepted--> templates.json {task: {language: [prompt]}}

Fields such as {question} are never shown to the engine. Of {language}, the English name of the answer's language, a
translated prompt makes {own_language}.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from polylens.data.prompts import DEFAULT, read_templates
from polylens.data.rows import json_lines
from polylens.data.sample import Sample, Turn
from polylens.data.translation.run import SAMPLES
from polylens.data.translation.texts import Texts
from polylens.errors import UserError
from polylens.files import write_atomic

TEMPLATES = "templates.json"
# Builders put these around samples in any language; an instruction has no prompt of its own, reasons stay English.
TASKS = ("caption", "classification", "vqa", "vqg", "matching", "verification")
PROMPT = "prompt"
TEXTS = {PROMPT: Texts(prompt=True, answer=False)}


def prompt_samples(tasks: Sequence[str] = TASKS) -> Iterator[Sample]:
    """One English sample for each prompt of the tasks. Raises `UserError` for a task without prompts to translate."""
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"There are no prompts of '{task}' to translate: choose from {', '.join(TASKS)}.")
        for number, template in enumerate(DEFAULT.english[task]):
            text = template.replace("{language}", "{own_language}")
            yield Sample(f"{task}/{number}", (), (Turn(text, ""),), "en", PROMPT, "prompts", {"task": task})


def collect_templates(folder: Path) -> Path:
    """Write FOLDER/templates.json out of what `translate_samples` accepted there; returns its path.

    Raises `UserError` when nothing was accepted.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for _, row in json_lines(folder / SAMPLES):
        ((text, _),) = row["turns"]
        texts = found.setdefault(row["extra"]["task"], {}).setdefault(row["language"], [])
        if text not in texts:
            texts.append(text)
    if not found:
        raise UserError(f"No prompt was translated: see '{folder / 'rejects'}' for the reasons.")
    path = folder / TEMPLATES
    write_atomic(path, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    read_templates(path)
    return path
