"""Batches for training and for evaluation."""

from itertools import islice, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_images import BAD, ListSource, encoded, image
from PIL import Image, ImageOps

from visiontok.base.errors import ConfigError, DataError
from visiontok.data import DataBatch, EvalLoader, LoaderConfig, Skip, SkipReport, Source, TrainLoader, open_source
from visiontok.data.cache import CachedSource
from visiontok.signals import ImagePreprocessing

FIT = ImagePreprocessing(size=8)
CONFIG = LoaderConfig(size=8, batch_size=6, crop="random_scale", flip=True, seed=3)


def images(count: int = 10) -> list[Image.Image | None]:
    return [image(seed) for seed in range(count)]


def train_loader(source: Source, config: LoaderConfig, **options: int) -> TrainLoader:
    return TrainLoader(source, config, preprocessing=ImagePreprocessing(), **options)


def take(loader: TrainLoader, start: int, count: int) -> list[DataBatch]:
    return list(islice(loader.batches(start), count))


def assert_equal(first: list[DataBatch], second: list[DataBatch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.signals.values, other.signals.values)
        assert torch.equal(one.indices, other.indices)
        assert (one.labels is None) == (other.labels is None)
        assert one.labels is None or torch.equal(one.labels, other.labels)
        assert (one.keys, one.captions, one.step, one.skipped) == (other.keys, other.captions, other.step, other.skipped)


# --- training ------------------------------------------------------------------------------------------------------------------------------------


def test_a_batch_holds_what_it_says() -> None:
    batch = take(train_loader(ListSource(images()), CONFIG), 0, 1)[0]
    assert batch.signals.values.shape == (6, 3, 8, 8)
    assert batch.signals.values.dtype == torch.float32
    assert batch.signals.values.is_contiguous()
    assert 0 <= batch.signals.values.min() < batch.signals.values.max() <= 1
    assert batch.labels is not None
    assert torch.equal(batch.labels, batch.indices % 3)
    assert batch.keys == tuple(f"item-{index}" for index in batch.indices.tolist())
    assert batch.captions == tuple(f"number {index}" for index in batch.indices.tolist())
    assert len(batch) == 6
    unlabelled = take(train_loader(ListSource(images(), labels=False), CONFIG), 0, 1)[0]
    assert unlabelled.labels is None


def test_permuted_colors_are_the_same_images_with_channels_exchanged_in_every_order() -> None:
    plain = torch.cat([batch.signals.values for batch in take(train_loader(ListSource(images()), CONFIG), 0, 10)])
    config = CONFIG.replace(permute_colors=True)
    permuted = torch.cat([batch.signals.values for batch in take(train_loader(ListSource(images()), config), 0, 10)])
    orders = {
        next(order for order in permutations(range(3)) if torch.equal(image[list(order)], other))
        for image, other in zip(plain, permuted, strict=True)
    }
    assert orders == set(permutations(range(3)))


def test_a_run_taken_up_at_any_step_sees_the_same_batches() -> None:
    uninterrupted = take(train_loader(ListSource(images()), CONFIG), 0, 12)
    for start in (1, 5, 11):
        assert_equal(take(train_loader(ListSource(images()), CONFIG), start, 12 - start), uninterrupted[start:])
    assert [batch.step for batch in uninterrupted] == list(range(12))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(num_workers: int) -> None:
    source = [*images(5), None, *images(3)]
    alone = take(train_loader(ListSource(source), CONFIG), 2, 5)
    shared = take(train_loader(ListSource(source), CONFIG.replace(num_workers=num_workers)), 2, 5)
    assert_equal(shared, alone)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_same_global_batch(world_size: int) -> None:
    source = [*images(5), None, *images(3)]
    whole = take(train_loader(ListSource(source), CONFIG), 4, 3)
    shares = [take(train_loader(ListSource(source), CONFIG, rank=rank, world_size=world_size), 4, 3) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part.signals.values for part in parts]), batch.signals.values)
        assert tuple(key for part in parts for key in part.keys) == batch.keys
        assert tuple(skip for part in parts for skip in part.skipped) == batch.skipped


def test_augmentation_differs_between_epochs_and_seeds_but_not_without_any() -> None:
    single = ListSource(images(1))
    crops = take(train_loader(single, CONFIG), 0, 1)[0].signals.values
    assert len({crop.numpy().tobytes() for crop in crops}) == 6, "six epochs of one image"
    other = take(train_loader(single, CONFIG.replace(seed=4)), 0, 1)[0].signals.values
    assert not torch.equal(crops, other)
    plain = take(train_loader(single, LoaderConfig(size=8, batch_size=3)), 0, 1)[0].signals.values
    assert torch.equal(plain, FIT([image(0)] * 3).values)


def test_flips_mirror_about_half_of_the_samples() -> None:
    step = np.zeros((8, 8, 3), dtype=np.uint8)
    step[:, 4:] = 255
    batch = take(train_loader(ListSource([Image.fromarray(step)]), LoaderConfig(size=8, batch_size=200, flip=True)), 0, 1)[0]
    mirrored = batch.signals.values[:, 0, 0, 0] == 1
    assert 70 < int(mirrored.sum()) < 130
    assert torch.equal(batch.signals.values[mirrored][0], batch.signals.values[~mirrored][0].flip(-1))


def test_an_unusable_sample_is_replaced_by_the_next_and_reported_once() -> None:
    loader = train_loader(ListSource([*images(3), None, None, *images(2)]), LoaderConfig(size=8, batch_size=7, shuffle=False))
    batches = take(loader, 0, 3)
    for batch in batches:
        assert batch.signals.values.shape == (7, 3, 8, 8)
        assert batch.indices.tolist() == [0, 1, 2, 5, 5, 5, 6]
    assert len(loader.report) == 2
    assert loader.report.kept == [Skip("item-3", "item-3 is damaged"), Skip("item-4", "item-4 is damaged")]
    assert "2 samples skipped" in str(loader.report)


