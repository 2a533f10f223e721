"""Which weights a model has: what tells two checkpoints at one path apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..records import digest

#: Files that hold weights, by how their names end.
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
#: Of a model made in memory, how many numbers of each weight are looked at.
_LOOKED_AT = 64
#: What a configuration says of where it was read and by what, not of the model.
_INCIDENTAL = ("transformers_version", "torch_dtype", "dtype")


def weights_identity(model: Any, arguments: Mapping[str, Any]) -> str:
    """A digest of the configuration, and of the weights: size and time of each file, or the hub's revision.

    A model that was made in memory has neither: numbers of every weight stand for it.

    Args:
        model: of transformers.
        arguments: what ``hf`` made it from: ``pretrained``, ``subfolder``, ``peft``, ``delta``.
    """
    config = model.config.to_dict() if hasattr(model, "config") else {}
    said = {name: value for name, value in config.items() if name not in _INCIDENTAL and not name.startswith("_")}
    parts: list[Any] = [said, str(getattr(model, "dtype", ""))]
    pretrained = arguments.get("pretrained")
    if isinstance(pretrained, str):
        folder = Path(pretrained, str(arguments.get("subfolder") or ""))
        parts.append(_files(folder) or getattr(model.config, "_commit_hash", None) or [pretrained, arguments.get("revision")])
        extra = {name: str(arguments[name]) for name in ("peft", "delta") if arguments.get(name)}
        parts += [[name, _files(Path(path)) or path] for name, path in extra.items()]
    else:
        parts.append(_numbers(model))
    return digest("weights", *parts)


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file of weights in a local folder; none where it is no folder."""
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    return [(path.name, (known := path.stat()).st_size, known.st_mtime_ns) for path in found]


def _numbers(model: Any) -> list[Any]:
    found: list[Any] = []
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().reshape(-1) if isinstance(weight, torch.Tensor) else torch.empty(0)
        step = max(1, flat.numel() // _LOOKED_AT)
        held = flat[::step][:_LOOKED_AT] if not flat.is_meta else flat[:0]
        found.append([name, list(flat.shape), held.to("cpu", torch.float64).tolist() if held.numel() else []])
    return found
