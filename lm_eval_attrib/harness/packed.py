"""Weights that are loaded packed (4 or 8 bits): handed on as transformers takes them, or refused in one line."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import ModelError

_ASKED = ("load_in_4bit", "load_in_8bit")


def with_packing(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` in which bitsandbytes' own are one configuration; transformers 5 takes no others.

    Raises:
        ModelError: they ask for bitsandbytes, which is not installed.
    """
    asked = [name for name in _ASKED if arguments.get(name)]
    others = {name: value for name, value in arguments.items() if name not in _ASKED and not name.startswith("bnb_4bit_")}
    if not asked:
        return others
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"{asked[0]}=True needs bitsandbytes, which is not installed: pip install bitsandbytes, or load the weights as "
            f"they are, without {asked[0]}."
        )
    given = {name: value for name, value in arguments.items() if name not in others}
    return {**others, "quantization_config": given}


@contextmanager
def needs_told(pretrained: str) -> Iterator[None]:
    """Turns what loading misses (the library of a packed checkpoint: AWQ, GPTQ, compressed-tensors) into one line.

    Raises:
        ModelError: in the place of an ImportError; says what is missing, and that an unpacked checkpoint needs none of it.
    """
    try:
        yield
    except ImportError as error:
        said = " ".join(str(error).split())
        raise ModelError(
            f"{pretrained} cannot be loaded: {said} A checkpoint of the same model in bfloat16 needs no such library."
        ) from error
