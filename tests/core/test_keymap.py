import pytest
import torch

from visiontok.base.errors import CheckpointError
from visiontok.core.keymap import KeyMap

QKV = KeyMap(
    {"layer.{}.{}.{*}": "blocks.{}.{}.{*}"},
    joined={"blocks.{}.qkv.{*}": ("blocks.{}.q.{*}", "blocks.{}.k.{*}", "blocks.{}.v.{*}")},
)


def layer(number: int, *parts: str) -> dict[str, torch.Tensor]:
    return {f"layer.{number}.{part}.weight": torch.full((2, 3), float(index)) for index, part in enumerate(parts)}


def test_joined_tensors_lie_in_the_order_of_their_parts():
    mapped = QKV({**layer(0, "v", "q", "k", "proj"), **layer(1, "q", "k", "v")})
    assert set(mapped) == {"blocks.0.qkv.weight", "blocks.0.proj.weight", "blocks.1.qkv.weight"}
    assert mapped["blocks.0.qkv.weight"][::2, 0].tolist() == [1.0, 2.0, 0.0]  # q, k, v
    assert mapped["blocks.1.qkv.weight"][::2, 0].tolist() == [0.0, 1.0, 2.0]


def test_a_missing_part_is_named():
    with pytest.raises(CheckpointError, match=r"blocks\.0\.v\.weight"):
        QKV(layer(0, "q", "k"))
