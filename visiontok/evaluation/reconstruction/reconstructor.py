"""The reconstructions of a suite: from how many tokens, drawn with which seed, with which texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.noise import SampleNoise
from visiontok.core.quality import MeanAbsoluteError
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch, Texts
from visiontok.evaluation.features.protocol import Protocol, to_uint8
from visiontok.evaluation.metrics.value import Cut
from visiontok.signals import SignalBatch
from visiontok.signals.audio_conversion import resampled
from visiontok.tokens import Latents, TokenLayout, Tokens

Reconstructed: TypeAlias = dict[Cut, tuple[Tokens | Latents, SignalBatch | None]]
"""Part of the tokens -> these tokens, on the CPU, and what they decode to, in the form of the originals; None without a decoder."""


class Reconstructor:
    """A tokenizer with everything that a suite defines about its reconstructions.

    Without a seed it gives its reproducible form: the mode of a posterior, noise that follows from the tokens. With one, every sample has draws
    of its own, which follow from the seed and from the index of the sample in the source; samples are then encoded and decoded one by one, so that
    neither the batch size nor the number of processes changes a draw, and every cut of a sample starts from the same noise.
    """

    def __init__(
        self, tokenizer: Tokenizer[Any], *, name: str, protocol: Protocol | None, texts: Texts | None, max_loss: float | None = None
    ) -> None:
        """Wrap a tokenizer, which must be in evaluation mode whenever it is called.

        Args:
            tokenizer: that is evaluated.
            name: of the model, for errors.
            protocol: rounds decoded images; None for the nearest level.
            texts: of the samples, for tokenizers that read one; None for others.
            max_loss: mean absolute error that as few tokens as possible are to reach; None for all tokens.
        """
        self._tokenizer, self._name, self._protocol, self._texts = tokenizer, name, protocol, texts
        self._target = None if max_loss is None else MeanAbsoluteError(max_loss)

    def __call__(self, loaded: DataBatch, cuts: Sequence[Cut], *, seed: int | None) -> Reconstructed:
        """Reconstruct a batch. The model is given RGB originals as files store them: in 8 bits.

        Raises:
            EvaluationError: if the model returns samples of another size; clips may have another number of frames, of which the first are then
                compared, as many as both have.
            DataError: if a sample has no text.
        """
        texts = None if self._texts is None else self._texts.of(loaded)
        if seed is None:
            return self._reconstruct(loaded.signals, texts, cuts, draw=None)
        single = [
            self._reconstruct(loaded.signals[row : row + 1], texts and texts[row : row + 1], cuts, draw=(seed, index))
            for row, index in enumerate(loaded.indices.tolist())
        ]
        return {cut: _joined([parts[cut] for parts in single]) for cut in cuts}

    def encode(self, loaded: DataBatch) -> Tokens | Latents:
        """All tokens, in the reproducible form, on the CPU."""
        texts = None if self._texts is None else self._texts.of(loaded)
        return self._encode(loaded.signals, None, texts, None).to("cpu")

    def layout(self, size: Sequence[int] | None) -> TokenLayout:
        """Of the tokens of a sample of this size, or of the usual one: models that take any size arrange them by it."""
        text = "" if self._tokenizer.text is not None else None
        return self._tokenizer.encode(self._tokenizer.preprocessing.blank(size), text=text).layout

    def _reconstruct(
        self, originals: SignalBatch, texts: Sequence[str] | None, cuts: Sequence[Cut], *, draw: tuple[int, int] | None
    ) -> Reconstructed:
        whole = self._encode(originals, None, texts, draw)
        found: Reconstructed = {}
        for cut in cuts:
            if cut.levels is not None:
                tokens = whole.levels(cut.levels)
            elif cut.length is None:
                tokens = whole
            elif whole.layout.prefixes != "none":
                tokens = whole.prefix(cut.length)
            else:
                tokens = self._encode(originals, cut.length, texts, draw)
            found[cut] = tokens.to("cpu"), self._decode(tokens, originals, texts, draw)
        return found

    def _encode(self, originals: SignalBatch, length: int | None, texts: Sequence[str] | None, draw: tuple[int, int] | None) -> Tokens | Latents:
        signals = SignalBatch(originals.values.float() / 255, originals.sizes) if originals.values.dtype == torch.uint8 else originals
        noise = None if draw is None else _noise(*draw, "encode")
        return self._tokenizer.encode(signals, num_tokens=length, target=self._target, text=texts, noise=noise)

    def _decode(
        self, tokens: Tokens | Latents, originals: SignalBatch, texts: Sequence[str] | None, draw: tuple[int, int] | None
    ) -> SignalBatch | None:
        tokenizer = self._tokenizer
        given, made = tokenizer.preprocessing.spec, tokenizer.spec
        if not tokenizer.can_decode or not made.is_comparable(given):
            return None
        decoded = tokenizer.decode(tokens, text=texts, noise=None if draw is None else _noise(*draw, "decode"))
        if made.is_resampled(given):
            decoded = self._as_given(decoded, originals)
        if originals.values.dtype != torch.uint8:
            samples = decoded.float().cpu()
        else:
            samples = (to_uint8(decoded.float()) if self._protocol is None else self._protocol.pixels(decoded)).cpu()
        if given.modality == "video" and samples.shape[3:] == originals.values.shape[3:] and samples.shape[2] != originals.values.shape[2]:
            return _common_frames(samples, originals)
        if samples.shape != originals.values.shape:
            sizes = [" x ".join(map(str, side.shape[2:])) for side in (samples, originals.values)]
            raise EvaluationError(f"{self._name} returned samples of {sizes[0]} for originals of {sizes[1]}; set size to what it returns")
        return SignalBatch(samples, originals.sizes)

    def _as_given(self, decoded: Tensor, originals: SignalBatch) -> Tensor:
        """Sounds of a codec that gives another rate than it takes, at the rate and the lengths of the originals."""
        given, made = self._tokenizer.preprocessing.spec.rate, self._tokenizer.spec.rate
        assert given is not None
        assert made is not None
        samples = torch.zeros_like(originals.values)
        for row, size in enumerate(originals.sizes.tolist()):
            whole = decoded[row, :, : self._tokenizer.output_size(size)[0]].float().cpu().numpy()
            sound = torch.from_numpy(resampled(whole, round(made), round(given)))[:, : size[0]]
            samples[row, :, : sound.shape[1]] = sound
        return samples


def _common_frames(samples: Tensor, originals: SignalBatch) -> SignalBatch:
    """Clips (B, C, T', H, W) of another number of frames than their originals, cut to the frames that both have."""
    sizes = originals.sizes.clone()
    sizes[:, 0] = sizes[:, 0].clamp_max(samples.shape[2])
    return SignalBatch(samples[:, :, : int(sizes[:, 0].max())], sizes)


def _noise(seed: int, index: int, stage: Literal["encode", "decode"]) -> SampleNoise:
    """Of one sample."""
    return SampleNoise((seed, int(stage == "decode")), [index])


def _joined(parts: Sequence[tuple[Tokens | Latents, SignalBatch | None]]) -> tuple[Tokens | Latents, SignalBatch | None]:
    tokens: Any = [tokens for tokens, _ in parts]
    signals: list[Tensor] = [signal for _, samples in parts if samples is not None for signal in samples]
    return type(tokens[0]).cat(tokens), SignalBatch.stack(signals) if signals else None
