from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.losses import ProxyCodesConfig, ReconstructionConfig
from visiontok.losses.adversarial import LeCam, generator_non_saturating
from visiontok.losses.patchgan import PatchGanConfig
from visiontok.losses.perceptual import ConvNextConfig, LpipsConfig, PerceptualLoss

GAN = {"weight": 0.5, "start_step": 3, "discriminator": {"hidden_channels": 32, "num_stages": 1}}


def images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(seed))


def test_terms_carry_their_weights():
    quantizer = {"commitment": torch.tensor(2.0)}
    plain = ReconstructionConfig().build().generator_terms(images(0), images(1), quantizer, step=0)
    weighted = ReconstructionConfig(reconstruction_weight=3.0, quantizer_weight=0.5).build().generator_terms(images(0), images(1), quantizer, step=0)
    torch.testing.assert_close(weighted["reconstruction"], 3 * plain["reconstruction"])
    assert weighted["commitment"] == 1.0
    l1 = ReconstructionConfig(reconstruction="l1").build().generator_terms(images(0), images(1), {}, step=0)
    torch.testing.assert_close(l1["reconstruction"], (images(0) - images(1)).abs().mean())


def test_lecam_compares_with_averages_that_move_afterwards():
    lecam = LeCam(decay=0.75)
    lecam.real_mean.fill_(2.0)
    lecam.fake_mean.fill_(-1.0)
    loss = lecam(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert loss.item() == (2.0 + 1.0) ** 2 + (2.0 - 0.5) ** 2
    assert (lecam.real_mean.item(), lecam.fake_mean.item()) == (2.0, -1.0 + 0.25 * 1.5)


def test_lecam_follows_its_weight_and_decay():
    objective = ReconstructionConfig.parse({"gan": {**GAN, "lecam_decay": 0.5}}).build()
    assert objective.lecam.decay == 0.5
    without = ReconstructionConfig.parse({"gan": {**GAN, "lecam_weight": 0}}).build()
    assert set(without.discriminator_terms(images(0), images(1), step=3)) == {"discriminator"}


def test_the_discriminator_and_the_generator_wait_for_the_first_step():
    objective = ReconstructionConfig.parse({"gan": GAN}).build()
    assert "gan" not in objective.generator_terms(images(0), images(1), {}, step=2)
    assert objective.discriminator_terms(images(0), images(1), step=2) == {}
    assert "gan" in objective.generator_terms(images(0), images(1), {}, step=3)
    assert set(objective.discriminator_terms(images(0), images(1), step=3)) == {"discriminator", "lecam"}


def test_the_generator_term_leaves_the_discriminator_without_gradients():
    objective = ReconstructionConfig.parse({"gan": GAN}).build()
    prediction = images(0).requires_grad_(True)
    objective.generator_terms(prediction, images(1), {}, step=5)["gan"].backward()
    assert prediction.grad.abs().sum() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in objective.discriminator.parameters())


def test_the_discriminator_learns_to_tell_real_from_fake():
    torch.manual_seed(0)
    objective = ReconstructionConfig.parse({"gan": GAN}).build()
    optimizer = torch.optim.Adam(objective.discriminator.parameters(), lr=1e-3)
    real, fake = images(0), images(1) * 0.3
    losses = []
    for _ in range(30):
        loss = sum(objective.discriminator_terms(fake, real, step=10).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_a_patchgan_has_a_logit_per_patch_and_the_weights_of_pix2pix():
    discriminator = PatchGanConfig().build()
    assert discriminator(torch.rand(1, 3, 64, 64)).shape == (1, 1, 6, 6)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 2_765_633
    assert [layer.kernel_size for layer in discriminator.layers if hasattr(layer, "kernel_size")] == [(4, 4)] * 5


def test_the_non_saturating_loss_reads_the_mean_logit_of_an_image():
    logits = torch.tensor([[3.0, 1.0], [-2.0, 0.0]]).view(2, 1, 1, 2)
    expected = -(torch.tensor([2.0, -1.0]).sigmoid().log()).mean()
    torch.testing.assert_close(generator_non_saturating(logits), expected)
    gan = {"weight": 2.0, "generator_loss": "non_saturating", "discriminator": {"type": "patchgan", "channels": 4, "num_layers": 2}}
    objective = ReconstructionConfig.parse({"gan": gan}).build().eval()
    term = objective.generator_terms(images(0), images(1), {}, step=0)["gan"]
    torch.testing.assert_close(term, 2 * generator_non_saturating(objective.discriminator(images(0))))


def test_proxy_codes_are_learned_by_cross_entropy():
    logits, codes = torch.randn(2, 10, 4, 4), torch.randint(10, (2, 4, 4))
    terms = ProxyCodesConfig(teacher="any").build().generator_terms(logits, codes, {"commitment": torch.tensor(1.0)}, step=0)
    torch.testing.assert_close(terms["proxy_codes"], torch.nn.functional.cross_entropy(logits.flatten(2), codes.flatten(1)))
    assert terms["commitment"] == 1.0


@pytest.mark.parametrize("config", [ConvNextConfig, LpipsConfig])
def test_missing_perceptual_weights_are_an_error_that_names_the_file(config, tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        config(weights=tmp_path / "absent.pth").build()


def test_convnext_distance_is_zero_for_equal_images_and_positive_otherwise(tmp_path):
    from torchvision.models import convnext_small

    torch.manual_seed(0)
    torch.save(convnext_small(weights=None).state_dict(), tmp_path / "weights.pth")
    distance = PerceptualLoss((ConvNextConfig(weights=tmp_path / "weights.pth", weight=2.0),))
    assert distance(images(0), images(0)) == 0
    assert distance(images(0), images(1)) > 0


def test_lpips_takes_the_backbone_from_the_file(tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    backbone = vgg16(weights=None)
    features = {name: tensor for name, tensor in backbone.state_dict().items() if name.startswith("features.")}
    torch.save(features, tmp_path / "weights.pth")
    distance = PerceptualLoss((LpipsConfig(weights=tmp_path / "weights.pth"),))
    assert distance(images(0), images(0)) == 0
    first = distance.distances[0].net.net.slice1[0].weight
    assert torch.equal(first, backbone.features[0].weight)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"layer": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="do not belong"):
        ConvNextConfig(weights=tmp_path / "weights.pth").build()


def test_unknown_keys_are_refused():
    with pytest.raises(ConfigError, match="perceptul"):
        ReconstructionConfig.parse({"perceptul": []})
