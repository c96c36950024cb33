"""The contract of long signals for clips: several axes, and a first frame that stands by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import TokenError
from visiontok.core.chunks import Chunked, Chunking
from visiontok.layers.carry import Carry
from visiontok.quantizers import FiniteScalarQuantizerConfig
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokens import Segment, TokenLayout, Tokens, join_chunks, join_clips, split_chunks, split_clips


class Sums(Chunked[Config]):
    """Latents are sums over all earlier frames; the first frame is a latent by itself, then every four are one. Sides are halved."""

    config_class = Config

    def __init__(self) -> None:
        super().__init__(Config())
        self.quantizer = FiniteScalarQuantizerConfig(levels=(9, 9, 9)).build()
        self.preprocessing = VideoPreprocessing(frames=ImagePreprocessing(multiple_of=2), num_frames=5, frames_multiple_of=4, first_frame_alone=True)
        segment = Segment(name="grid", shape=(2, 4, 4), vocab_size=729, stride=(4, 2, 2), free_axes=(0, 1, 2))
        self.layout = TokenLayout(modality="video", segments=(segment,), signal_shape=(5, 8, 8))

    @property
    def chunking(self) -> Chunking:
        return Chunking(unit=4, lead=1, is_carried=True, is_exact=True)

    def encode_latents(self, signal: Tensor) -> Tensor:
        return self.encode_next(signal, Carry())

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        last = carry.get(self)
        frames = F.pad(signal, (0, 0, 0, 0, 3, 0), mode="replicate") if last is None else signal
        frames = F.pad(frames, (0, 0, 0, 0, 0, -frames.shape[2] % 4), mode="replicate")
        sums = F.avg_pool3d(frames - 0.5, (4, 2, 2)).cumsum(dim=2) + (0.0 if last is None else last)
        carry.keep(self, sums[:, :, -1:])
        return sums.movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        return self.decode_next(latents, Carry())

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        frames = latents.movedim(-1, 1).repeat_interleave(4, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        before, first = (frames[:, :, :1], 3) if carry.get(self) is None else (carry.get(self), 0)
        carry.keep(self, frames[:, :, -1:])
        return (torch.cat([before, frames[:, :, :-1]], dim=2) + frames)[:, :, first:] / 2 + 0.5


@pytest.mark.parametrize(("frames", "length"), [(17, 4), (18, 5), (33, 16), (3, 1), (1, 9), (40, 3)])
def test_clips_in_chunks_give_what_the_whole_gives(frames: int, length: int) -> None:
    model = Sums().eval()
    clip = torch.rand(2, 3, frames, 7, 10, generator=torch.Generator().manual_seed(frames))
    whole = model.encode(clip)
    parts = list(model.encode_chunks(clip.split(length, dim=2)))
    tokens = join_chunks(parts)
    assert isinstance(tokens, Tokens)
    assert tokens.layout == whole.layout
    assert torch.equal(tokens.indices, whole.indices)
    assert torch.equal(tokens.extras["signal_size"], whole.extras["signal_size"])
    expected = model.decode(whole)
    assert expected.shape == clip.shape
    for chunks in (parts, split_chunks(whole, length)):
        assert torch.equal(torch.cat(list(model.decode_chunks(chunks)), dim=2), expected)


def test_encode_and_decode_take_long_clips_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Sums().eval()
    clips = [torch.rand(3, frames, 7, 10, generator=torch.Generator().manual_seed(frames)) for frames in (30, 33, 9)]
    tokens = model.encode(clips)
    expected, without_sizes = model.decode(tokens), model.decode(model.encode(clips[1][None]).view())
    taken: list[int] = []
    encode_next, decode_next = model.encode_next, model.decode_next
    monkeypatch.setattr(Sums, "chunk_values", 12 * 8 * 10)
    monkeypatch.setattr(model, "encode_next", lambda signal, carry: taken.append(signal.shape[2]) or encode_next(signal, carry))
    monkeypatch.setattr(model, "decode_next", lambda latents, carry: taken.append(4 * latents.shape[1]) or decode_next(latents, carry))
    assert torch.equal(model.encode(clips).indices, tokens.indices)
    assert torch.equal(model.decode(tokens), expected)
    assert torch.equal(model.decode(model.encode(clips[1][None]).view()), without_sizes)
    assert max(taken) <= 12
    model.encode(clips, noise=torch.Generator())  # which a model that does not draw ignores
    assert max(taken) <= 12
    monkeypatch.setattr(Sums, "is_stochastic", True)
    model.encode(clips, noise=torch.Generator())  # whole: draws do not depend on chunks
    assert max(taken) == 33


@pytest.mark.parametrize("counts", [(17, 18, 33), (5,), (1, 9, 1)])
def test_joined_clips_keep_their_boundaries_and_are_decoded_one_by_one(counts: tuple[int, ...]) -> None:
    model = Sums().eval()
    clips = [torch.rand(2, 3, count, 7, 10, generator=torch.Generator().manual_seed(count)) for count in counts]
    parts = [model.encode(clip) for clip in clips]
    joined = join_clips(parts)
    assert joined.extras["signal_size"].tolist() == [[sum(counts), 7, 10]] * 2
    expected = torch.cat([model.decode(part) for part in parts], dim=2)
    assert torch.equal(model.decode(joined), expected)
    for row in range(2):
        for part, again in zip(parts, split_clips(joined[row : row + 1]), strict=True):
            assert torch.equal(again.data, part[row : row + 1].data)
            assert again.layout == part.layout
            assert torch.equal(again.extras["signal_size"], part.extras["signal_size"][row : row + 1])
    if len(counts) > 1:
        assert not torch.equal(join_clips(parts).data, model.encode(torch.cat(clips, dim=2)).data)
        with pytest.raises(TokenError, match="split_clips"):
            list(model.decode_chunks([joined]))
        with pytest.raises(TokenError, match="clips"):
            split_chunks(joined, 4)
    mixed = type(joined).cat([joined, join_clips(parts[:1])])
    assert torch.equal(model.decode(mixed)[2:, :, : counts[0]], model.decode(parts[0]))


def test_boundaries_that_do_not_fit_are_refused() -> None:
    model = Sums().eval()
    joined = join_clips([model.encode(torch.rand(1, 3, count, 8, 8)) for count in (5, 9)])
    for wrong in ([[[5, 2], [9, 2]]], [[[5, 2], [9, -3]]], [[[5, 2, 1], [9, 3, 1]]]):
        tokens = joined.with_data(joined.data, extras={**joined.extras, "clips": torch.tensor(wrong)})
        with pytest.raises(TokenError, match=r"clips|boundaries"):
            model.decode(tokens)
