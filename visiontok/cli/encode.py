"""`visiontok encode`: images, clips, sound and other signals to tokens."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visiontok.base.files import check_writable
from visiontok.cli.clips import ClipLengthOption, ClipOptions, FpsOption, FramesOption, SizeOption, is_clip, opened_clip
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import (
    BandwidthOption,
    Inputs,
    InputsArgument,
    LevelsOption,
    ModelOption,
    TextOption,
    WindowOption,
    check_files,
    kept_levels,
    load_tokenizer,
    set_window,
)

if TYPE_CHECKING:
    from visiontok.tokens import Latents, Tokens


def encode(
    inputs: InputsArgument,
    model: ModelOption,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file (.npz).")] = Path("tokens.npz"),
    num_quantizers: LevelsOption = None,
    bandwidth: BandwidthOption = None,
    window: WindowOption = None,
    fps: FpsOption = None,
    frames: FramesOption = None,
    clip_length: ClipLengthOption = None,
    size: SizeOption = None,
    text: TextOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Encode images, clips, sound, or arrays of other signals into one token file.

    The file holds the tokens (or continuous latents), their layout, the names of the inputs and the identity of the tokenizer. Inputs that
    cannot be read are skipped and reported, and the exit code is then 1. For whole data sets, see `visiontok tokenize`.

    Clips keep their size where the network takes any, and their frames however far apart these are, unless --fps says otherwise. Long ones go
    through tokenizers that take chunks in chunks. What --clip-length cuts is encoded clip by clip, "clip.mp4#0", "clip.mp4#1", ...

    \b
    Examples:
      visiontok encode photo.jpg --model titok-l32 -o photo.npz
      visiontok encode *.png -m runs/digits/final
      visiontok encode speech.wav --model encodec-24khz --num-quantizers 8 -o speech.npz
      visiontok encode speech.wav --model encodec-24khz --bandwidth 6 -o speech.npz
      visiontok encode clip.mp4 --model emu3-chat-vq-video --fps 8 --frames 64 -o clip.npz
    """
    check_files(inputs, lambda path: _tokenizing(path, model))
    from visiontok.core.identity import identify
    from visiontok.data.token_file import TokenFile

    check_writable(output, file=True)
    tokenizer = load_tokenizer(model, pick_device(device), text=text)
    set_window(window, tokenizer)
    num_levels = kept_levels(num_quantizers, bandwidth, tokenizer)
    clips = ClipOptions(fps, frames, clip_length, size)
    clips.apply(tokenizer, model)
    found = Inputs(inputs, tokenizer)
    keys: list[str] = []
    batches: list[Any] = []
    for path in found:
        with found.skipping():
            if is_clip(path, tokenizer):
                with opened_clip(path, tokenizer, clips) as clip:
                    encoded = list(clip.encoded(num_levels=num_levels))
            else:
                encoded = [(str(path), tokenizer.encode(found.prepared(path), num_levels=num_levels, text=text))]
            keys += [key for key, _ in encoded]
            batches += [tokens for _, tokens in encoded]
    if batches:
        tokens = type(batches[0]).cat(batches)
        TokenFile(tokens, tuple(keys), identify(tokenizer, model)).write(output)
        typer.echo(f"{output}: {_in_words(tokens)}")
    found.finish()


def _tokenizing(path: Path, model: str) -> str:
    """The command that encodes a whole folder or data set."""
    source = str(path) if path.parent.name or path.is_absolute() else f"./{path}"  # a bare name may be that of a built-in data set
    return shlex.join(["visiontok", "tokenize", source, "-o", str(Path("tokens") / path.absolute().stem), "--model", model])


def _in_words(tokens: Tokens | Latents) -> str:
    """`3 x 32 tokens, 384 bits each`; of samples that differ, `3 samples of 12 to 84 tokens`."""
    lengths = tokens.sample_lengths
    fewest, most = int(lengths.min()), int(lengths.max())
    if fewest < most:
        return f"{len(tokens)} samples of {fewest} to {most} tokens"
    layout = tokens.layout
    return f"{len(tokens)} x {most} tokens" + ("" if layout.is_continuous or not tokens.is_full else f", {layout.bits:g} bits each")
