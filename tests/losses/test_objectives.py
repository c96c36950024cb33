from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.losses import ReconstructionConfig, ReconstructionObjective, TeacherCodesConfig
from visiontok.losses.adversarial import LogitLeCam, MeanLeCam, generator_hinge, generator_non_saturating
from visiontok.losses.patchgan import PatchGanConfig
from visiontok.losses.perceptual import ConvNextConfig, LpipsConfig, PerceptualLoss
from visiontok.signals import SignalSpec

GAN = {"weight": 0.5, "start_step": 3, "discriminator": {"type": "blur_pool", "hidden_channels": 32, "num_stages": 1}}


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
    lecam = MeanLeCam(decay=0.75)
    lecam.real_mean.fill_(2.0)
    lecam.fake_mean.fill_(-1.0)
    loss = lecam(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert loss.item() == (2.0 + 1.0) ** 2 + (2.0 - 0.5) ** 2
    assert (lecam.real_mean.item(), lecam.fake_mean.item()) == (2.0, -1.0 + 0.25 * 1.5)


def test_lecam_of_logits_compares_each_of_them_with_averages_that_moved_before():
    lecam = LogitLeCam(decay=0.5)
    real, fake = torch.tensor([3.0, 1.0]), torch.tensor([0.0, 2.0])
    loss = lecam(real, fake)
    assert (lecam.real_mean.item(), lecam.fake_mean.item()) == (1.0, 0.5)
    assert loss.item() == (2.5**2 + 0.5**2) / 2 + (1.0**2 + 0.0) / 2


def test_lecam_follows_its_weight_and_decay():
    objective = ReconstructionConfig.parse({"gan": {**GAN, "lecam_decay": 0.5}}).build()
    assert objective.adversaries["gan"].lecam.decay == 0.5
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
    assert all(parameter.grad is None and parameter.requires_grad for parameter in objective.adversaries["gan"].discriminator.parameters())


class Decoder(torch.nn.Module):
    """A decoder with a last layer; its batch is fixed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 3, padding=1)

    def forward(self) -> torch.Tensor:
        return self.last(self.first(images(0)).relu())


def adaptive(**changes) -> ReconstructionObjective:
    torch.manual_seed(1)
    gan = {**GAN, "start_step": 0, "weight": 0.25, "adaptive": {"last_layer": "last.weight", **changes}}
    return ReconstructionConfig.parse({"reconstruction_weight": 2.0, "gan": gan}).build().eval()


def test_the_adaptive_weight_is_the_ratio_of_the_gradient_norms_at_the_last_layer():
    decoder, objective = Decoder(), adaptive()
    objective.perceptual = Difference()
    objective.attach(decoder)
    terms = objective.generator_terms(decoder(), images(1), {"commitment": torch.tensor(7.0)}, step=0)

    reconstruction = 2.0 * torch.nn.functional.mse_loss(decoder(), images(1)) + 0.1 * Difference()(images(1), decoder())
    generator = generator_hinge(objective.adversaries["gan"].discriminator(decoder()))
    norms = [torch.autograd.grad(loss, decoder.last.weight)[0].norm() for loss in (reconstruction, generator)]
    ratio = norms[0] / (norms[1] + 1e-4)
    torch.testing.assert_close(objective.stats["gan_adaptive_weight"], ratio)
    torch.testing.assert_close(terms["gan"], 0.25 * ratio * generator)
    objective.loss_scale = 1024.0
    objective.generator_terms(decoder(), images(1), {}, step=0)
    torch.testing.assert_close(objective.stats["gan_adaptive_weight"], ratio)
    objective.loss_scale = 1e38  # the gradients overflow
    objective.generator_terms(decoder() * 100, images(1), {}, step=0)
    assert objective.stats["gan_adaptive_weight"] == 0
    sum(terms.values()).backward()  # the graph is still there, and the ratio has no gradient
    assert decoder.first.weight.grad is not None
    capped = adaptive(maximum=ratio.item() / 2)
    capped.attach(decoder)
    capped.generator_terms(decoder(), images(1), {}, step=0)
    torch.testing.assert_close(capped.stats["gan_adaptive_weight"], torch.tensor(ratio.item() / 2))


class Difference(torch.nn.Module):
    def forward(self, target: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        return (target - prediction).abs().sqrt().mean()


def test_an_adaptive_weight_without_a_last_layer_to_read_is_an_error():
    decoder, objective = Decoder(), adaptive()
    with pytest.raises(ConfigError, match="attach"):
        objective.generator_terms(decoder(), images(1), {}, step=0)
    with pytest.raises(ConfigError, match=r"last\.wieght.*last\.weight"):
        adaptive(last_layer="last.wieght").attach(decoder)
    objective.attach(decoder)
    with pytest.raises(ConfigError, match="last_layer"):
        objective.generator_terms(images(0).requires_grad_(True), images(1), {}, step=0)
    decoder.last.requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        objective.generator_terms(decoder(), images(1), {}, step=0)


@pytest.mark.parametrize("discriminator", [GAN["discriminator"], {"type": "patchgan", "channels": 4, "num_layers": 2}])
def test_discriminators_take_any_number_of_channels_any_range_and_videos(discriminator):
    config = ReconstructionConfig.parse({"gan": {**GAN, "start_step": 0, "discriminator": discriminator}})
    depth = 5 * images(0)[:, :1]
    meters = SignalSpec(modality="image", channels=1, low=0.0, high=5.0)
    objective = config.build(meters)
    assert objective.generator_terms(depth, depth, {}, step=0)["gan"].isfinite()
    in_meters, in_unit = (config.build(signal).adversaries["gan"].discriminator.eval() for signal in (meters, meters.replace(high=1.0)))
    in_unit.load_state_dict(in_meters.state_dict())
    torch.testing.assert_close(in_meters(depth), in_unit(images(0)[:, :1]))
    unbounded = config.build(meters.replace(high=None)).adversaries["gan"].discriminator
    assert unbounded(depth).isfinite().all()

    video = torch.rand(2, 3, 4, 24, 24, generator=torch.Generator().manual_seed(3))
    objective = config.build().eval()
    frames = video.transpose(1, 2).flatten(0, 1)
    terms, of_frames = (objective.generator_terms(x, x, {}, step=0) for x in (video, frames))
    torch.testing.assert_close(terms["gan"], of_frames["gan"])


@pytest.mark.parametrize("discriminator", [GAN["discriminator"], {"type": "patchgan"}])
def test_discriminators_of_images_refuse_sound(discriminator):
    config = ReconstructionConfig.parse({"gan": {"discriminator": discriminator}})
    with pytest.raises(ConfigError, match="audio"):
        config.build(SignalSpec(modality="audio", channels=2, low=-1.0, high=1.0, rate=16000))


def test_perceptual_distances_need_rgb_in_a_known_range(tmp_path):
    config = ReconstructionConfig.parse({"perceptual": [{"name": "convnext_s", "weights": str(tmp_path / "absent.pth")}]})
    with pytest.raises(ConfigError, match=r"convnext_s.*1 channels"):
        config.build(SignalSpec(modality="image", channels=1, low=0.0, high=1.0))
    with pytest.raises(ConfigError, match="None"):
        config.build(SignalSpec(modality="image", channels=3, low=0.0))


def test_the_discriminators_loss_is_the_one_of_the_configuration():
    gan = {**GAN, "start_step": 0, "lecam_weight": 0, "discriminator_loss": "logistic", "discriminator_weight": 3.0}
    objective = ReconstructionConfig.parse({"gan": gan}).build().eval()
    real, fake = objective.adversaries["gan"].discriminator(images(1)), objective.adversaries["gan"].discriminator(images(0))
    expected = -(real.sigmoid().log().mean() + (-fake).sigmoid().log().mean()) / 2
    torch.testing.assert_close(objective.discriminator_terms(images(0), images(1), step=0)["discriminator"], 3 * expected)


def test_the_discriminator_learns_to_tell_real_from_fake():
    torch.manual_seed(0)
    objective = ReconstructionConfig.parse({"gan": GAN}).build()
    optimizer = torch.optim.Adam(objective.adversaries["gan"].discriminator.parameters(), lr=1e-3)
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
    torch.testing.assert_close(term, 2 * generator_non_saturating(objective.adversaries["gan"].discriminator(images(0))))


def test_teacher_codes_are_learned_by_cross_entropy():
    logits, codes = torch.randn(2, 10, 4, 4), torch.randint(10, (2, 4, 4))
    terms = TeacherCodesConfig(teacher="any").build().generator_terms(logits, codes, {"commitment": torch.tensor(1.0)}, step=0)
    torch.testing.assert_close(terms["teacher_codes"], torch.nn.functional.cross_entropy(logits.flatten(2), codes.flatten(1)))
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
