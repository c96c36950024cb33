"""SNAC's configuration and tensor names, from https://github.com/hubertsiuzdak/snac."""

from __future__ import annotations

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

REQUIRED = ("sampling_rate", "encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates", "attn_window_size", "vq_strides")
"""Keys without which a configuration is not that of a release: the defaults of the authors' code are not."""

REFERENCE_KEYS = ReferenceKeys(read=(*REQUIRED, "latent_dim", "codebook_size", "codebook_dim", "noise", "depthwise"))


def _network(theirs: str, ours: str) -> dict[str, str | None]:
    return {
        f"{theirs}.{{}}.rel_pos.inv_freq": None,
        f"{theirs}.{{}}.to_qkv.{{*}}": f"{ours}.{{}}.attention.wqkv.{{*}}",
        f"{theirs}.{{}}.to_out.{{*}}": f"{ours}.{{}}.attention.wo.{{*}}",
        f"{theirs}.{{}}.block.{{}}.block.{{}}.{{*}}": f"{ours}.{{}}.{{}}.{{}}.{{*}}",
        f"{theirs}.{{}}.block.{{}}.{{*}}": f"{ours}.{{}}.{{}}.{{*}}",
        f"{theirs}.{{}}.{{*}}": f"{ours}.{{}}.{{*}}",
    }


KEY_MAP = KeyMap(
    {
        **_network("encoder.block", "encoder"),
        **_network("decoder.model", "decoder"),
        "quantizer.quantizers.{}.in_proj.{*}": "quantizer.levels.{}.project_in.{*}",
        "quantizer.quantizers.{}.out_proj.{*}": "quantizer.levels.{}.project_out.{*}",
        "quantizer.quantizers.{}.codebook.weight": "quantizer.levels.{}.codebook",
    }
)
