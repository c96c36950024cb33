"""A `gpt` as the causal Llama model of `transformers`, which other tools serve and fine-tune; its logits are the same.

One vocabulary holds everything: the codes, then what the condition adds (one row per class and one for no class, or one start token). A sample
begins with one of the latter, and the codes follow in generation order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.generators.backbones import LlamaStack
from visiontok.generators.condition import ClassCondition, ClassEmbedding, NoCondition, StartToken
from visiontok.generators.gpt.embedding import StepEmbedding
from visiontok.generators.gpt.model import GPT
from visiontok.generators.heads import CategoricalHead
from visiontok.layers.llama import LlamaBlock, SwiGLU, swiglu_dim
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import halves_of_pairs

TOKEN_MAP = "visiontok"
"""The key of `config.json` under which the token map lies."""


def why_inexpressible(model: GPT) -> str | None:
    """Why a model is no Llama of `transformers`; None where it is one."""
    config, layout = model.config, model.config.layout
    if layout.is_continuous:
        return "it models continuous latents, and a language model has a vocabulary"
    if config.block != "llama":
        return f"its blocks are those of {config.block!r}"
    if config.positions != "rope-1d":
        return f"its positions are {config.positions!r}, and Llama turns every element by its place in the sequence: train with positions 'rope-1d'"
    if config.pattern != "flatten" or config.inner_head is not None:
        return f"it writes several tokens per step (pattern {config.pattern!r}), and Llama writes one"
    if config.has_end:
        return "its samples end by a code of their own that cannot come first, and Llama allows every token at every position"
    if config.fourier_head is not None:
        return "its head is a Fourier series, and Llama has a logit per token"
    if len(set(layout.code_offsets.tolist())) > 1:
        return "its positions have different codebooks, and Llama allows every token at every position"
    if config.is_modulated:
        return "its class modulates every block, and Llama reads tokens only"
    if not isinstance(config.condition, NoCondition | ClassCondition):
        return f"its condition is {config.condition.type!r}, and Llama reads tokens only"
    if isinstance(config.condition, ClassCondition) and config.condition.start is not None:
        return "a start stands beside its class at positions of its own, and Llama turns every element by its place in the sequence"
    return None


def llama_config(model: GPT) -> dict[str, Any]:
    """The fields of `transformers.LlamaConfig`, and the token map.

    Raises:
        ConfigError: if the model cannot be expressed, with the reason.
    """
    reason = why_inexpressible(model)
    if reason is not None:
        raise ConfigError(f"this {type(model).__name__} cannot be exported to transformers: {reason}")
    config, layout = model.config, model.config.layout
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": layout.num_codes + _condition_rows(model),
        "hidden_size": config.dim,
        "intermediate_size": swiglu_dim(config.dim, config.multiple_of),
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads or config.num_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": 1 + layout.length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        TOKEN_MAP: _token_map(model),
    }


def llama_state_dict(model: GPT) -> dict[str, Tensor]:
    """The tensors under the names of `LlamaForCausalLM`.

    The pairs that rotary positions turn are neighbors here and half a head apart there, so the rows of queries and keys change places. Rows of the
    output that belong to the condition are zero: they are never sampled by us, see `suppressed_tokens`.
    """
    condition, embedding, head = model.condition, model.embedding, model.head
    assert isinstance(condition, StartToken | ClassEmbedding)
    assert isinstance(embedding, StepEmbedding)
    assert isinstance(head, CategoricalHead)
    added = condition.embedding.weight
    state = {
        "model.embed_tokens.weight": torch.cat([embedding.table.weight, added]),
        "lm_head.weight": torch.cat([head.table.weight, torch.zeros_like(added)]),
        **_blocks(model.backbone),
    }
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def suppressed_tokens(model: GPT) -> list[int]:
    """The rows of the vocabulary that are no codes, for `generation_config.json`."""
    codes = model.config.layout.num_codes
    return list(range(codes, codes + _condition_rows(model)))


def _blocks(backbone: LlamaStack) -> dict[str, Tensor]:
    assert isinstance(backbone.norm, RMSNorm)
    state: dict[str, Tensor] = {"model.norm.weight": backbone.norm.weight}
    for number, block in enumerate(backbone.blocks):
        assert isinstance(block, LlamaBlock)
        attention, mlp = block.attention, block.feed_forward
        assert isinstance(mlp, SwiGLU)
        assert isinstance(block.attention_norm, RMSNorm)
        assert isinstance(block.ffn_norm, RMSNorm)
        dim, heads, kv_heads = attention.head_dim, attention.num_heads, attention.num_kv_heads
        query, key, value = attention.wqkv.weight.split([heads * dim, kv_heads * dim, kv_heads * dim])
        own = {
            "self_attn.q_proj": halves_of_pairs(query, dim),
            "self_attn.k_proj": halves_of_pairs(key, dim),
            "self_attn.v_proj": value,
            "self_attn.o_proj": attention.wo.weight,
            "mlp.gate_proj": mlp.w1.weight,
            "mlp.up_proj": mlp.w3.weight,
            "mlp.down_proj": mlp.w2.weight,
            "input_layernorm": block.attention_norm.weight,
            "post_attention_layernorm": block.ffn_norm.weight,
        }
        state |= {f"model.layers.{number}.{name}.weight": tensor for name, tensor in own.items()}
    return state


def _condition_rows(model: GPT) -> int:
    return model.num_classes + 1 if model.num_classes else 1


def _token_map(model: GPT) -> dict[str, Any]:
    codes, classes = model.layout.num_codes, model.num_classes
    found: dict[str, Any] = {
        "codes": [0, codes],
        "classes": [codes, codes + classes],
        "no_condition": codes + classes,
        "samples": f"one token of the condition, then {model.layout.length} codes in generation order",
        "generation_order": model.layout.order,
        "layout": model.layout.to_dict(),
    }
    if model.class_names:
        found["class_names"] = list(model.class_names)
    if model.config.tokenizer is not None:
        found["tokenizer"] = model.config.tokenizer.to_dict()
    return found
