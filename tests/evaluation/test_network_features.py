import hashlib

import pytest
import torch

from visiontok.base.errors import CheckpointError
from visiontok.evaluation.features import EXTRACTORS, find_extractor
from visiontok.evaluation.features.clip import ClipVitL14At336
from visiontok.evaluation.features.dinov2 import DinoV2VitL14, _resampled
from visiontok.evaluation.features.inception import INCEPTION_WEIGHTS, InceptionV3Compat
from visiontok.evaluation.features.weight_files import LoadedWeights, WeightFile, verified_weights

FILE = WeightFile(name="small.pth", size="1 kB", sha256="", source="https://example.org/small.pth", license="MIT")


def random_images(count: int = 2, side: int = 40) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONTOK_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    find_extractor.cache_clear()
    yield tmp_path
    find_extractor.cache_clear()


@pytest.mark.parametrize("name", [name for name in EXTRACTORS if not name.startswith(("digit", "downsampled", "log-mel", "note"))])
def test_missing_weights_say_what_they_are_and_how_to_get_them(name, no_files):
    with pytest.raises(CheckpointError) as caught:
        find_extractor(name)
    for part in ("MB" if name.startswith(("inception", "i3d", "vggish")) else "GB", "license", "VISIONTOK_WEIGHTS", str(no_files)):
        assert part in str(caught.value)


def test_weights_are_found_by_name_in_both_folders_and_their_digest_is_kept(no_files):
    (no_files / "hub" / "checkpoints").mkdir(parents=True)
    path = no_files / "hub" / "checkpoints" / FILE.name
    torch.save({"weight": torch.ones(2)}, path)
    loaded = verified_weights(FILE)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (no_files / "weights").mkdir()
    torch.save({"weight": torch.zeros(2)}, no_files / "weights" / FILE.name)
    assert torch.equal(verified_weights(FILE).tensors["weight"], torch.zeros(2))
    assert torch.equal(verified_weights(FILE, path).tensors["weight"], torch.ones(2))


def test_another_file_is_refused(tmp_path):
    path = tmp_path / INCEPTION_WEIGHTS.name
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"its SHA-256 is [0-9a-f]{64}, expected 6726825d\.\.\."):
        InceptionV3Compat(path)


@pytest.mark.parametrize("content", [b"not a weight file", None])
def test_unreadable_files_are_refused(tmp_path, content):
    path = tmp_path / FILE.name
    if content is None:
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a readable weight file|expected tensors by name"):
        verified_weights(FILE, path)


def test_clip_embeddings_are_those_of_transformers():
    import transformers

    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=64, intermediate_size=96, projection_dim=24, num_hidden_layers=2, num_attention_heads=1, image_size=28, patch_size=14
    )
    network = transformers.CLIPVisionModelWithProjection(config).eval()
    with_text = {**network.state_dict(), "text_model.final_layer_norm.bias": torch.zeros(4), "logit_scale": torch.zeros(())}
    extractor = ClipVitL14At336(LoadedWeights(with_text, "0" * 64))
    preprocess = transformers.CLIPImageProcessor(size={"height": 28, "width": 28}, do_center_crop=False)
    prepared = preprocess(list(random_images()), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = network(prepared).image_embeds.double()
    torch.testing.assert_close(extractor(random_images()), expected, rtol=2e-2, atol=2e-2)  # transformers may resize with torch, one level off
    assert extractor.title("RBF-MMD") == "CMMD[clip-vit-l14-336]"


def dinov2_tensors(side: int) -> dict[str, torch.Tensor]:
    import timm

    torch.manual_seed(0)
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=side, patch_size=14, embed_dim=128, depth=2, num_heads=2, init_values=0.5, num_classes=0
    )
    return {**network.state_dict(), "mask_token": torch.zeros(1, 128)}


def test_dinov2_features_are_those_of_transformers():
    import transformers

    ours = dinov2_tensors(224)
    config = transformers.Dinov2Config(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14)
    theirs = {
        "embeddings.cls_token": ours["cls_token"],
        "embeddings.mask_token": ours["mask_token"],
        "embeddings.position_embeddings": ours["pos_embed"],
        "layernorm.weight": ours["norm.weight"],
        "layernorm.bias": ours["norm.bias"],
    }
    for part in ("weight", "bias"):
        theirs[f"embeddings.patch_embeddings.projection.{part}"] = ours[f"patch_embed.proj.{part}"]
        for block in range(2):
            here, there = f"blocks.{block}", f"encoder.layer.{block}"
            for name, tensor in zip(("query", "key", "value"), ours[f"{here}.attn.qkv.{part}"].chunk(3), strict=True):
                theirs[f"{there}.attention.attention.{name}.{part}"] = tensor
            theirs[f"{there}.attention.output.dense.{part}"] = ours[f"{here}.attn.proj.{part}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                theirs[f"{there}.{name}.{part}"] = ours[f"{here}.{name}.{part}"]
            for number in (1, 2):
                theirs[f"{there}.layer_scale{number}.lambda1"] = ours[f"{here}.ls{number}.gamma"]
    network = transformers.Dinov2Model(config).eval()
    if any(".q_proj." in key for key in network.state_dict()):  # transformers 5 calls them so
        new = {"attention.attention.query": "attention.q_proj", "attention.attention.key": "attention.k_proj"}
        new |= {"attention.attention.value": "attention.v_proj", "attention.output.dense": "attention.o_proj"}
        theirs = {next((key.replace(old, name) for old, name in new.items() if old in key), key): tensor for key, tensor in theirs.items()}
    network.load_state_dict(theirs)
    extractor = DinoV2VitL14(LoadedWeights(ours, "0" * 64))
    images = random_images(side=224)  # nothing is resized
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = network((images / 255 - mean) / std).pooler_output.double()
    torch.testing.assert_close(extractor(images), expected, rtol=1e-4, atol=1e-4)
    assert extractor.title("FD") == "FD-DINOv2[dinov2-vit-l14]"


def test_positions_of_a_larger_training_size_are_resampled():
    extractor = DinoV2VitL14(LoadedWeights(dinov2_tensors(14 * 20), "0" * 64))
    assert extractor(random_images()).shape == (2, 128)
    smooth = torch.linspace(0, 1, 37).expand(37, 37)[None, :, :, None].reshape(1, 37 * 37, 1)
    resampled = _resampled(torch.cat([torch.full((1, 1, 1), 7.0), smooth], dim=1), grid=16)
    assert resampled.shape == (1, 257, 1)
    assert resampled[0, 0] == 7
    assert (resampled[0, 1:17, 0].diff() > 0).all()


@pytest.mark.parametrize("build", [DinoV2VitL14, ClipVitL14At336, InceptionV3Compat])
def test_weights_of_another_network_are_refused(build):
    with pytest.raises(CheckpointError, match="do not belong to"):
        build(LoadedWeights({"layer": torch.zeros(1)}, "0" * 64))
