"""Models on the hub: what is fetched, and one sentence for whatever keeps it from being fetched.

Files land in the cache that all of Hugging Face's libraries share (HF_HOME). A connection that breaks off is
taken up at the byte where it broke; of a download that was killed, the files that had arrived are kept.
HF_ENDPOINT names another server, HF_HUB_OFFLINE=1 forbids the network.
"""

from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HFValidationError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from polylens.errors import UserError
from polylens.models.checkpoints.blip2_files import PREFIXES, Part, holding, is_blip2, read_index

OTHER_FORMATS = [
    "*.h5",
    "*.msgpack",
    "*.onnx",
    "*.ot",
    "*.gguf",
    "*.tflite",
    "onnx/*",
    "openvino/*",
    "coreml/*",
]
PICKLED = ["*.bin", "*.pt", "*.pth", "*.ckpt"]
WEIGHTS = ["*.safetensors", *PICKLED]


def download(hub_id: str, part: Part | None = None, weights: bool = True, inside: str = "") -> Path:
    """The folder of the model `hub_id`, downloaded once; `owner/name@revision` is a branch, a tag or a commit of it.
    With `inside`, that folder or file of it and nothing else.

    Of weights in two formats only the safetensors come; of a BLIP-2 model with `part` only the shards that
    hold it; with `weights` false none. Raises `UserError` with the reason when something is not to be had.
    """
    folder: Path | None = None
    name, mark, revision = hub_id.partition("@")
    if mark and not revision:
        raise UserError(f"'{hub_id}' names no revision after the '@': write owner/name@revision.")
    try:
        ignored = [*OTHER_FORMATS, *WEIGHTS]
        only = [inside, f"{inside}/*"] if inside else None
        folder = Path(
            snapshot_download(name, revision=revision or None, allow_patterns=only, ignore_patterns=ignored)
        )
        files = _weights(name, folder, part, inside) if weights else []
        if files:
            # By its commit, so that both downloads are of one state of the repository.
            snapshot_download(name, revision=folder.name, allow_patterns=files)
        return _place(folder, inside, hub_id, weights)
    except CachedRepoTreeNotFoundError:  # cached by an older library: what is there must do
        assert folder is not None
        return _place(folder, inside, hub_id, weights)
    except (OSError, ValueError) as error:
        asked = f"{name}/{inside}{mark}{revision}" if inside else hub_id
        raise UserError(_sentence(asked, error, folder is not None)) from error


def _place(folder: Path, inside: str, hub_id: str, weights: bool) -> Path:
    if not inside or (folder / inside).exists():
        return folder / inside
    if not weights and _matches(inside, WEIGHTS):
        return folder  # the file is among what was not asked for
    raise UserError(f"The repository '{hub_id}' has no '{inside}': look at its files on the hub.")


def _weights(hub_id: str, folder: Path, part: Part | None, inside: str = "") -> list[str]:
    tree = [file.path for file in get_cached_repo_tree(hub_id, revision=folder.name)]
    if inside:
        tree = [path for path in tree if path == inside or path.startswith(f"{inside}/")]
    files = [path for path in tree if _matches(path, WEIGHTS) and not _matches(path, OTHER_FORMATS)]
    safe = {PurePosixPath(path).parent for path in files if path.endswith(".safetensors")}
    files = [p for p in files if not (PurePosixPath(p).parent in safe and _matches(p, PICKLED))]
    if part and is_blip2(folder):
        kind = "model.safetensors" if PurePosixPath() in safe else "pytorch_model.bin"
        index = folder / f"{kind}.index.json"
        if index.is_file():
            wanted = holding(read_index(index), PREFIXES[part])
            files = [path for path in files if path in wanted]
    return files


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _sentence(hub_id: str, error: Exception, begun: bool) -> str:
    server = constants.ENDPOINT
    offline = constants.HF_HUB_OFFLINE
    away = "HF_HUB_OFFLINE forbids the network" if offline else f"the hub ({server}) cannot be reached"
    remedy = "unset it" if offline else "check the connection"
    if isinstance(error, GatedRepoError):
        page = f"{server}/{hub_id.partition('@')[0]}"
        return f"'{hub_id}' is gated: accept its terms on {page}, then log in (hf auth login, or HF_TOKEN)."
    if isinstance(error, RevisionNotFoundError):
        name, _, revision = hub_id.partition("@")
        return f"'{name}' on the hub ({server}) has no revision '{revision}': give a branch, a tag or a commit of it."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"No folder '{hub_id}' exists, and the hub ({server}) has no such model: check the spelling, or log "
            "in if it is private (hf auth login, or HF_TOKEN)."
        )
    if isinstance(error, IncompleteSnapshotError) or (begun and isinstance(error, LocalEntryNotFoundError)):
        return (
            f"Only a part of '{hub_id}' has been downloaded, and {away}: {remedy} and run the same again; the "
            "files that have arrived are kept."
        )
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"No folder '{hub_id}' exists, it has not been downloaded before, and {away}: {remedy}, or give "
            "the path of a copy."
        )
    if isinstance(error, HFValidationError):
        return f"'{hub_id}' is neither a folder nor a hub id (owner/name): check the path."
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    return f"'{hub_id}' cannot be downloaded ({reason}): run the same again; the files that have arrived are kept."
