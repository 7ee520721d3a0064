"""What only lists, explains or refuses starts in a moment: nothing heavy is imported for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "peft", "matplotlib", "diffusers", "tensorboard")
LIGHT = """
--help
train --help
evaluate --help
picto --help
recipes
recipes picto
recipes nosuch
languages
languages --known-to picto
benchmarks
verify
plan-languages --num 100
train nosuch
train picto stages.0.stepz=1
train picto --nosuch
inspect nosuch
plan nosuch
mix nosuch --out there
neighbours nosuch --model clip --out there
evaluate nosuch --data .
evaluate picto --benchmark nosuch
caption picture.png --lang xx
caption picture.png --model nosuch
chat nosuch
paint nosuch cat
score-paintings .
info nosuch
export nosuch --format blip2 --out there
merge nosuch --out there
features nosuch there --out here
convert-mblip nosuch.ckpt --language-model nosuch --out there
""".strip().splitlines()
DRIVER = """
import contextlib, io, json, sys
from polylens.cli import app
found = {}
for line in sys.argv[2:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            app(line.split(), standalone_mode=False)
        except BaseException as error:
            # How a command ends is not asked here, but a fault of the program is.
            assert type(error).__name__ in ("Exit", "NoSuchOption", "SystemExit"), (line, repr(error))
    found[line] = sorted(set(sys.argv[1].split()) & set(sys.modules))
    if found[line]:
        break
print(json.dumps(found))
"""


def run(code, *arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_light_commands_import_nothing_heavy(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    found = run(DRIVER, " ".join(HEAVY), *LIGHT, cwd=tmp_path)
    assert found == {line: [] for line in LIGHT}


def test_the_library_is_imported_lazily(tmp_path):
    code = (
        "import sys, json\nimport polylens\n"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in sys.argv[1:]]))"
    )
    assert run(code, *HEAVY, "numpy", "pydantic", "typer", cwd=tmp_path) == []
