"""Models on their way to the Hugging Face hub: the files of a saved model, and a model card with metadata."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nuner_embed.errors import ModelError, RuntimeUnavailable
from nuner_embed.installation import install_command
from nuner_embed.models.directories import CARD_FILE, MARKER_FILE
from nuner_embed.models.snapshot import save_model
from nuner_embed.printable import one_line

LIBRARY: Final = "nuner-embed"
_TASK: Final = "feature-extraction"
_TAGS: Final = ("nuner", "named-entity-recognition", "embeddings")


@dataclass(frozen=True, slots=True)
class Upload:
    """What a push uploads.

    Attributes:
        files: the size in bytes of each file, by its path in the repository.
        card: the text of the model card.
        address: of the commit on the hub; None for a dry run.
    """

    files: dict[str, int]
    card: str
    address: str | None


def push_model(name: str, repo: str, *, public: bool = False, dry_run: bool = False) -> Upload:
    """Uploads a model as one commit to a repository on the hub, which is made if there is none.

    The files are those that `save_model` writes. The card is the model's own card, to which the metadata by which the
    hub finds models are added where they are missing: library, task and tags.

    Args:
        name: see `locate`.
        repo: USER/NAME, or NAME for a repository of the user whose token is used.
        public: make a new repository public; an existing one stays as it is.
        dry_run: say what would be uploaded, without a connection.

    Raises:
        ModelError: there is no such model, it is an exported one, the repository's name is not valid, or the hub
            refused the upload.
        RuntimeUnavailable: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError:
        raise RuntimeUnavailable(f"huggingface_hub is not installed; {install_command('train')}") from None
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ModelError(f"{repo[:100]!r} is no name of a repository, such as USER/NAME: {one_line(error)}") from None
    with tempfile.TemporaryDirectory(prefix="nuner-embed-push-") as work:
        folder = Path(work) / "model"
        save_model(name, folder)
        (folder / MARKER_FILE).unlink()  # it says that nobody changed the directory, and the card will change
        own = folder / CARD_FILE
        title = Path(name).name
        card = _card(own.read_text(encoding="utf-8") if own.is_file() else f"# {title}\n\nA text encoder of NuNER.\n")
        own.write_text(card, encoding="utf-8")
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
        return Upload(files, card, None if dry_run else _upload(folder, repo, public))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _card(text: str) -> str:
    """A card with the metadata that it lacks."""
    from huggingface_hub import ModelCard

    card = ModelCard(text, ignore_metadata_errors=True)
    data: Any = card.data
    data.library_name = data.library_name or LIBRARY
    data.pipeline_tag = data.pipeline_tag or _TASK
    data.tags = list(dict.fromkeys([*(data.tags or ()), *_TAGS]))
    return str(card)


def _upload(folder: Path, repo: str, public: bool) -> str:
    """Makes the repository and the commit; returns the address of the commit."""
    from huggingface_hub import HfApi

    api = HfApi(library_name=LIBRARY)
    try:
        made = api.create_repo(repo, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, commit_message="Upload a model with nuner-embed"
        )
    except Exception as error:  # of the connection, the token, the repository: many classes of several libraries
        reason = one_line(error)
        raise ModelError(
            f"{repo} was not uploaded: {reason}; a token that may write comes from `hf auth login` or HF_TOKEN"
        ) from None
    return str(commit.commit_url)
