"""The tokenizer contract: signal -> encoder -> quantizer -> Tokens -> decoder -> signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from visiontok.base.errors import SignalError, TextError, TokenError
from visiontok.base.finite import check_finite
from visiontok.base.noise import NoiseLike, as_noise, selected
from visiontok.base.pytrees import registered
from visiontok.core.model import ConfigT, Model
from visiontok.core.quality import QualityTarget, shortest_lengths
from visiontok.encoders.text import TextConfig, TextEncoder, TextLike
from visiontok.layers.bfloat16 import products_for
from visiontok.layers.nested_dropout import LengthSchedule
from visiontok.quantizers.base import Bottleneck, Quantized, Quantizer
from visiontok.quantizers.perturbation import LatentPerturbation
from visiontok.signals import Preprocessing, SignalBatch, SignalLike, SignalSpec
from visiontok.signals.batch import cropped
from visiontok.tokens import Latents, TokenLayout, Tokens, as_tokens, split_clips, without_clips
from visiontok.tokens.batch import CLIPS, SIGNAL_SIZE


@registered()
@dataclass(frozen=True)
class TokenizerOutput:
    """What `Tokenizer.forward` returns, for training.

    Attributes:
        reconstruction: the signal's shape; not clamped. Decoders that learn to denoise give, in training, what they make of one noisy sample,
            in the space in which they denoise. None for models without a decoder.
        tokens: the tokens (or the continuous latents) of the batch.
        latents: (B, ..., D) what the decoder read.
        losses: the quantizer's weighted terms, and those of a model that defines its own (flow, diffusion).
        stats: values to log.
        target: what the reconstruction is compared with, where that is not the input: models that reconstruct each signal several times.
        passed_through: whether the decoder read unquantized latents, as before a k-means start; the tokens then mean nothing yet.
        first_level: (B, ..., D) what the first level of a residual quantizer gives by itself, for objectives that distill a teacher into it; None
            elsewhere.
    """

    reconstruction: Tensor | None
    tokens: Tokens | Latents
    latents: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    target: Tensor | None = None
    passed_through: bool = False
    first_level: Tensor | None = None


@dataclass(frozen=True)
class EncodeOptions:
    """What a caller asks of `encode`, checked.

    Attributes:
        lengths: (B,) int64 tokens per sample, out of `lengths_supported`; with a target, at most so many. None for all.
        num_levels: codebook levels; None for all.
        target: as few tokens per sample as reach it.
        text: (B, T, E) embeddings; None for tokenizers that read none.
        noise: draws with it; None for the reproducible form.
    """

    lengths: Tensor | None = None
    num_levels: int | None = None
    target: QualityTarget | None = None
    text: Tensor | None = None
    noise: NoiseLike = None

    def rows(self, rows: Tensor) -> EncodeOptions:
        """For some samples of the batch."""
        lengths = None if self.lengths is None else self.lengths[rows]
        text = None if self.text is None else self.text[rows.to(self.text.device)]
        target = None if self.target is None else self.target.rows(rows)
        return replace(self, lengths=lengths, text=text, target=target, noise=selected(self.noise, rows))


@dataclass(frozen=True)
class DecodeOptions:
    """What a caller asks of `decode`, checked.

    Attributes:
        text: (B, T, E) embeddings; None for tokenizers that read none.
        noise: decoders that start from noise draw it here; None for the reproducible form.
    """

    text: Tensor | None = None
    noise: NoiseLike = None

    def rows(self, rows: Tensor) -> DecodeOptions:
        """For some samples of the batch."""
        return replace(self, text=None if self.text is None else self.text[rows.to(self.text.device)], noise=selected(self.noise, rows))


class Tokenizer(Model[ConfigT]):
    """Base of every tokenizer. A family sets `encoder`, `quantizer`, `decoder`, `preprocessing`, `layout` and the methods that it needs.

    Attributes:
        layout: the arrangement of its tokens; at one extent, where it takes signals of any size.
        preprocessing: what happens to a signal before `encode_latents`; its `spec` says what goes in.
        can_decode: whether there is a decoder to signals.
        decoder_extras: names of the extras without which tokens do not decode, such as a clip's own codebook. Generators make none.
        text: the embeddings of a text that the decoder reads beside the tokens; None where it reads none.
        encoder_reads_text: whether the encoder reads them too.
        text_encoder: makes them from strings; None until one is attached. It is neither trained nor saved with the tokenizer.
        nested_dropout: how many tokens are kept at a training step, by families that learn an order of their tokens; None for all.
        perturbation: of the codes that the decoder reads in training; None for none. It is no part of the configuration and is not saved.
    """

    quantizer: Bottleneck
    layout: TokenLayout
    preprocessing: Preprocessing
    can_decode: bool = True
    decoder_extras: tuple[str, ...] = ()
    text: TextConfig | None = None
    encoder_reads_text: bool = False
    text_encoder: TextEncoder | None = None
    nested_dropout: LengthSchedule | None = None
    perturbation: LatentPerturbation | None = None

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.register_forward_pre_hook(_check_signal)

    # What a family defines. Where `text` is not None, the decoder's methods take the embeddings (B, T, E) as one more argument, and so does
    # `encode_latents` where `encoder_reads_text`.

    def encode_latents(self, signal: Tensor) -> Tensor:
        """Encoder only: a signal (B, C, *axes) of a size that the network takes -> latents (B, *shape, D) for the quantizer."""
        raise NotImplementedError

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decoder only: quantized latents (B, *shape, D) -> signal, not clamped."""
        raise NotImplementedError

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """Decoder only, by families with ordered tokens: the first latents of every sample -> signal, not clamped.

        Args:
            latents: (B, L, D); those beyond a sample's length are ignored.
            lengths: (B,) int64 from 1 to L.
        """
        raise NotImplementedError

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """Tokens of signals (B, C, *axes) of one size that the network takes. Families whose tokens depend on the options override this."""
        text = _given(options.text if self.encoder_reads_text else None)
        quantized = self.quantizer(self.encode_latents(signal, *text), noise=options.noise)
        tokens = self.wrap(quantized.latents, quantized.indices)
        return tokens if options.lengths is None or tokens.layout.prefixes == "none" else tokens.prefix(options.lengths)

    def encode_unpadded(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """Tokens of signals (B, C, *axes) of one size, before they are padded. Families that cut long signals override this."""
        padded = self.preprocessing.pad(signal)
        return self.encode_prepared(padded, options) if options.target is None else self.encode_to_target(padded, options)

    def encode_to_target(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """The fewest tokens that reach `options.target`, found by decoding at about log2 of the possible lengths; all where none reaches it.

        Models that know the length from one pass override this.
        """
        target = options.target
        assert target is not None
        whole = self.encode_prepared(signal, replace(options, lengths=None, target=None))
        decoding = DecodeOptions(text=options.text)

        def reached(lengths: Tensor) -> Tensor:
            return target.reached(signal, self.spec.clamp(self.decode_tokens(whole.prefix(lengths), decoding)))

        most = None if options.lengths is None else int(options.lengths.max())
        lengths = [length for length in self.lengths_supported if most is None or length <= most]
        found = shortest_lengths(reached, lengths, batch=len(whole))
        return whole.prefix(found if options.lengths is None else torch.minimum(found, options.lengths))

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Checked tokens of one extent -> signal, not clamped. Families that need more than the codes (positions, extras) override this."""
        text = _given(options.text)
        if isinstance(tokens, Latents):
            if tokens.is_full:
                return self.decode_latents(tokens.view().to(self.dtype), *text)
            return self.decode_prefix(tokens.values.to(self.dtype), tokens.sample_lengths, *text)
        if tokens.is_full:
            return self.decode_latents(self.lookup(self.unwrap(tokens)), *text)
        return self.decode_prefix(self.codes_of(tokens), tokens.sample_lengths, *text)

    def wrap(self, latents: Tensor, indices: Tensor | None) -> Tokens | Latents:
        """Latents (B, *shape, D) and indices (B, *shape) or (B, *shape, codebooks) of one segment as a batch; other layouts override this."""
        layout = self.layout.at(latents.shape[1:-1]) if self.layout.is_variable else self.layout
        if indices is None:
            return Latents(latents.flatten(1, -2), layout)
        return Tokens(indices.flatten(1), layout)

    def unwrap(self, tokens: Tokens) -> Tensor:
        """Indices of full samples of one extent as the quantizer's `lookup` takes them."""
        return tokens.view()

    def quantize(self, latents: Tensor, *, step: int, noise: NoiseLike) -> Quantized:
        """What the decoder reads in a pass of `forward` for latents (B, ..., D): quantized, and in training perturbed."""
        quantized = self.quantizer(latents, noise=noise)
        if self.perturbation is None or not self.quantizer.training:
            return quantized
        return self.perturbation(self.quantizer, latents, quantized, step=step, noise=noise)

    def output(self, reconstruction: Tensor | None, quantized: Quantized) -> TokenizerOutput:
        """What `forward` returns where every latent of `quantized` is a token."""
        tokens = self.wrap(quantized.latents, quantized.indices)
        return TokenizerOutput(
            reconstruction,
            tokens,
            quantized.latents,
            quantized.losses,
            quantized.stats,
            passed_through=quantized.passed_through,
            first_level=quantized.first_level,
        )

    # What a caller uses.

    @property
    def is_stochastic(self) -> bool:
        """Whether encoding or decoding draws where noise is given."""
        return any(isinstance(module, Bottleneck) and module.is_stochastic for module in self.modules())

    @property
    def spec(self) -> SignalSpec:
        """What `decode` gives; families whose output differs in kind from the input (another sample rate) override this."""
        return self.preprocessing.spec

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The exact size of what `decode` gives for a signal of that size; overridden by families whose output differs in size from the input."""
        return tuple(size)

    def target_of(self, signal: Tensor) -> Tensor:
        """What `decode` would give for a signal (B, C, *axes) if nothing were lost; overridden where the output differs in kind from the input."""
        return signal

    @property
    def vocab_size(self) -> int:
        """Codes of every token.

        Raises:
            TokenError: if it writes continuous latents, or tokens of several vocabularies (see `layout.vocab_sizes`).
        """
        return self.layout.vocab_size

    @property
    def lengths_supported(self) -> Sequence[int]:
        """The numbers of tokens per sample that decode, rising: 1 to all for ordered tokens, the listed ones, else only all."""
        prefixes, longest = self.layout.prefixes, self.layout.length
        if isinstance(prefixes, tuple):
            return sorted({*prefixes, longest})
        return range(1, longest + 1) if prefixes == "any" else range(longest, longest + 1)

    @property
    def levels_supported(self) -> Sequence[int]:
        """The numbers of first codebook levels that decode, rising; only all where levels cannot be cut."""
        return [count for count in range(1, self.layout.num_levels + 1) if self.layout.allows_levels(count)]

    def forward(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """Training pass over a preprocessed signal; gradients flow, nothing is clamped.

        A size that is no multiple of the stride is padded, and the reconstruction is cropped back to it.

        Args:
            signal: (B, C, *axes) in the range of `preprocessing.spec`.
            text: (B, T, E) embeddings, for tokenizers that read them.
            step: of training, for what changes over it.
            noise: of all draws; None for torch's global state.

        Raises:
            SignalError: if the signal is no batch of floats with the channels of the spec, or the network takes signals of one size only, and this is
                another.
            TextError: if a text that is read is missing or has another shape, or one is given that nothing reads.
            NonFiniteError: in evaluation, if a weight or a latent is NaN or infinite.
        """
        if not self.training:
            self.check_weights()
        padded = self.preprocessing.pad(signal)
        output = self.forward_padded(padded, text=text, step=step, noise=noise)
        if padded.shape == signal.shape:
            return output
        size = signal.shape[2:]
        reconstruction = None if output.reconstruction is None else cropped(output.reconstruction, self.output_size(size))
        tokens = self._with_size(output.tokens, torch.tensor(size).expand(len(signal), -1))
        return replace(output, reconstruction=reconstruction, tokens=tokens)

    def forward_padded(self, signal: Tensor, *, text: Tensor | None = None, step: int = 0, noise: NoiseLike = None) -> TokenizerOutput:
        """`forward` for a signal of a size that the network takes. Families that train in another way override this."""
        read = _given(self._text_for(text, samples=len(signal), needed=True))
        noise = as_noise(noise, signal.device) if self.training else noise
        quantized = self.quantize(self.encode_latents(signal, *(read if self.encoder_reads_text else ())), step=step, noise=noise)
        latents = quantized.latents
        reconstruction: Tensor | None = None
        if self.training and self.nested_dropout is not None:
            lengths = self.nested_dropout.draw(len(latents), latents.shape[1], device=latents.device, noise=noise)
            reconstruction = self.decode_prefix(latents, lengths, *read)
        elif type(self).decode_latents is not Tokenizer.decode_latents:
            reconstruction = self.decode_latents(latents, *read)
        return self.output(reconstruction, quantized)

    @torch.no_grad()
    def encode(
        self,
        signal: SignalLike | Sequence[SignalLike] | SignalBatch,
        *,
        num_tokens: int | Tensor | None = None,
        num_levels: int | None = None,
        target: QualityTarget | None = None,
        text: TextLike | None = None,
        noise: NoiseLike = None,
    ) -> Tokens | Latents:
        """Signal -> tokens. Deterministic unless noise is given; a sample's tokens do not depend on its batch.

        Args:
            signal: a batch (B, C, *axes) in the range of `preprocessing.spec`, one signal, a file, a list of signals, which may differ in size
                where the model takes any, or what `prepare` gave.
            num_tokens: tokens per sample, one number or (B,) int64, out of `lengths_supported`; None for all.
            num_levels: codebook levels (of residual quantizers); None for all.
            target: as few tokens per sample as reach it; with `num_tokens`, at most so many.
            text: what goes with the signals, for tokenizers that read a text: embeddings (B, T, E), or strings where a text encoder is attached.
            noise: makes models that draw (posteriors) sample with it; without it they give their mode.

        Raises:
            SignalError: if a signal cannot be read, or has a shape or range that the model cannot take.
            TokenError: if the tokenizer does not have the requested length or levels, or has only one length and a target is given.
            TextError: if a text that the encoder reads is missing, or one is given that nothing reads.
            NonFiniteError: if a weight or a latent is NaN or infinite.
        """
        self.check_weights()
        if target is not None and (len(self.lengths_supported) == 1 or not self.can_decode):
            raise TokenError(
                f"a target needs a decoder and tokens of flexible length; this tokenizer always writes {self.lengths_supported[-1]} tokens"
            )
        if num_levels is not None and not self.layout.allows_levels(num_levels):
            raise TokenError(f"this tokenizer cannot write {num_levels} codebook levels; it can write {_in_words(self.levels_supported)}")
        batch = self.prepare(signal)
        options = EncodeOptions(
            lengths=None if num_tokens is None else self._checked_lengths(num_tokens, samples=len(batch)),
            num_levels=num_levels,
            target=target,
            text=self._text_for(text, samples=len(batch), needed=self.encoder_reads_text or target is not None),
            noise=noise,
        )
        parts, rows = [], []
        with products_for(self._anchor):
            for where, values in batch.groups():
                tokens = self.encode_unpadded(values, options if len(where) == len(batch) else options.rows(where))
                if isinstance(tokens, Latents):
                    check_finite(tokens.values, stage="the latents of encode")
                if num_levels is not None:
                    tokens = tokens.levels(num_levels)
                parts.append(self._with_size(tokens, batch.sizes[where]))
                rows.append(where)
        return parts[0] if len(parts) == 1 else type(parts[0]).from_groups(rows, parts)  # type: ignore[arg-type]

    @torch.no_grad()
    def decode(
        self, tokens: Tokens | Latents | Tensor, *, num_levels: int | None = None, text: TextLike | None = None, noise: NoiseLike = None
    ) -> Tensor:
        """Tokens -> signal (B, C, *axes) in the range of `spec`, of the exact size that went into `encode`.

        Samples of different lengths and extents may share a batch; the result is then as large as the largest, with zeros beyond each sample's
        size, which is among the tokens' `extras` as `signal_size`. Of clips that `tokens.join_clips` joined, each is decoded by itself.

        Args:
            tokens: what `encode` gave, perhaps shortened; or a tensor of them in the shape of `tokens.view()`: int64 (B, *positions) or
                (B, *positions, codebooks), floats (B, *positions, D) where they are continuous; see `Tokens.from_view`.
            num_levels: decode the first codebook levels only; None for all that there are.
            text: as for `encode`, for decoders that read one.
            noise: for decoders that draw; without it they decode reproducibly.

        Raises:
            TokenError: if the tokens have another layout, an index is out of range, or this tokenizer has no decoder.
            TextError: if a text that the decoder reads is missing, or one is given that nothing reads.
            NonFiniteError: if a weight or a decoded value is NaN or infinite.
        """
        tokens = as_tokens(tokens, self.layout)
        tokens = tokens if num_levels is None else tokens.levels(num_levels)
        return self.decode_with(tokens, DecodeOptions(text=self._text_for(text, samples=len(tokens), needed=True), noise=noise))

    @torch.no_grad()
    def decode_with(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """`decode` with options that are checked already."""
        if not self.can_decode:
            raise TokenError(f"{type(self).__name__} only encodes: it has no decoder, so its tokens can be read by models but not be shown")
        self.check_weights()
        tokens = self.checked(tokens)
        if CLIPS in tokens.extras:
            if tokens.extras[CLIPS].shape[1] > 1:
                return self._decode_clips(tokens, options)
            tokens = without_clips(tokens)
        signals: list[Tensor] = [torch.empty(0)] * len(tokens)
        with products_for(self._anchor):
            for rows, group in tokens.groups():
                own = options if len(rows) == len(tokens) else options.rows(rows.cpu())
                decoded = self.decode_tokens(group, own)
                check_finite(decoded, stage="the decoded signal")
                values = self.spec.clamp(decoded)
                sizes = group.extras.get(SIGNAL_SIZE)
                if len(rows) == len(tokens) and (sizes is None or bool((sizes == sizes[:1]).all())):
                    return values if sizes is None else cropped(values, self.output_size(sizes[0].tolist()))
                for number, row in enumerate(rows.tolist()):
                    size = values.shape[2:] if sizes is None else self.output_size(sizes[number].tolist())
                    signals[row] = cropped(values[number : number + 1], size)[0]
        return SignalBatch.stack(signals).values

    def _decode_clips(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Samples of joined clips: every clip by itself."""
        signals = []
        for row in range(len(tokens)):
            own = options.rows(torch.tensor([row]))
            (sample,) = [part for _, part in tokens[row : row + 1].groups()]
            signals.append(torch.cat([self.decode_with(clip, own)[0] for clip in split_clips(sample)], dim=1))
        return SignalBatch.stack(signals).values

    def checked(self, tokens: Tokens | Latents) -> Tokens | Latents:
        """The tokens on the model's device, after a check of their layout, indices and extras.

        Raises:
            TokenError: if the tokens have another layout, miss an extra, or an index is out of range.
        """
        if not self.layout.accepts(tokens.layout):
            raise TokenError(f"these tokens come from another tokenizer: their layout is {tokens.layout}, this model's is {self.layout}")
        missing = [name for name in self.decoder_extras if name not in tokens.extras]
        if missing:
            raise TokenError(
                f"these tokens do not have the extras {missing} that {type(self).__name__} decodes with; they have {sorted(tokens.extras)}"
            )
        return tokens.validate().to(self.device)

    def codes_of(self, tokens: Tokens) -> Tensor:
        """(B, L, D) codes of the tokens, in the model's dtype; where a sample has no token, that of index 0, which is to be ignored."""
        return self.lookup(tokens.indices.masked_fill(~tokens.mask, 0))

    def lookup(self, indices: Tensor) -> Tensor:
        """Indices as the quantizer takes them -> codes (..., D), in the model's dtype."""
        assert isinstance(self.quantizer, Quantizer)
        return self.quantizer.lookup(indices).to(self.dtype)

    def embeddings(self, tokens: Tokens) -> Tensor:
        """(B, L, D): the codes of full tokens of one extent, one for every position; several codebooks of a position give one code."""
        return self.lookup(self.unwrap(tokens)).flatten(1, -2)

    def tokens_read(self, tokens: Tokens | Latents) -> Tensor:
        """(B,) int64: visual tokens that a language model reads for each sample; overridden where they are not those that are stored."""
        return tokens.sample_lengths

    def prepare(self, signal: SignalLike | Sequence[SignalLike] | SignalBatch) -> SignalBatch:
        """The signals at their exact sizes, on the model's device and in its dtype; a batch that is prepared already is only moved."""
        batch = signal if isinstance(signal, SignalBatch) else self.preprocessing(signal)
        return batch.to(self.device, self.dtype)

    def attach_text_encoder(self, encoder: TextEncoder | None = None) -> Self:
        """Make strings acceptable as text.

        Args:
            encoder: gives (B, T, E); None loads the one that the configuration names.

        Raises:
            ConfigError: if the configuration names none.
            HubError: if it cannot be had.
            TextError: if the tokenizer reads no text, or embeddings of another shape.
        """
        if self.text is None:
            raise TextError(f"{type(self).__name__} reads no text: it needs no text encoder")
        encoder = encoder or self.text.build()
        if (encoder.length, encoder.dim) != self.text.shape:
            raise TextError(f"this text encoder gives {(encoder.length, encoder.dim)} numbers per text; the tokenizer reads {self.text.shape}")
        self.text_encoder = encoder.to(self.device)
        return self

    def _text_for(self, text: TextLike | None, *, samples: int, needed: bool) -> Tensor | None:
        """The embeddings (B, T, E) for a batch of so many samples; None where none are read."""
        if self.text is None:
            if text is not None:
                raise TextError(f"{type(self).__name__} reads no text, but got {text!r:.60}: omit it")
            return None
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
        check_finite(embeddings, stage="the text embeddings")
        return embeddings.to(device=self.device, dtype=self.dtype).expand(samples, -1, -1)

    def _with_size(self, tokens: Tokens | Latents, sizes: Tensor) -> Tokens | Latents:
        """With the exact sizes (B, A) of the signals among the extras, where the model takes any size."""
        if self.preprocessing.fixed_size is not None or not self.can_decode:
            return tokens
        extras: Mapping[str, Tensor] = {**tokens.extras, SIGNAL_SIZE: sizes.to(tokens.data.device).clone()}
        return tokens.with_data(tokens.data, extras=extras)

    def _checked_lengths(self, num_tokens: int | Tensor, *, samples: int) -> Tensor:
        """(B,) int64."""
        try:
            lengths = torch.as_tensor(num_tokens, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise TokenError(f"num_tokens must be a whole number or have shape ({samples},) and dtype int64, got {num_tokens!r}") from error
        if lengths.is_floating_point() or lengths.dtype == torch.bool or lengths.shape not in ((), (samples,)):
            raise TokenError(f"num_tokens must be a whole number or have shape ({samples},) and dtype int64, got {num_tokens!r}")
        supported = self.lengths_supported
        wrong = [length for length in lengths.flatten().tolist() if length not in supported]
        if wrong:
            raise TokenError(f"this tokenizer cannot write {wrong[0]} tokens; it can write {_in_words(supported)}")
        return lengths.to(torch.int64).expand(samples)


def _given(text: Tensor | None) -> tuple[Tensor, ...]:
    return () if text is None else (text,)


def _check_signal(tokenizer: Tokenizer[Any], inputs: tuple[Any, ...]) -> None:
    """Before a training pass, which prepares nothing."""
    if not inputs:
        return
    signal, spec = inputs[0], tokenizer.preprocessing.spec
    if not isinstance(signal, Tensor):
        raise SignalError(f"a training pass reads a tensor {spec.shape}, got {type(signal).__name__}: use prepare(signal).values, or encode")
    fits = not signal.numel() or (signal.ndim == 2 + len(spec.axes) and signal.shape[1] == spec.channels)
    if not fits or not signal.is_floating_point():
        raise SignalError(f"a training pass reads floats {spec.shape}, got {signal.dtype} {tuple(signal.shape)}")


def _in_words(lengths: Sequence[int]) -> str:
    if len(lengths) == 1:
        return f"{lengths[0]} (it has no other length: its tokens are not ordered)"
    return f"{lengths[0]} to {lengths[-1]}" if isinstance(lengths, range) else ", ".join(map(str, lengths))
