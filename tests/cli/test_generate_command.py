import numpy as np
import pytest
import torch
from command import refused, succeed
from PIL import Image

import visiontok
from visiontok.base.errors import ConfigError, IdentityError, UnknownNameError
from visiontok.core.identity import identify
from visiontok.data.token_file import TokenFile
from visiontok.generators.eagle.model import EagleDrafter
from visiontok.generators.gpt.model import GPT, GPTConfig

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = visiontok.create(
        "titok", image_size=16, num_latent_tokens=4, encoder=SIZES, decoder=SIZES, quantizer={"type": "vq", "codebook_size": 32, "dim": 4}
    )
    visiontok.save_pretrained(tokenizer, folder / "tokenizer")
    config = {"layout": tokenizer.layout, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8}
    for name, classes in (("classes", ["cat", "dog", "owl"]), ("free", [])):
        generator = GPT(
            GPTConfig.parse(
                {**config, "condition": {"type": "classes", "num_classes": len(classes), "names": classes} if classes else {"type": "none"}}
            )
        )
        torch.nn.init.normal_(generator.head.table.weight)
        visiontok.save_pretrained(generator, folder / name)
        if classes:
            visiontok.save_pretrained(EagleDrafter.of(generator), folder / "eagle")
    return folder


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def arguments(models, *options, model="classes", tokenizer="tokenizer"):
    return ("generate", "--model", models / model, "--tokenizer", models / tokenizer, *options)


def test_writes_images_a_grid_and_tokens(models, tmp_path):
    succeed(*arguments(models, "--class", "dog", "--class", "cat", "--n", 5, "--guidance", 2, "--top-k", 8, "-o", tmp_path / "out"))
    expected = ["00000-class-0001.png", "00001-class-0000.png", "00002-class-0001.png", "00003-class-0000.png", "00004-class-0001.png"]
    assert visible(tmp_path / "out") == [*expected, "grid.png", "tokens.npz"]
    with Image.open(tmp_path / "out" / expected[0]) as image:
        assert image.size == (16, 16)
    saved = TokenFile.read(tmp_path / "out" / "tokens.npz")
    assert saved.labels == (1, 0, 1, 0, 1)
    assert saved.keys == tuple(name.removesuffix(".png") for name in expected)
    with Image.open(tmp_path / "out" / expected[3]) as image:
        decoded = visiontok.from_pretrained(models / "tokenizer").decode(saved.tokens[3:4])[0]
        assert np.array_equal(np.asarray(image), (decoded * 255).round().byte().permute(1, 2, 0).numpy())


def test_the_seed_alone_decides(models, tmp_path):
    for name, seed, batch in (("a", 3, 4), ("b", 3, 3), ("c", 4, 4)):
        succeed(*arguments(models, "--seed", seed, "--batch-size", batch, "--n", 7, "-o", tmp_path / name))
    a, b, c = (TokenFile.read(tmp_path / name / "tokens.npz").tokens.indices for name in "abc")
    assert (a == b).all()
    assert (a != c).any()
    assert (tmp_path / "a" / "grid.png").read_bytes() == (tmp_path / "b" / "grid.png").read_bytes()


def test_one_grid_in_one_file(models, tmp_path):
    for name, batch in (("a", 4), ("b", 3), ("c", 1)):
        result = succeed(*arguments(models, "--class", "dog", "--n", 7, "--seed", 2, "--batch-size", batch, "-o", tmp_path / f"{name}.png"))
    assert "7 images" in result.stdout
    assert visible(tmp_path) == ["a.png", "b.png", "c.png"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    succeed(*arguments(models, "--class", 1, "--n", 7, "--seed", 2, "-o", tmp_path / "by-index"))
    assert (tmp_path / "by-index" / "grid.png").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    "options",
    [("free", "--draft-length", 3), ("free", "--draft-tree", "dynamic"), ("eagle", "--draft-tree", "eagle"), ("eagle", "--draft-length", 2)],
    ids=lambda options: " ".join(map(str, options)),
)
def test_a_drafter_changes_no_greedy_token(models, tmp_path, options):
    drafter, *options = options
    for name, given in (("plain", ()), ("drafted", ("--drafter", models / drafter, *options))):
        result = succeed(*arguments(models, "--top-k", 1, "--n", 5, "--batch-size", 2, *given, "-o", tmp_path / name))
    assert "steps per pass" in result.stdout
    plain, drafted = (TokenFile.read(tmp_path / name / "tokens.npz").tokens.indices for name in ("plain", "drafted"))
    assert (plain == drafted).all()


def test_what_drafts_no_tokens_is_refused(models, tmp_path):
    for wrong in (arguments(models, "--drafter", models / "tokenizer", "-o", tmp_path), arguments(models, "-o", tmp_path, model="eagle")):
        raised = refused(*wrong)
        assert isinstance(raised, ConfigError)
        assert "--drafter" in str(raised)


