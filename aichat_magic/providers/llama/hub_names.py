"""Names of models on the Hugging Face Hub, and the files that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ModelFileError, UnknownNameError
from ...text.numbers import byte_size
from ...text.words import shorten

_PREFIX = "hf/"
_EXAMPLE = "local/hf/HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M"
# The Hub's own rule for the two parts of a repository's name (huggingface_hub, `validate_repo_id`, 2026-11).
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# llama.cpp's `gguf-split` names the parts of a model like this, and loads them all when it is given the first.
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf\Z", re.IGNORECASE)
# Files in the same repositories that are no models: projectors of images, and statistics for quantizing.
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
# Half the size of the full model and nearly as good: the quantization that most repositories recommend.
_DEFAULT_QUANT = "Q4_K_M"
_MOST_LISTED = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """A model on the Hub, as the user named it.

    Attributes:
        repo: ``OWNER/REPO``.
        wanted: A quantization such as ``Q4_K_M``, the name of a file, or empty.
    """

    repo: str
    wanted: str

    @classmethod
    def parse(cls, model: str) -> HubModel:
        """Read ``hf/OWNER/REPO``, ``hf/OWNER/REPO:QUANT`` or ``hf/OWNER/REPO:FILE.gguf``.

        Raises:
            UnknownNameError: It is none of these.
        """
        repo, colon, wanted = model.removeprefix(_PREFIX).partition(":")
        if not _REPO.fullmatch(repo) or ".." in repo or bool(colon) != bool(wanted.strip()):
            raise UnknownNameError(
                f"{shorten(f'local/{model}', 80)!r} does not name a model of the Hugging Face Hub. Write "
                f"local/hf/OWNER/REPO:QUANT or local/hf/OWNER/REPO:FILE.gguf, for example {_EXAMPLE}."
            )
        return cls(repo=repo, wanted=wanted.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: Path in the repository.
        size: Its bytes; 0 where that is not known.
    """

    name: str
    size: int = 0


def is_hub_name(model: str) -> bool:
    """Tell whether a name is that of a model on the Hub."""
    return model.startswith(_PREFIX)


def chosen_files(files: Sequence[HubFile], model: HubModel) -> tuple[HubFile, ...]:
    """Return the files that a name stands for: one, or all parts of a model that is split, in order.

    Args:
        files: The files of the repository.
        model: The name.

    Raises:
        ModelFileError: There is no such file, there are several, or a part is missing; the error lists what there is.
    """
    models = _by_model(files)
    if not models:
        raise ModelFileError(
            f"{model.repo} on the Hugging Face Hub has no GGUF file. Look for a repository of the same model whose "
            f"name ends in GGUF: https://huggingface.co/models?library=gguf"
        )
    named = _matching(models, model.wanted)
    if len(named) != 1:
        listed = _listed(models, named or list(models))
        if model.wanted:
            problem = f"has {'several files' if named else 'no file'} for {shorten(model.wanted, 60)!r}"
        else:
            problem = f"has {len(models)} models, and {'more than one' if named else 'none'} is {_DEFAULT_QUANT}"
        raise ModelFileError(
            f"{model.repo} on the Hugging Face Hub {problem}. Name one after a colon "
            f"(local/hf/{model.repo}:FILE.gguf): {listed}"
        )
    parts = models[named[0]]
    if (found := _PART.search(parts[0].name)) and len(parts) != int(found[2]):
        raise ModelFileError(
            f"{model.repo} on the Hugging Face Hub has {len(parts)} of the {int(found[2])} parts of {named[0]}. "
            f"Choose another file: {_listed(models, list(models))}"
        )
    return parts


def parts_of(path: Path) -> list[Path]:
    """Return the files of a model that is split, given one of them; the path itself for one that is not."""
    found = _PART.search(path.name)
    if found is None:
        return [path]
    head, count = path.name[: found.start()], int(found[2])
    return [path.with_name(f"{head}-{number:05d}-of-{found[2]}{path.suffix}") for number in range(1, count + 1)]


def _by_model(files: Sequence[HubFile]) -> dict[str, tuple[HubFile, ...]]:
    """Return the GGUF files by the name of their model, with the parts of a split one in order."""
    models: dict[str, tuple[HubFile, ...]] = {}
    for file in sorted(files, key=lambda file: file.name):
        if file.name.lower().endswith(".gguf") and not _NO_MODEL.search(file.name):
            name = _PART.sub(".gguf", file.name)
            models[name] = (*models.get(name, ()), file)
    return models


def _matching(models: dict[str, tuple[HubFile, ...]], wanted: str) -> list[str]:
    """Return the models that a file's name or a quantization stands for."""
    if wanted.lower().endswith(".gguf"):
        name = _PART.sub(".gguf", wanted).lower()
        return [known for known in models if known.lower() == name] or [
            known for known in models if known.lower().rpartition("/")[2] == name
        ]
    if not wanted and len(models) == 1:
        return list(models)
    # A whole word: Q4_K is not Q4_K_M. Some repositories have a folder for each quantization.
    quant = re.compile(rf"(?:\A|[-._/]){re.escape(wanted or _DEFAULT_QUANT)}(?=[-./])", re.IGNORECASE)
    return [name for name in models if quant.search(name)]


def _listed(models: dict[str, tuple[HubFile, ...]], names: list[str]) -> str:
    """Return the names of models with their sizes, as one line."""
    shown = []
    for name in names[:_MOST_LISTED]:
        size = sum(file.size for file in models[name])
        shown.append(f"{shorten(name, 80)} ({byte_size(size)})" if size else shorten(name, 80))
    more = f", and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"{', '.join(shown)}{more}."
