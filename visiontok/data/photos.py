"""The photographs that the wheels of scikit-image and scikit-learn carry: 16, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from visiontok.base.config import Config
from visiontok.base.errors import DataError
from visiontok.base.modality import Modality
from visiontok.base.resources import package_folder
from visiontok.data.named_files import NamedFiles
from visiontok.data.skips import Skip
from visiontok.data.source import Sample
from visiontok.signals.image_reading import read_image

_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")

# Height x width. Textures, drawings, masks, phantoms and microscopy of single cells, which the wheels hold too, are not used.
_TRAIN = {
    "astronaut": (*_SKIMAGE, "astronaut.png"),  # 512 x 512, portrait
    "coins": (*_SKIMAGE, "coins.png"),  # 303 x 384, gray
    "flower": (*_SKLEARN, "flower.jpg"),  # 427 x 640
    "hubble": (*_SKIMAGE, "hubble_deep_field.jpg"),  # 872 x 1000, galaxies
    "ihc": (*_SKIMAGE, "ihc.png"),  # 512 x 512, stained tissue
    "moon": (*_SKIMAGE, "moon.png"),  # 512 x 512, gray
    "motorcycle-left": (*_SKIMAGE, "motorcycle_left.png"),  # 500 x 741, a garage; the right view shows the same, so both train
    "motorcycle-right": (*_SKIMAGE, "motorcycle_right.png"),  # 500 x 741
    "page": (*_SKIMAGE, "page.png"),  # 191 x 384, gray, print
    "retina": (*_SKIMAGE, "retina.jpg"),  # 1411 x 1411
    "rocket": (*_SKIMAGE, "rocket.jpg"),  # 427 x 640, night
    "text": (*_SKIMAGE, "text.png"),  # 172 x 448, gray, handwriting
}
_HELDOUT = {
    "camera": (*_SKIMAGE, "camera.png"),  # 512 x 512, gray, a man on a lawn
    "chelsea": (*_SKIMAGE, "chelsea.png"),  # 300 x 451, a cat
    "china": (*_SKLEARN, "china.jpg"),  # 427 x 640, a pagoda over a lake: fine detail
    "coffee": (*_SKIMAGE, "coffee.png"),  # 400 x 600, a cup on wood
}
_TEXTURES = {
    "brick": (*_SKIMAGE, "brick.png"),  # 512 x 512, gray
    "grass": (*_SKIMAGE, "grass.png"),  # 512 x 512, gray
    "gravel": (*_SKIMAGE, "gravel.png"),  # 512 x 512, gray
}


class PhotosConfig(Config):
    """The built-in photographs.

    Attributes:
        split: fixed by name. "heldout" are camera, chelsea, china and coffee: a person, an animal, a landscape and a still life, one of them gray.
        textures: add the three gray surfaces brick, grass and gravel to "train" and "all".
    """

    name: Literal["photos"] = "photos"
    split: Literal["train", "heldout", "all"] = "train"
    textures: bool = False


class PhotosSource(NamedFiles):
    """Whole photographs, gray ones included; the loaders crop them. A photograph that the installed wheels lack is reported as skipped."""

    modality: Modality = "image"

    def __init__(self, config: PhotosConfig) -> None:
        chosen = {"train": _TRAIN, "heldout": _HELDOUT, "all": _TRAIN | _HELDOUT}[config.split]
        if config.textures and config.split != "heldout":
            chosen = chosen | _TEXTURES
        paths = {name: _folder_of(package) / folder / file for name, (package, folder, file) in sorted(chosen.items())}
        super().__init__("photos", {name: path for name, path in paths.items() if path.is_file()})
        self.skipped = tuple(Skip(name, f"the photograph {path} is not installed") for name, path in paths.items() if name not in self._paths)
        if not len(self):
            raise DataError("the installed scikit-image and scikit-learn carry none of the built-in photographs; install their wheels")

    def read(self, index: int) -> Sample:
        name = self.key(index)
        return Sample(name, read_image(self._paths[name]))


def _folder_of(package: str) -> Path:
    folder = package_folder(package)
    if folder is None:
        raise DataError(f"the built-in photographs come with the package {package}, which is not installed")
    return folder
