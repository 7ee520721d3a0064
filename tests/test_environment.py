"""The installation fits together; what is committed may be shipped: lock, licences, size, no stray paths."""

import fnmatch
import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import torch
import torchvision
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PACKAGED = "src/polylens/picto/packaged/"
LARGEST_PACKAGED = 58_000_000
LARGEST_TREE = 64 * 2**20
# One line of the lock opens a package; its hashes follow, indented.
LOCKED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)
MACHINE_PATH = re.compile(rb"(?<![\w.~}])/(?:work|root|Users|home/[a-z])/?\w*/")
CARD_LICENCE = re.compile(r"\A---\n(?:.*\n)*?license: *(\S+)\n")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """What git has committed or staged and the working tree still holds."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    return dict(LOCKED.findall((ROOT / "requirements.lock").read_text()))


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def test_torchvision_is_the_one_built_for_this_torch():
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), iou_threshold=0.5)
    assert kept.tolist() == [1]
    wanted = next(
        requirement
        for requirement in map(Requirement, requires("torchvision"))
        if requirement.name == "torch"
    )
    assert wanted.specifier.contains(Version(torch.__version__).base_version, prereleases=True)


def test_lock_answers_every_requirement(locked):
    for requirement in requirements():
        name = requirement.name.lower().replace("_", "-")
        assert name in locked, f"{name} is not locked: run `make lock`"
        assert requirement.specifier.contains(locked[name]), (
            f"{requirement} is not met by the lock: run `make lock`"
        )


def test_lock_pins_by_hash_and_names_no_address(locked):
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(LOCKED.findall(text)) > 100
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []
    for address in ("://", "--index", "--extra", "--find-links", "file:", "git+", " @ "):
        assert address not in text


def test_tracked_files_name_no_machine(tracked):
    found = {
        str(path.relative_to(ROOT)): match.group()
        for path in tracked
        if (match := MACHINE_PATH.search(path.read_bytes()))
    }
    assert found == {}


def test_packaged_data_and_the_tracked_tree_stay_small(tracked):
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked}
    assert sum(size for name, size in sizes.items() if name.startswith(PACKAGED)) < LARGEST_PACKAGED
    assert sum(sizes.values()) < LARGEST_TREE


def test_notice_covers_all_packaged_data(tracked):
    patterns = re.findall(rf"^\s+({PACKAGED}\S+)$", (ROOT / "NOTICE").read_text(), re.MULTILINE)
    names = [path.relative_to(ROOT).as_posix() for path in tracked]
    packaged = [name for name in names if name.startswith(PACKAGED)]
    assert packaged
    assert [
        name for name in packaged if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ] == []


def test_every_packaged_model_has_a_card_with_its_licence(tracked):
    names = {path.relative_to(ROOT).as_posix() for path in tracked}
    models = {name.split("/")[5] for name in names if name.startswith(PACKAGED + "models/")}
    for model in sorted(models):
        card = f"{PACKAGED}models/{model}/README.md"
        assert card in names, f"{card} is missing"
        licence = CARD_LICENCE.search((ROOT / card).read_text())
        assert licence, f"{card} has no `license:` field"
        assert licence.group(1) in ("apache-2.0", "cc-by-sa-4.0")


def test_licence_texts_that_notice_names_are_there():
    for name in re.findall(r"LICENSES/[\w.-]+\.txt", (ROOT / "NOTICE").read_text()):
        assert (ROOT / name).stat().st_size > 500
