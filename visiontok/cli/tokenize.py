"""`visiontok tokenize`: encode a data set into a token set of Parquet files."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visiontok.base.errors import ConfigError
from visiontok.base.files import check_writable
from visiontok.cli.clips import ClipLengthOption, ClipOptions, FpsOption, FramesOption, SizeOption
from visiontok.cli.device import DeviceOption, pick_device
from visiontok.cli.model import BandwidthOption, LevelsOption, ModelOption, WindowOption, kept_levels, load_tokenizer, set_window

_PLAIN_SECONDS = 10  # between lines of progress without a terminal


def tokenize(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="digits:train, shapes, folder:PATH, webdataset:PATH/{00..09}.tar, arrays:audio:PATH, ...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder, created if missing.")],
    model: ModelOption,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Samples per batch; of long sounds and clips fewer: 65536 samples or pixels for each.")
    ] = 64,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Samples per Parquet file.")] = 10_000,
    num_workers: Annotated[int | None, typer.Option("--num-workers", min=0, help="Processes that read the data; by default up to 8.")] = None,
    device: DeviceOption = "auto",
    num_quantizers: LevelsOption = None,
    bandwidth: BandwidthOption = None,
    window: WindowOption = None,
    fps: FpsOption = None,
    frames: FramesOption = None,
    clip_length: ClipLengthOption = None,
    size: SizeOption = None,
    flip: Annotated[bool, typer.Option("--flip", help="Also encode every image or clip flipped horizontally.")] = False,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="captions|SENTENCE",
            help="Text of text-conditioned tokenizers: the captions of the data set, or a template with {class_name}. By default captions if "
            "there are any, else 'A photo of a {class_name}.'",
        ),
    ] = None,
) -> None:
    """Encode a data set into a token set of Parquet files.

    A stopped run resumes when the command is repeated. Samples that cannot be read are skipped and listed in _skipped.json. What --clip-length
    cuts is stored clip by clip, "clip.mp4#0", "clip.mp4#1", ...

    \b
    Examples:
      visiontok tokenize digits:train -o tokens/digits --model runs/digits/final
      visiontok tokenize folder:imagenet/train -o tokens/imagenet --model titok-l32 --flip
      visiontok tokenize folder:imagenet/train -o tokens/textok --model runs/textok/final --text 'a photo of a {class_name}'
      visiontok tokenize 'webdataset:cc/{000..003}.tar' -o tokens/cc --model titok-b64 --batch-size 256
      visiontok tokenize arrays:image:images.npz -o tokens/arrays --model titok-b64
      visiontok tokenize folder:sounds -o tokens/sounds --model encodec-24khz --num-quantizers 8
      visiontok tokenize folder:sounds -o tokens/sounds-6kbps --model encodec-24khz --bandwidth 6
      visiontok tokenize 'webdataset:speech/{000..003}.tar' -o tokens/speech --model encodec-24khz
      visiontok tokenize folder:clips -o tokens/clips --model emu3-chat-vq-video --fps 8 --clip-length 16
    """
    from visiontok import registry
    from visiontok.core.identity import identify
    from visiontok.data import TextsConfig
    from visiontok.data.config import describe_source, open_source, parse_source
    from visiontok.data.skips import SkipReport
    from visiontok.data.tokenizing import SKIPPED, tokenize_source
    from visiontok.signals.video_frames import FrameSampling

    check_writable(output)
    config = parse_source(dataset)
    if (fps, frames) != (None, None):
        if "sampling" not in type(config).model_fields:
            raise ConfigError(f"--fps and --frames choose frames of files; {dataset} holds none: omit them")
        config = config.replace(sampling=FrameSampling(fps=fps, frames=frames))
    source = open_source(config)
    typer.echo(describe_source(config, source), err=True)
    options = {"source": "captions"} if text == "captions" else {"source": "class_names", "prompt": text}
    texts = None if text is None else TextsConfig.parse(options, source="--text")
    tokenizer = load_tokenizer(model, pick_device(device))
    ClipOptions(fps, frames, clip_length, size).apply(tokenizer, model)
    set_window(window, tokenizer)
    if tokenizer.encoder_reads_text:
        tokenizer.attach_text_encoder()
    if config.name != "arrays" and tokenizer.preprocessing.in_words:
        typer.echo(tokenizer.preprocessing.in_words, err=True)
    base, _, revision = model.partition("@")
    if not revision and base in registry.checkpoints():
        revision = registry.checkpoints()[base][1].revision
    with _Meter() as meter:
        made = tokenize_source(
            source,
            tokenizer,
            output,
            identity=identify(tokenizer, model, revision=revision or None),
            batch_size=batch_size,
            shard_size=shard_size,
            num_workers=min(8, max(1, (os.cpu_count() or 1) - 1)) if num_workers is None else num_workers,
            num_levels=kept_levels(num_quantizers, bandwidth, tokenizer),
            flip=flip,
            clip_length=clip_length,
            text=texts,
            progress=meter.update,
        )
    shards = made.manifest.shards
    typer.echo(f"{output}: {sum(shards.values())} samples in {len(shards)} shard{'s' if len(shards) != 1 else ''}")
    if made.skipped:
        typer.echo(f"{SkipReport(made.skipped)}\nFull list: {output / SKIPPED}", err=True)


class _Meter:
    """Progress on stderr: a bar on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} samples/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._began: tuple[float, int] | None = None
        self._reported = 0.0

    def __enter__(self) -> _Meter:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began, self._reported = (now, done), now
            self._task = self._bar.add_task("", total=total, completed=done, rate=0.0)
            if 0 < done < total:
                typer.echo(f"Resuming after {done} of {total} samples.", err=True)
            return
        began, first = self._began
        rate = (done - first) / max(now - began, 1e-9)
        self._bar.update(self._task, completed=done, rate=rate)
        if self._bar.disable and (now - self._reported >= _PLAIN_SECONDS or done == total):
            self._reported = now
            left = round((total - done) / max(rate, 1e-9))
            typer.echo(f"{done}/{total} samples, {rate:.1f} samples/s, {left // 60}:{left % 60:02d} left", err=True)