def test_unconditional(models, tmp_path):
    succeed(*arguments(models, "--n", 2, "-o", tmp_path, model="free"))
    assert visible(tmp_path) == ["00000.png", "00001.png", "grid.png", "tokens.npz"]


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        (["--class", "0", "--class", "3"], ConfigError, "'3'"),
        (["--class", "-1"], UnknownNameError, "-1"),
        (["--class", "cta"], UnknownNameError, "cat"),
        (["--steps", "4"], ConfigError, "--steps"),
        (["--temperature", "0"], ConfigError, "temperature"),
    ],
)
def test_invalid_options(models, tmp_path, options, error, named):
    raised = refused(*arguments(models, *options, "-o", tmp_path / "out"))
    assert isinstance(raised, error)
    assert named in str(raised)
    assert not (tmp_path / "out").exists()


def test_another_tokenizer_of_the_same_layout_is_refused_by_both_names(models, tmp_path):
    generator = visiontok.from_pretrained(models / "classes")
    made_by = identify(visiontok.from_pretrained(models / "tokenizer"), "its-own")
    own = type(generator)(generator.config.replace(tokenizer=made_by.to_dict()))
    visiontok.save_pretrained(own, tmp_path / "generator")
    torch.manual_seed(1)
    tokenizer = visiontok.from_pretrained(models / "tokenizer")
    visiontok.save_pretrained(type(tokenizer)(tokenizer.config), tmp_path / "twin")
    wrong = ("generate", "--model", tmp_path / "generator", "--tokenizer", tmp_path / "twin", "--n", 1, "-o", tmp_path / "out")
    error = refused(*wrong)
    assert isinstance(error, IdentityError)
    assert "its-own" in str(error)
    assert str(tmp_path / "twin") in str(error)
    succeed(*wrong, "--allow-other-tokenizer")
    succeed("generate", "--model", tmp_path / "generator", "--tokenizer", models / "tokenizer", "--n", 1, "-o", tmp_path / "right")


def test_models_that_do_not_belong_together(models, tmp_path):
    swapped = refused(*arguments(models, "-o", tmp_path, model="tokenizer", tokenizer="classes"))
    assert isinstance(swapped, ConfigError)
    assert str(models / "tokenizer") in str(swapped)
    other = visiontok.from_pretrained(models / "tokenizer").config.replace(num_latent_tokens=5).to_dict()
    visiontok.save_pretrained(visiontok.create("titok", **other), tmp_path / "other")
    error = refused(*arguments(models, "-o", tmp_path / "out", tokenizer=tmp_path / "other"))
    assert isinstance(error, ConfigError)
    assert str(tmp_path / "other") in str(error)
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_is_that_of_the_training_by_default(models, tmp_path):
    tokenizer = visiontok.from_pretrained(models / "tokenizer")
    generator = visiontok.from_pretrained(models / "free")
    made_by = identify(tokenizer, str(models / "tokenizer"))
    visiontok.save_pretrained(type(generator)(generator.config.replace(tokenizer=made_by.to_dict())), tmp_path / "generator")
    succeed("generate", "--model", tmp_path / "generator", "--n", 1, "-o", tmp_path / "out")
    assert TokenFile.read(tmp_path / "out" / "tokens.npz").tokenizer == made_by
    unknown = refused("generate", "--model", models / "free", "--n", 1, "-o", tmp_path / "nowhere")
    assert isinstance(unknown, ConfigError)
    assert "--tokenizer" in str(unknown)


def test_captions_and_the_strip_of_steps(models, tmp_path):
    torch.manual_seed(0)
    ordered = visiontok.create(
        "titok",
        image_size=16,
        num_latent_tokens=4,
        encoder=SIZES,
        decoder=SIZES,
        quantizer={"type": "vq", "codebook_size": 32, "dim": 4},
        nested_dropout={"schedule": "uniform"},
    )
    visiontok.save_pretrained(ordered, tmp_path / "ordered")
    text = {"type": "text", "text": {"length": 4, "dim": 8, "encoder": {"type": "hashed_words"}}}
    captioned = GPT(GPTConfig.parse({"layout": ordered.layout, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "condition": text}))
    torch.nn.init.normal_(captioned.head.table.weight)
    visiontok.save_pretrained(captioned, tmp_path / "captioned")
    wanted = ("generate", "--model", tmp_path / "captioned", "--tokenizer", tmp_path / "ordered", "--n", 3, "-o", tmp_path / "out")
    assert "--text" in str(refused(*wanted))
    succeed(*wanted, "--text", "a cat", "--text", "a dog", "--steps-strip")
    with Image.open(tmp_path / "out" / "steps.png") as strip:
        width, height = strip.size
    assert width == height, "three images from 1, 2 and 4 tokens"
    succeed(*wanted[:-1], tmp_path / "strip.png", "--text", "a cat", "--text", "a dog", "--steps-strip")
    assert (tmp_path / "strip.png").read_bytes() == (tmp_path / "out" / "steps.png").read_bytes()
    saved = TokenFile.read(tmp_path / "out" / "tokens.npz").tokens
    assert not torch.equal(saved.indices[0], saved.indices[1])
    assert "prefixes" in str(refused(*arguments(models, "--steps-strip", "-o", tmp_path / "none")))
    assert "--text" in str(refused(*arguments(models, "--text", "a cat", "-o", tmp_path / "none")))
