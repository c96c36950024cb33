"""A generator as a checkpoint of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from visiontok.base.errors import ConfigError
from visiontok.generators.gpt.model import GPT
from visiontok.generators.gpt.transformers_llama import llama_config, llama_state_dict, suppressed_tokens
from visiontok.hub.card import AnyModel


def export_to_transformers(model: AnyModel, folder: str | Path) -> Path:
    """Write `config.json`, `generation_config.json` and `model.safetensors` that `LlamaForCausalLM.from_pretrained` reads.

    The vocabulary is described by the key `visiontok` of `config.json`: which rows are codes, which are classes, and the tokenizer whose tokens
    they are.

    Args:
        model: a `gpt` that Llama can express.
        folder: made if it is missing; must not hold a model.

    Returns:
        The folder.

    Raises:
        ConfigError: if the model cannot be expressed, with the reason; if the folder holds a model already.
    """
    if not isinstance(model, GPT):
        raise ConfigError(f"a {type(model).__name__} is no causal language model over tokens, so transformers' Llama cannot express it")
    config, folder = llama_config(model), Path(folder)
    if (folder / "config.json").exists():
        raise ConfigError(f"{folder} holds a model already: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    state = llama_state_dict(model)
    length = model.layout.length
    config["dtype"] = str(next(iter(state.values())).dtype).removeprefix("torch.")
    generation = {
        "do_sample": True,
        "min_new_tokens": length,
        "max_new_tokens": length,
        "suppress_tokens": suppressed_tokens(model),
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for name, values in (("generation_config.json", generation), ("config.json", config)):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return folder
