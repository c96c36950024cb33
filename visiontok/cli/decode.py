"""`visiontok decode`: tokens to images, clips, sound and other signals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visiontok.base.errors import TokenError
from visiontok.base.files import check_writable
from visiontok.cli.clips import rate_of, save_clip
from visiontok.cli.completion import complete_tokenizers
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import (
    AllowOtherOption,
    BandwidthOption,
    LevelsOption,
    TextOption,
    WindowOption,
    kept_levels,
    load_tokenizer,
    registered_spelling,
    set_window,
)
from visiontok.cli.output import file_names, save_signal


def decode(
    tokens: Annotated[Path, typer.Argument(metavar="TOKENS", help="A .npz file written by `visiontok encode` or `visiontok generate`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing; for one sample also a file, such as clip.mp4.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Tokenizer that decodes; by default the one named in the file.",
            callback=registered_spelling,
            autocompletion=complete_tokenizers,
        ),
    ] = None,
    num_quantizers: LevelsOption = None,
    bandwidth: BandwidthOption = None,
    window: WindowOption = None,
    fps: Annotated[
        float | None, typer.Option("--fps", min=0.001, max=1000, help="Frames per second of clips; by default as encoded.", metavar="RATE")
    ] = None,
    text: TextOption = None,
    device: DeviceOption = "auto",
    allow_other_tokenizer: AllowOtherOption = False,
) -> None:
    """Decode a token file.

    Writes one file per sample, named after the sample, or the named file: a PNG for images, an mp4 for clips, a wav file for sound, an .npy array
    (channels, ...) for other signals. Clips have the frames and the rate of those that were encoded. Tokens that another tokenizer made are refused.

    \b
    Examples:
      visiontok decode tokens.npz -o images
      visiontok decode tokens.npz --model titok-l32 -o images
      visiontok decode clip.npz --model emu3-chat-vq-video --fps 8 -o decoded
      visiontok decode speech.npz --model encodec-24khz --num-quantizers 2 -o sounds
      visiontok decode speech.npz --model encodec-24khz --bandwidth 3 -o sounds
    """
    from visiontok.core.identity import check_same_tokenizer, identify
    from visiontok.data.token_file import TokenFile
    from visiontok.signals.writing import writer_of

    if tokens.is_dir():
        raise TokenError(
            f"{tokens} is a folder; this command takes an .npz file of `visiontok encode` or `visiontok generate`. Of a token set, decode samples in "
            f"Python: tokenizer.decode(TokenDataset({str(tokens)!r})[0:8].tokens), see docs/tokens.md"
        )
    check_writable(output)
    found = TokenFile.read(tokens)
    name = model or found.tokenizer.name
    tokenizer = load_tokenizer(name, pick_device(device), text=text)
    check_same_tokenizer(found.tokenizer, identify(tokenizer, name), what=str(tokens), allow_other=allow_other_tokenizer)
    set_window(window, tokenizer)
    levels = kept_levels(num_quantizers, bandwidth, tokenizer)
    if levels is not None and bandwidth is not None:
        levels = min(levels, tokenizer.layout.levels_of(found.tokens.layout) or levels)
    kept = found.tokens if levels is None else found.tokens.levels(levels)
    writer = writer_of(tokenizer.spec)
    paths = [output / file_name for file_name in file_names(found.keys, writer.suffix)]
    if output.suffix.lower() == writer.suffix and not output.is_dir():
        if len(paths) > 1:
            raise TokenError(f"{output} is one file, and {tokens} holds {len(paths)} samples: name a folder")
        paths = [output]
    for row, path in enumerate(paths):
        sample = kept[row : row + 1]
        if writer.suffix == ".mp4":
            save_clip(sample, path, tokenizer, rate=fps or rate_of(sample, tokenizer))
        else:
            save_signal(tokenizer.decode(sample, text=text)[0].float(), path, writer)
    typer.echo(f"{len(found.keys)} {writer.noun}{'s' if len(found.keys) != 1 else ''} in {output}")
