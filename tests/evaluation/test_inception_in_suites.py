import pytest
import torch
from gray_patches import GrayPatches

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Suite, evaluate_suite, find_extractor, frechet_distance
from visiontok.evaluation.features import inception
from visiontok.evaluation.features.inception_network import InceptionNetwork
from visiontok.evaluation.features.weight_files import LoadedWeights
from visiontok.evaluation.metrics.moments import Moments


@pytest.fixture
def drawn_weights(monkeypatch):
    torch.manual_seed(0)
    network = InceptionNetwork()
    for name, weight in network.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(weight)  # so that activations keep their size
    loaded = LoadedWeights(network.state_dict(), "0" * 64)
    monkeypatch.setattr(inception, "verified_weights", lambda file, path: loaded)
    find_extractor.cache_clear()
    yield
    find_extractor.cache_clear()


def test_over_inception_features_the_published_names_are_used(drawn_weights):
    values = {"name": "s", "data": {"name": "digits", "split": "test"}, "num_samples": 5, "size": 16, "protocol": "adm"}
    suite = Suite.parse({**values, "metrics": ["frechet", "kernel_distance", "manifold", "inception_score"], "allow_few_samples": True})
    result = evaluate_suite(suite, GrayPatches(), name="gray")
    names = {value.name for value in result.values}
    scores = {"precision", "recall", "density", "coverage"}
    assert names == {f"{name}[inception-v3-compat]" for name in ("FID", "KID", *scores)} | {
        "IS[inception-v3-compat].splits10",
        "IS[inception-v3-compat].blocks5000",
    }
    fid = result.value("FID[inception-v3-compat]")
    assert fid.details["more_samples_than_dimensions"] is False
    assert "tf1-bilinear" in fid.protocol
    assert "protocol adm" in fid.protocol
    assert result.value("IS[inception-v3-compat].splits10").value is None  # five images do not make ten splits
    assert result.value("IS[inception-v3-compat].blocks5000").value >= 1
    with pytest.raises(EvaluationError, match="5 samples cannot estimate the covariance of the 2048 features"):
        evaluate_suite(suite.replace(allow_few_samples=False, metrics=["frechet"]), GrayPatches(), name="gray")


def test_variants_of_the_network_disagree_and_are_told_apart(drawn_weights):
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractors = [find_extractor(name) for name in ("inception-v3-compat", "inception-v3-pytorch-fid", "inception-v3-clean")]
    sides = []
    for extractor in extractors:
        moments = Moments()
        moments.update(extractor(images))
        sides.append(moments.compute())
    assert len({extractor.identity for extractor in extractors}) == len({extractor.protocol for extractor in extractors}) == 3
    for other in sides[1:]:
        assert frechet_distance(sides[0].mean, sides[0].covariance, other.mean, other.covariance) > 0
        assert abs(sides[0].mean - other.mean).mean() > 1e-3 * other.mean.mean()
