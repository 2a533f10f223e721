"""Packed weights through the harness: handed on, or refused in one line that says what to do."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import BitsAndBytesConfig
from transformers.quantizers.auto import AutoQuantizationConfig

from lm_eval_attrib.errors import ModelError
from lm_eval_attrib.harness.model import AttribHFLM
from lm_eval_attrib.harness.packed import with_packing


def missing(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if there else None)


@pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])
def test_without_bitsandbytes_there_is_one_line(name: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ModelError, match=f"^{name}=True needs bitsandbytes, which is not installed: pip install") as raised:
        AttribHFLM(str(tiny), device="cpu", attrib_limit=0, **{name: True})
    assert "\n" not in str(raised.value)


def test_with_it_the_old_names_are_one_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, there=True)
    found = with_packing({"dtype": "auto", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    given = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert found == {"dtype": "auto", "quantization_config": given}
    monkeypatch.setattr(BitsAndBytesConfig, "post_init", lambda self: None)
    config = AutoQuantizationConfig.from_dict(given)  # as from_pretrained reads it
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert with_packing({"load_in_4bit": False, "revision": "main"}) == {"revision": "main"}


@pytest.mark.parametrize(
    ("config", "library"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, "gptqmodel"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "optimum"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}}, "compressed.tensors"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "torchao"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_packed_checkpoint_whose_library_is_missing(config: dict[str, Any], library: str, tiny: Path, tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is not None for name in (library.replace(".", "_"), "torchao")):
        pytest.skip(f"{library} is installed")
    packed = shutil.copytree(tiny, tmp_path / "packed")
    known = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps({**known, "quantization_config": config}))
    with pytest.raises(ModelError, match=f"cannot be loaded: .*{library}.* bfloat16 needs no such library") as raised:
        AttribHFLM(str(packed), device="cpu", attrib_limit=0)
    assert "\n" not in str(raised.value)