def test_an_image_that_cannot_be_cropped_is_unusable_too() -> None:
    loader = train_loader(ListSource([Image.new("RGB", (2, 40_000)), *images(2)]), LoaderConfig(size=128, batch_size=3, shuffle=False))
    assert take(loader, 0, 1)[0].indices.tolist() == [1, 1, 2]
    assert "40000 x 2 pixels" in str(loader.report)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_source_where_nothing_is_usable_is_one_clear_error(num_workers: int) -> None:
    loader = train_loader(ListSource([None] * 5), CONFIG.replace(num_workers=num_workers))
    with pytest.raises(DataError, match=r"none of 5 .*item-\d is damaged"):
        take(loader, 0, 1)


def test_small_sets_are_decoded_once_and_the_budget_is_kept() -> None:
    source = ListSource(images(4))
    take(train_loader(source, CONFIG), 0, 10)
    assert source.reads == 4
    source.reads = 0
    tight = CachedSource(source, ImageOps.mirror, max_bytes=2 * 3 * 24 * 16)
    for _ in range(3):
        assert [tight.read(index).key for index in range(4)] == ["item-0", "item-1", "item-2", "item-3"]
        assert all(np.array_equal(tight.read(index).signal, ImageOps.mirror(image(index))) for index in (0, 1))
    assert source.reads == 4 + 2 + 2, "two fit"
    assert (len(tight), tight.key(1), tight.identity) == (4, "item-1", "list-4")


def test_loading_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    take(train_loader(ListSource(images()), CONFIG), 0, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_batches_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 6 does not divide into 4 processes"):
        train_loader(ListSource(images()), CONFIG, world_size=4)
    with pytest.raises(DataError, match="no sample"):
        train_loader(ListSource([]), CONFIG)
    assert train_loader(ListSource(images(9)), CONFIG).steps_per_epoch == 1.5


# --- evaluation ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_sees_every_sample_once_in_order(num_workers: int) -> None:
    batches = list(EvalLoader(ListSource(images(10)), preprocessing=FIT, batch_size=4, num_workers=num_workers))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(10))
    assert torch.equal(torch.cat([batch.signals.values for batch in batches]), FIT(images(10)).values)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 12])
def test_shares_of_an_evaluation_are_the_whole_without_padding(world_size: int) -> None:
    source = ListSource([*images(5), None, *images(4)])
    loaders = [EvalLoader(source, preprocessing=FIT, batch_size=3, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [batch for loader in loaders for batch in loader]
    assert torch.cat([batch.indices for batch in batches]).tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    total = SkipReport()
    for loader in loaders:
        total.update(loader.report.kept)
    assert [skip.key for skip in total.kept] == ["item-5"]


def test_a_part_of_the_source_can_be_gone_through() -> None:
    loader = EvalLoader(ListSource(images(10)), preprocessing=FIT, batch_size=4)
    assert [batch.indices.tolist() for batch in loader.batches(range(7, 10))] == [[7, 8, 9]]
    assert list(loader.batches(range(0))) == []


def test_skipped_samples_are_left_out_and_an_unusable_source_is_an_error() -> None:
    loader = EvalLoader(ListSource([None, None, *images(1)]), preprocessing=FIT, batch_size=2)
    assert [batch.indices.tolist() for batch in loader] == [[2]]
    assert len(loader.report) == 2
    assert list(loader.batches(range(2))) == [], "a part may be unusable"
    with pytest.raises(DataError, match="none of the 2 samples can be used; the last: item-1 is damaged"):
        list(EvalLoader(ListSource([None, None]), preprocessing=FIT, batch_size=4))


def test_images_of_different_sizes_share_a_batch_where_the_size_is_kept() -> None:
    source = ListSource([image(0, (24, 16)), image(1, (32, 16)), image(2, (6, 3))])
    (batch,) = EvalLoader(source, preprocessing=ImagePreprocessing(multiple_of=8), batch_size=3)
    assert batch.signals.sizes.tolist() == [[16, 24], [16, 32], [3, 6]]
    for signal, size in zip(batch.signals, [(24, 16), (32, 16), (6, 3)], strict=True):
        assert signal.shape == (3, *reversed(size))
    assert torch.equal(next(iter(batch.signals)), ImagePreprocessing()(image(0, (24, 16))).values[0])


def test_bad_files_end_no_epoch_and_are_named_at_its_end(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    for name, data in BAD.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    source = open_source(f"folder:{tmp_path}")
    evaluation = EvalLoader(source, preprocessing=FIT, batch_size=3)
    assert sum(len(batch) for batch in evaluation) == 5
    training = train_loader(source, CONFIG)
    assert all(len(batch) == 6 for batch in take(training, 0, 4))
    for report in (evaluation.report, training.report):
        assert len(report) == 3
        assert all(f"{name}.png" in str(report) for name in BAD)


# --- the report ----------------------------------------------------------------------------------------------------------------------------------


def test_a_long_report_keeps_the_first_and_counts_all() -> None:
    report = SkipReport((Skip(f"k{number}", "damaged") for number in range(30)), keep=5)
    report.update([Skip("k0", "again")])
    assert len(report) == 30
    assert str(report).splitlines() == ["30 samples skipped:", *(f"  k{number}: damaged" for number in range(5)), "  ... and 25 more"]
    assert str(SkipReport()) == "no sample was skipped"
