from pathlib import Path

import pytest

from visiontok.base.errors import ConfigError, DataError, UnknownNameError
from visiontok.base.resources import package_folder
from visiontok.data import open_source
from visiontok.data.packaged_files import PACKAGES
from visiontok.evaluation import GenerationSuite, Suite, list_suites, load_suite
from visiontok.evaluation.suites import load_any_suite

GOOD = {"name": "x", "data": {"name": "digits"}, "metrics": ["mse"]}


def test_the_shipped_suites_are_valid_and_their_data_opens() -> None:
    assert {"digits", "photos"} <= set(list_suites())
    for name in list_suites():
        suite = load_any_suite(name)
        assert suite.name == name
        assert suite.description
        data = suite.data if isinstance(suite, Suite) else suite.reference
        if data.name == "recordings" and not any(map(package_folder, PACKAGES)):  # they come with other packages
            with pytest.raises(DataError, match="pip install"):
                open_source(data)
        else:
            assert len(open_source(data)) > 0
    with pytest.raises(ConfigError, match="digits-generation"):
        load_suite("digits-generation")


def test_a_file_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndata: {name: digits}\nmetrics: [mse, psnr]\n")
    suite = load_suite(path, ["size=64", "bootstrap.resamples=200", "data.split=test"])
    assert (suite.size, suite.bootstrap.resamples, suite.data.split) == (64, 200, "test")


def test_names_of_neither_suite_nor_file() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean digits"):
        load_suite("digit")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_suite("nowhere/mine.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": ["mse"]}, "metric: unknown key"),
        ({"metrics": ["fid"]}, "'fid'"),
        ({"metrics": ["pnsr"]}, "Did you mean psnr"),
        ({"metrcs": ["mse"]}, "did you mean metrics"),
        ({"crop": "centre"}, "did you mean center"),
        ({"lengths": [4, 4]}, "names one twice: 4, 4"),
        ({"lengths": [0]}, "lengths.0"),
        ({"metrics": []}, "metrics"),
        ({"metrics": ["mse", "mse"]}, "names one twice"),
        ({"metrics": ["frechet", "inception"]}, "'inception'"),
        ({"lengths": [4], "max_loss": 0.1}, "max_loss"),
        ({"metrics": ["frechet"]}, "needs at least one of the extractors"),
        ({"metrics": ["classifier"], "extractors": ["downsampled-pixels"]}, "needs an extractor that classifies"),
        ({"extractors": ["inception"]}, "'inception'"),
        ({"batch_size": 0}, "batch_size"),
        ({"data": {"name": "imagenet"}}, "data"),
        ({"data": {"name": "digit"}}, "did you mean digits"),
        ({"data": {"name": "digits", "split": "tset"}}, "did you mean test"),
    ],
)
def test_typos_are_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Suite.parse({**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_order": "cyle"}, "did you mean cycle"),
        ({"reference": None}, "one of the two"),
        ({"statistics": [{"path": "a.npz", "extractor": "digit-classifier"}]}, "one of the two"),
        ({"reference": None, "statistics": [{"path": "a.npz", "extractor": "downsampled-pixels"}]}, "one file for each of the extractors"),
    ],
)
def test_typos_in_suites_of_generated_samples(changes: dict, message: str) -> None:
    good = {"reference": {"name": "digits"}, "size": 16, "extractors": ["digit-classifier"]}
    assert GenerationSuite.parse(good).num_samples is None
    with pytest.raises(ConfigError, match=message):
        GenerationSuite.parse({**good, **changes})


def test_a_file_that_is_no_suite(tmp_path: Path) -> None:
    for text in ("- a\n- b\n", "a: [1\n", "name: 1: 2"):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match="suite"):
            load_suite(path)
