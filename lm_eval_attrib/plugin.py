"""How lm_eval finds ``attrib-hf``, and how its command line is called.

lm-eval 0.4.12 and 0.4.13 discover no models of other packages. torch calls every entry point of the group ``torch.backends``
when it is imported, and lm_eval imports torch to set its seed before it looks the model up: :func:`autoload` then puts a
lazy placeholder into lm_eval's registry. (Where torch's seed is switched off by ``--seed``, lm_eval imports torch too late:
``lm-eval-attrib run`` is the way then.) Later releases read the entry point group ``lm_eval.models``, which names the same
class; they keep what they find registered.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

MODEL_NAME = "attrib-hf"
TARGET = "lm_eval_attrib.harness.model:AttribHFLM"


def autoload() -> None:
    """Called by ``import torch``. Registers the placeholder while lm_eval is in use, else does nothing; never raises.

    An exception here would break ``import torch`` for every program of the environment, so that none may pass.
    """
    try:
        if lm_eval_in_use():
            register()
        else:
            sys.meta_path.insert(0, _WhenImported())
        if _is_lm_evals_program():
            sys.excepthook = functools.partial(_one_line, sys.excepthook)
    except Exception as error:
        log.warning("%s could not be registered (%s): use `lm-eval-attrib run`.", MODEL_NAME, error)


def lm_eval_in_use() -> bool:
    """Whether this process runs lm_eval: its console script, ``python -m lm_eval`` (also under a launcher), or an import."""
    return "lm_eval" in sys.modules or _is_lm_evals_program()


def _is_lm_evals_program() -> bool:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name.split(".")[0] == "lm_eval":
        return True
    # Before runpy has found the module, argv starts with "-m" and only the interpreter's own arguments name it.
    if ("-m", "lm_eval") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False):
        return True
    folder, name = os.path.split(sys.argv[0] if sys.argv else "")
    if name == "__main__.py":
        name = os.path.basename(folder)
    return os.path.splitext(name)[0] in ("lm_eval", "lm-eval")


class _WhenImported(MetaPathFinder):
    """Registers the placeholder when lm_eval's models are imported later: a program or notebook imported torch first."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """lm_eval's own specification of ``lm_eval.models``, whose loader then also registers; once."""
        if fullname != "lm_eval.models":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                try:
                    register()
                except Exception as error:
                    log.warning("%s could not be registered (%s): use `lm-eval-attrib run`.", MODEL_NAME, error)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _one_line(before: Any, kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """An error that this package raises on purpose says all there is to say: under lm_eval's command line too, in one line."""
    errors = sys.modules.get(f"{__package__}.errors")
    if errors is None or not isinstance(error, errors.AttribError):
        before(kind, error, trace)
        return
    print(f"{MODEL_NAME}: {error}", file=sys.stderr)


def register(target: Any = TARGET) -> None:
    """Put ``attrib-hf`` into lm_eval's registry unless it is there: a lazy placeholder, or the class itself."""
    # lm_eval fills its registry only while it is empty: its own models have to be there before ours.
    import lm_eval.models  # noqa: F401
    from lm_eval.api.registry import model_registry

    if MODEL_NAME not in model_registry:
        model_registry.register(MODEL_NAME, target=target)


def run_lm_eval(arguments: Sequence[str]) -> None:
    """lm_eval's own command line with ``attrib-hf`` registered; ``--model`` need not be said.

    Args:
        arguments: What stands after ``lm_eval``; ``run`` in front of them may be left out, as there.
    """
    from lm_eval.__main__ import cli_evaluate

    given = list(arguments)
    if not given or given[0] not in ("run", "ls", "validate"):
        given.insert(0, "run")
    named = any(word in ("--model", "-M", "--config", "-C", "-h", "--help") or word.startswith("--model=") for word in given)
    if given[0] == "run" and len(given) > 1 and not named:
        given[1:1] = ["--model", MODEL_NAME]
    register()
    before = sys.argv
    sys.argv = ["lm_eval", *given]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
