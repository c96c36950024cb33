"""A grid of tokens between the first VQGAN's nets, with any quantizer: for comparing quantizers when everything else stays equal."""

from __future__ import annotations

from visiontok.tokenizers.shared.taming import TamingConfig, TamingTokenizer


class ConvGrid(TamingTokenizer[TamingConfig]):
    """Encoder, quantizer and decoder as the configuration says; there are no released weights."""

    config_class = TamingConfig
