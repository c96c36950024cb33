"""Tokenizers that read a text beside the signal: the tokenizer contract, with `text=`."""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import Tensor
from typing_extensions import Self

from visiontok.base.errors import TextError
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.core.model import ConfigT
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer, TokenizerOutput
from visiontok.encoders.text import TextConfig, TextEncoder, TextLike
from visiontok.tokens import Latents, Tokens


class TextTokenizer(Tokenizer[ConfigT]):
    """A tokenizer whose decoder, and perhaps whose encoder, reads text embeddings, which its methods take as an argument.

    Attributes:
        text: the embeddings it reads.
        text_encoder: makes them from strings; None until one is attached. It is neither trained nor saved with the tokenizer.
    """

    text: TextConfig
    text_encoder: TextEncoder | None = None

    # What a family defines, in place of the methods without text.

    def encode_latents(self, signal: Tensor, text: Tensor | None = None) -> Tensor:
        """Signal (B, C, *axes) and text (B, T, E) -> latents (B, *shape, D); the text is None where the encoder reads none."""
        raise NotImplementedError

    def decode_latents(self, latents: Tensor, text: Tensor | None = None) -> Tensor:
        """Latents (B, *shape, D) and text (B, T, E) -> signal, not clamped."""
        raise NotImplementedError

    def decode_prefix(self, latents: Tensor, lengths: Tensor, text: Tensor | None = None) -> Tensor:
        """The first latents of every sample and text (B, T, E) -> signal, not clamped; see `Tokenizer.decode_prefix`."""
        raise NotImplementedError

    # The contract, with the text passed on.

    def attach_text_encoder(self, encoder: TextEncoder | None = None) -> Self:
        """Make strings acceptable as text.

        Args:
            encoder: gives (B, T, E); None loads the one that the configuration names.

        Raises:
            ConfigError: if the configuration names none.
            HubError: if it cannot be had.
            TextError: if it gives embeddings of another shape than the tokenizer reads.
        """
        encoder = encoder or self.text.build()
        if (encoder.length, encoder.dim) != self.text.shape:
            raise TextError(f"this text encoder gives {(encoder.length, encoder.dim)} numbers per text; the tokenizer reads {self.text.shape}")
        self.text_encoder = encoder.to(self.device)
        return self

    def forward(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """Training pass over a signal and its text embeddings (B, T, E); see `Tokenizer.forward`.

        Raises:
            TextError: if there are none, or they have another shape.
        """
        text = self._text_for(text, samples=len(signal), needed=True)
        noise = as_noise(noise, signal.device) if self.training else noise
        quantized = self.quantize(self.encode_latents(signal, text if self.encoder_reads_text else None), step=step, noise=noise)
        latents = quantized.latents
        if self.training and self.nested_dropout is not None:
            lengths = self.nested_dropout.draw(len(latents), latents.shape[1], device=latents.device, noise=noise)
            reconstruction = self.decode_prefix(latents, lengths, text)
        else:
            reconstruction = self.decode_latents(latents, text)
        return self.output(reconstruction, quantized)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        latents = self.encode_latents(signal, options.text if self.encoder_reads_text else None)
        quantized = self.quantizer(latents, noise=options.noise)
        tokens = self.wrap(quantized.latents, quantized.indices)
        return tokens if options.lengths is None or tokens.layout.prefixes == "none" else tokens.prefix(options.lengths)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        if isinstance(tokens, Latents):
            latents = (tokens.view() if tokens.is_full else tokens.values).to(self.dtype)
        else:
            latents = self.lookup(self.unwrap(tokens)) if tokens.is_full else self.codes_of(tokens)
        if tokens.is_full:
            return self.decode_latents(latents, options.text)
        return self.decode_prefix(latents, tokens.sample_lengths, options.text)

    def _text_for(self, text: TextLike | None, *, samples: int, needed: bool) -> Tensor | None:
        length, dim = self.text.shape
        if text is None:
            if not needed:
                return None
            raise TextError(
                f"{type(self).__name__} reads a text beside the signal: pass text= (--text on the command line): embeddings of shape "
                f"({samples}, {length}, {dim}), or strings after attach_text_encoder()"
            )
        if isinstance(text, Tensor):
            if text.ndim != 3 or text.shape[1:] != self.text.shape or not text.is_floating_point():
                raise TextError(f"text embeddings must be floats of shape (B, {length}, {dim}), got {tuple(text.shape)} of {text.dtype}")
            embeddings = text
        elif self.text_encoder is None:
            raise TextError("strings need a text encoder: call attach_text_encoder() first, or pass embeddings")
        else:
            embeddings = self.text_encoder([text] if isinstance(text, str) else list(text))
        if len(embeddings) not in (1, samples):
            raise TextError(f"{len(embeddings)} texts for {samples} samples; give one for each, or one for all")
        return embeddings.to(device=self.device, dtype=self.dtype).expand(samples, -1, -1)


def encodes_with_text(tokenizer: Tokenizer[Any]) -> TypeGuard[TextTokenizer[Any]]:
    """Whether its encoder reads a text: without one it cannot encode."""
    return isinstance(tokenizer, TextTokenizer) and tokenizer.encoder_reads_text
