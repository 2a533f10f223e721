"""What many tests share: an offline world, a tiny causal model in a folder, and the places of real models and documents."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from places import HUB, ROOT, STORIES, present

if TYPE_CHECKING:
    from evaluating import Recorder
    from explaining import Host
    from lm_eval.tasks import TaskManager

    from lm_eval_attrib.records import Failure
    from lm_eval_attrib.settings import Settings


# `python -m pytest` puts the working directory first. There lm_eval_attrib lacks what setuptools' package-dir brings from the
# other folders: the installed package is what is tested.
sys.path[:] = [place for place in sys.path if Path(place or os.curdir).resolve() != ROOT]

# Read by the libraries when they are first imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="datasets-")
atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)

CHAT_TEMPLATE = (
    "{% for turn in messages %}<{{ turn['role'] }}>{{ turn['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test works in a folder of its own: a database's default place, and what programs it starts import first."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def stories() -> Path:
    """A real, tiny Llama (260,032 parameters)."""
    return present(STORIES)


@pytest.fixture(scope="session")
def hub() -> Path:
    """Real benchmark documents under their hub names."""
    return present(HUB)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two blocks that reads bytes, with a chat template: small, and made on the spot."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "</s>", "<pad>", *alphabet]
    bytes_only = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(words)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=CHAT_TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def manager(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    """Finds the tasks of ``tiny_tasks``, and no others."""
    import tiny_tasks
    from lm_eval.tasks import TaskManager

    folder = tiny_tasks.write(tmp_path_factory.mktemp("tasks"))
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Keeps what the seam hands over, and explains nothing."""
    from evaluating import Recorder

    from lm_eval_attrib.explain import collect

    recorder = Recorder()
    monkeypatch.setattr(collect, "explain_run", recorder)
    return recorder


@pytest.fixture
def nothing_remains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test lm_eval is as it was before."""
    import lm_eval.evaluator
    from evaluating import ORIGINAL

    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)  # it starts programs, for seconds
    yield
    gc.collect()
    assert lm_eval.evaluator.evaluate is ORIGINAL


# --- what explaining is given --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def model(tiny: Path) -> Any:
    """The tiny model, loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def tokenizer(tiny: Path) -> Any:
    """The tiny model's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture
def host(model: Any, tokenizer: Any) -> Host:
    """The tiny model as it is after an evaluation."""
    from explaining import Host

    return Host(model, tokenizer)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Explains into a database of the test's own, without graph and checks."""
    from lm_eval_attrib.settings import Settings

    return Settings(db=tmp_path / "runs.duckdb", graph=False, checks=False)


@pytest.fixture
def failures(tokenizer: Any) -> list[Failure]:
    """Twelve wrong choices."""
    from explaining import failure

    return [failure(number, tokenizer) for number in range(12)]
