"""SpeechTokenizer's configuration and tensor names, from https://github.com/ZhangXInFD/SpeechTokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.shared.seanet_codec import codebook_names, network_names

_READ = (
    "n_filters",
    "strides",
    "dimension",
    "semantic_dimension",
    "bidirectional",
    "dilation_base",
    "residual_kernel_size",
    "n_residual_layers",
    "lstm_layers",
    "activation",
    "codebook_size",
    "n_q",
    "sample_rate",
)
_TRAINING = (
    "num_mels",
    "num_freq",
    "n_fft",
    "hop_size",
    "win_size",
    "fmin",
    "fmax",
    "fmax_for_loss",
    "mel_loss_lambdas",
    "recon_loss_lambda",
    "commitment_loss_lambda",
    "distill_loss_lambda",
    "distill_type",
    "semantic_model_path",
    "semantic_model_layer",
    "train_files",
    "valid_files",
    "results_folder",
    "batch_size",
    "epochs",
    "learning_rate",
    "intial_learning_rate",
    "num_warmup_steps",
    "betas",
    "adam_b1",
    "adam_b2",
    "lr_decay",
    "seed",
    "segment_size",
    "wd",
    "num_workers",
    "num_gpus",
    "log_steps",
    "stdout_steps",
    "save_model_steps",
    "num_ckpt_keep",
    "showpiece_num",
)
REFERENCE_KEYS = ReferenceKeys(read=_READ, ignored=dict.fromkeys(_TRAINING, "of the authors' training"))


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration from the authors' `config.json`.

    Raises:
        ConfigError: for unknown keys, missing ones, and an activation that no release has.
    """
    source = "SpeechTokenizer's configuration"
    with REFERENCE_KEYS.reading(config, source=source):
        if config["activation"] not in ("ELU", "Snake"):
            raise ConfigError(f"{source} has activation {config['activation']!r}; expected 'ELU' or 'Snake'")
        return {
            "sample_rate": config["sample_rate"],
            "semantic_dim": config["semantic_dimension"],
            "networks": {
                "channels": config["n_filters"],
                "strides": config["strides"][::-1],
                "dim": config["dimension"],
                "num_residual": config["n_residual_layers"],
                "dilation_base": config["dilation_base"],
                "residual_kernel": config["residual_kernel_size"],
                "lstm_depth": config["lstm_layers"],
                "bidirectional": config["bidirectional"],
                "activation": config["activation"].lower(),
            },
            "num_levels": config["n_q"],
            "quantizer": {"codebook_size": config["codebook_size"], "dim": config["dimension"], "commitment_weight": 1.0, "ema": {}},
        }


KEY_MAP = KeyMap(
    {
        **network_names("encoder.model", "encoder"),
        **network_names("decoder.model", "decoder"),
        **codebook_names("quantizer.vq.layers.{}._codebook", "quantizer.levels.{}"),
        "transform.{*}": "semantic_projection.{*}",
    }
)
