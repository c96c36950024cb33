"""Layouts of published tokenizers, with the numbers that their papers or code state, for the tests of everything that reads a layout."""

from dataclasses import dataclass

from visiontok.tokens import Segment, TokenLayout


@dataclass(frozen=True)
class Published:
    layout: TokenLayout
    length: int
    num_bytes: int  # ceil of the sum of ceil(log2 V) over 8
    bits: float
    codes: int  # ids of a stream without special ones


def image(*segments: Segment, size: int = 256, **options: object) -> TokenLayout:
    return TokenLayout.parse({"modality": "image", "segments": segments, "signal_shape": (size, size), **options})


def _scales(sides: list[int], branch: str, vocab_size: int) -> list[Segment]:
    return [
        Segment(name=f"{branch}.{number}", shape=(side, side), vocab_size=vocab_size, codebook=branch, stride=(256 // side,) * 2)
        for number, side in enumerate(sides)
    ]


FSQ_64K_BITS = 15.965784284662087  # log2 64000

PUBLISHED = {
    "titok": Published(image(Segment(name="latents", shape=(32,), vocab_size=4096)), 32, 48, 384, 4096),
    "llamagen": Published(image(Segment(name="grid", shape=(16, 16), vocab_size=16384, stride=(16, 16))), 256, 448, 3584, 16384),
    "tokenbridge": Published(image(Segment(name="grid", shape=(16, 16), vocab_size=64, codebooks=16, stride=(16, 16))), 4096, 3072, 24576, 16 * 64),
    "robusttok": Published(
        image(*_scales([1, 1, 2, 3, 3, 4, 5, 6, 8, 11], "a", 4096), *_scales([1, 1, 2, 3, 3, 4, 5, 6, 8, 11], "b", 4096)),
        2 * 286,
        2 * 286 * 12 // 8,
        2 * 286 * 12,
        2 * 4096,
    ),
    "flextok": Published(image(Segment(name="registers", shape=(256,), vocab_size=64000), prefixes="any"), 256, 512, 256 * FSQ_64K_BITS, 64000),
    "karl": Published(image(Segment(name="latents", shape=(256,), vocab_size=4096), ragged=True), 256, 384, 3072, 4096),
    "lavit": Published(image(Segment(name="patches", shape=(256,), vocab_size=16384), size=224, ragged=True), 256, 448, 3584, 16384),
    "cosmos": Published(
        TokenLayout(
            modality="video",
            segments=(Segment(name="grid", shape=(3, 32, 32), vocab_size=64000, stride=(8, 8, 8)),),
            signal_shape=(17, 256, 256),
            rate=24.0,
        ),
        3072,
        6144,
        3072 * FSQ_64K_BITS,
        64000,
    ),
    "encodec": Published(
        TokenLayout(
            modality="audio",
            segments=(Segment(name="frames", shape=(75,), vocab_size=1024, codebooks=8, stride=(320,)),),
            signal_shape=(24000,),
            rate=24000.0,
        ),
        600,
        750,
        6000,
        8192,
    ),
    "snac": Published(
        TokenLayout(
            modality="audio",
            segments=(
                Segment(name="coarse", shape=(12,), vocab_size=4096, stride=(2048,)),
                Segment(name="middle", shape=(24,), vocab_size=4096, stride=(1024,)),
                Segment(name="fine", shape=(48,), vocab_size=4096, stride=(512,)),
            ),
            signal_shape=(12 * 2048,),
            rate=24000.0,
            order="depth-first",
        ),
        84,
        126,
        84 * 12,
        3 * 4096,
    ),
    "unitok": Published(image(Segment(name="grid", shape=(16, 16), vocab_size=4096, codebooks=8, stride=(16, 16))), 2048, 3072, 2048 * 12, 8 * 4096),
    "tokenflow": Published(image(*_scales([1, 2, 4, 6, 8, 10, 12, 14, 16], "joint", 32768)), 817, 1532, 817 * 15, 32768),
}
