"""A tokenizer of clips that needs no training: the mean gray of every patch of two frames, in a few levels."""

from gray_patches import Levels
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.core.tokenizer import Tokenizer
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokens.grid import grid_layout


class GrayClipsConfig(Config):
    levels: int = 17
    rate: float | None = None


class GrayClips(Tokenizer[GrayClipsConfig]):
    config_class = GrayClipsConfig

    def __init__(self, config: GrayClipsConfig | None = None) -> None:
        super().__init__(config or GrayClipsConfig())
        self.quantizer = Levels(self.config.levels)
        self.preprocessing = VideoPreprocessing(frames=ImagePreprocessing(multiple_of=2), frames_multiple_of=2, rate=self.config.rate)
        self.layout = grid_layout((4, 32, 32), stride=2, vocab_size=self.config.levels)
        self.unused = nn.Parameter(nn.init.zeros_(next(self.quantizer.buffers()).new_empty(1)))

    def encode_latents(self, signal: Tensor) -> Tensor:
        return nn.functional.avg_pool3d(signal.mean(dim=1, keepdim=True), 2).movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        clips = latents.movedim(-1, 1)
        for axis in (2, 3, 4):
            clips = clips.repeat_interleave(2, axis)
        return clips.expand(-1, 3, -1, -1, -1)


class LosingFrames(GrayClips):
    """Gives the last two frames of every clip up."""

    def decode(self, tokens, **options):
        return super().decode(tokens, **options)[:, :, :-2]
