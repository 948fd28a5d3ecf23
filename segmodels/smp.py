"""Segmenters made with segmentation-models-pytorch: a local folder, or a model of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import Segmenter, resize_images
from .errors import GanatomyError, unknown_name
from .files import hash_files, one_line, read_json
from .hub import HUB_ID, HUB_PREFIX, fetch
from .pixels import unit_images
from .sidecar import SIDECAR_FILE, Sidecar, read_sidecar, shipped_sidecar

CONFIG_FILE = "config.json"
SAFE_WEIGHTS = "model.safetensors"
TORCH_WEIGHTS = "pytorch_model.bin"

DEFAULT_STRIDE = 32  # of an encoder that does not say: five halvings, the deepest that smp has
LOGITS_AT_ONCE = 2**26  # values of logits held at a time (256 MB): 150 classes at 512x512 are 157 MB per image

# Keys of config.json that would make the encoder library fetch or open other files than the folder's own.
REFUSED = ("checkpoint_path", "cache_dir", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "weights", "name")


@dataclass(frozen=True)
class Files:
    """What an smp segmenter is made of: the paths of configuration and weights, and the parsed sidecar."""

    config: Path
    weights: Path
    sidecar: Sidecar


class SmpSegmenter(Segmenter):
    """A model of segmentation-models-pytorch as a segmenter of one plane.

    ``source`` is a folder as ``model.save_pretrained(folder)`` leaves it (config.json, and model.safetensors or
    pytorch_model.bin) with a ``ganatomy.json`` beside them (see :mod:`segmodels.sidecar`), or a hub id ``ORG/NAME``
    or ``hub:ORG/NAME``; ``name`` is what to call the segmenter, ``source`` by default. Nothing that comes from either
    is ever executed: weights are read as tensors only, and the architecture is one of smp's own.

    Images are resized to the sidecar's input size, normalised, and padded to the model's stride; the label of a pixel
    is the class of largest logit there, or, for a model of one class, that class where its logit is positive. Labels
    have the input size and lie on the images' device.

    Raises:
        GanatomyError: if a file is missing or wrong, the weights do not fit the configuration or hold NaN, the number
            of names is not that of the classes, or the hub cannot be reached.
    """

    concurrent = True

    def __init__(self, source: str | Path, device: str | torch.device = "cpu", name: str | None = None) -> None:
        files = _locate(source)
        config = read_json(files.config)
        self.sidecar = files.sidecar
        self.model = build_model(config, str(files.config))
        classes = int(config.get("classes", 1))
        if classes != len(self.sidecar.concepts):
            raise GanatomyError(
                f"segmenter {str(source)!r}: the model has {classes} classes, its {SIDECAR_FILE} names"
                f" {len(self.sidecar.concepts)} (null counts)"
            )
        load_weights(self.model, files.weights)
        try:
            # On the CPU, convolutions are faster with the channels last (decision 0008).
            self.model.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._device = torch.device(device)
        except (RuntimeError, AssertionError) as error:
            raise GanatomyError(f"device {str(device)!r} cannot be used: {one_line(error, 120)}") from error
        stride = getattr(getattr(self.model, "encoder", None), "output_stride", DEFAULT_STRIDE)
        self.stride = stride if isinstance(stride, int) and stride > 0 else DEFAULT_STRIDE
        digest = hash_files([files.config, files.weights], self.sidecar.canonical())
        super().__init__(name or str(source), self.sidecar.named, digest)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(self.sidecar.mean, device=self._device).view(shape)
        self._std = torch.tensor(self.sidecar.std, device=self._device).view(shape)
        self._labels = torch.tensor(self.sidecar.label_of_class, dtype=torch.int16, device=self._device)

    def segment(self, images: Tensor, keys: Sequence[int | str] | None) -> Tensor:
        """Label images [N, 3, H, W]: int16 [N, 1, h, w] with (h, w) the sidecar's input size; ``keys`` are not used."""
        parts = [self._labels_of(self._logits(chunk)) for chunk in images.split(self._chunk())]
        return torch.cat(parts).to(images.device)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return float32 [N, C, h, w] in [0, 1]: channel c is the probability of ``concepts[c]``, summing to 1.

        The softmax of the logits (the sigmoid for a model of one class). Channel 0, "unlabelled", is the sum over
        unnamed classes, or 1 - p for a model of one class.
        Gradients flow to images that ask for them.
        """
        self._check_images(images)
        parts = [self._probabilities_of(self._logits(chunk)) for chunk in images.split(self._chunk())]
        return torch.cat(parts).to(images.device)

    def _labels_of(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            return (logits > 0).to(torch.int16) * self._labels[0]
        return self._labels[logits.argmax(dim=1, keepdim=True)]

    def _probabilities_of(self, logits: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            by_class, of_class = torch.cat([(-logits).sigmoid(), logits.sigmoid()], 1), torch.tensor([0, 1])
        else:
            by_class, of_class = logits.softmax(dim=1), self._labels
        n, _, height, width = by_class.shape
        result = by_class.new_zeros(n, len(self.concepts), height, width)
        return result.index_add_(1, of_class.long().to(result.device), by_class)

    def _chunk(self) -> int:
        height, width = self.sidecar.input_size
        return max(1, LOGITS_AT_ONCE // (len(self.sidecar.concepts) * height * width))

    def _logits(self, images: Tensor) -> Tensor:
        """Return the model's logits, float32 [N, classes, h, w] at the input size."""
        height, width = self.sidecar.input_size
        return self._logits_at(resize_images(unit_images(images.to(self._device), self.name), height, width))

    def _logits_at(self, pixels: Tensor) -> Tensor:
        """Return the model's logits, float32 [N, classes, h, w], of pixels [N, 3, h, w] in [0, 1] at their own size."""
        height, width = pixels.shape[-2:]
        pixels = (pixels - self._mean) / self._std
        # Right and below, with zeros, i.e. the mean colour, so that pixel (0, 0) stays where it is.
        padded = nn.functional.pad(pixels, (0, -width % self.stride, 0, -height % self.stride))
        padded = padded.contiguous(memory_format=torch.channels_last)
        try:
            logits = self.model(padded)
        except torch.OutOfMemoryError:
            raise  # no fault of the settings: a smaller batch may do
        except RuntimeError as error:  # some decoders have a least size, some encoders only one
            raise GanatomyError(
                f"segmenter {self.name!r}: the model fails at {list(padded.shape[-2:])} pixels ({one_line(error, 150)})"
                f"; set another input_size in its {SIDECAR_FILE}"
            ) from error
        if isinstance(logits, tuple):  # a model with aux_params also classifies the image
            logits = logits[0]
        if logits.shape[-2:] != padded.shape[-2:]:  # a head without (all of) its upsampling
            logits = nn.functional.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width].float()

    def encoded(self, images: Tensor) -> Tensor:
        """Return the encoder's deepest features [N, D, h, w] of images [N, 3, H, W], resized to the input size."""
        return self.stages(images)[-1]

    @torch.no_grad()
    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the encoder's features [N, D, h, w] of each size, finest first, without the image itself."""
        height, width = self.sidecar.input_size
        pixels = resize_images(unit_images(images.to(self._device), self.name), height, width)
        padded = nn.functional.pad(
            (pixels - self._mean) / self._std, (0, -width % self.stride, 0, -height % self.stride)
        )
        encoder: Any = self.model.encoder
        return list(encoder(padded.contiguous(memory_format=torch.channels_last))[1:])  # smp's first is its input


def build_model(config: Any, where: str) -> nn.Module:
    """Build the smp model that a config.json describes, with random weights and without network.

    ``where`` names the file in messages. Raises GanatomyError if it does not describe one.
    """
    import segmentation_models_pytorch as smp  # seconds to import: only when it is wanted

    if not isinstance(config, dict) or not isinstance(config.get("_model_class"), str):
        raise GanatomyError(f"{where} is not of an smp model: expected a JSON object with _model_class")
    known = {cls.__name__: cls for cls in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    architecture = config["_model_class"]
    if architecture not in known:
        raise unknown_name("smp architecture", architecture, known)
    if refused := [key for key in REFUSED if key in config]:
        raise GanatomyError(f"{where}: {', '.join(refused)} not allowed; remove it, the weights lie beside the file")
    encoder = config.get("encoder_name", "")
    if not isinstance(encoder, str) or any(sign in encoder for sign in ":/\\"):
        raise GanatomyError(f"{where}: expected the name of an encoder that smp has, got {encoder!r}")
    if config.get("in_channels", 3) != 3:
        raise GanatomyError(f"{where}: expected a model of RGB images, got in_channels {config['in_channels']!r}")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    # Whatever the folder says, pretrained encoder weights would be downloaded only to be overwritten; and a head that
    # ends in softmax or sigmoid would turn "logit > 0" into "always".
    settings |= {"encoder_weights": None, "activation": None}
    try:
        with torch.random.fork_rng(devices=[]):  # the random initialisation must not shift anybody's random numbers
            return known[architecture](**settings)
    except Exception as error:  # anything at all: the values come from a file, and smp checks few of them
        raise GanatomyError(f"{where}: smp cannot build this {architecture}: {one_line(error)}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a weights file into an smp model; every tensor must be there, fit, and be finite.

    Raises:
        GanatomyError: naming the first few tensors that are missing, unexpected, of another shape, or not finite.
    """
    state = _read_weights(path)
    if bad := [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise GanatomyError(f"{path}: NaN or infinity in {_first(bad)}; the file is damaged or training diverged")
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        # smp renames old keys in place, so `state` now has the names that were compared with the model's.
        wanted = model.state_dict()
        faults = {
            "missing": sorted(wanted.keys() - state.keys()),
            "unexpected": sorted(state.keys() - wanted.keys()),
            "of another shape": [k for k in wanted if k in state and wanted[k].shape != state[k].shape],
        }
        said = "; ".join(f"{_first(names)} {fault}" for fault, names in faults.items() if names)
        raise GanatomyError(f"{path} does not fit {CONFIG_FILE}: {said or one_line(error)}") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated, not a checkpoint, or objects that weights_only refuses to make
        raise GanatomyError(f"{path} cannot be read as weights: {one_line(error, 150)}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise GanatomyError(f"{path}: expected a state_dict (names and tensors); save model.state_dict()")
    return dict(state)


def _locate(source: str | Path) -> Files:
    text = str(source)
    folder = Path(source)
    if not text.startswith(HUB_PREFIX) and folder.is_dir():
        if not (folder / CONFIG_FILE).is_file():
            raise GanatomyError(f"no {CONFIG_FILE} in {folder}: expected a folder as model.save_pretrained leaves it")
        weights = next((folder / w for w in (SAFE_WEIGHTS, TORCH_WEIGHTS) if (folder / w).is_file()), None)
        if weights is None:
            raise GanatomyError(f"no weights in {folder}: expected {SAFE_WEIGHTS} or {TORCH_WEIGHTS}")
        return Files(folder / CONFIG_FILE, weights, read_sidecar(folder / SIDECAR_FILE))
    hub_id = text.removeprefix(HUB_PREFIX)
    if not HUB_ID.fullmatch(hub_id):
        raise GanatomyError(f"segmenter {text!r}: neither a folder nor a hub id ORG/NAME")
    config = fetch(hub_id, CONFIG_FILE)
    data = read_json(config)
    architecture = str(data.get("_model_class")) if isinstance(data, dict) else ""
    sidecar = shipped_sidecar(hub_id, architecture)
    if sidecar is None:
        try:
            sidecar = read_sidecar(fetch(hub_id, SIDECAR_FILE))
        except GanatomyError as error:
            raise GanatomyError(
                f"segmenter {text!r}: names of its classes unknown ({error}); download the folder, put a"
                f" {SIDECAR_FILE} into it and give its path"
            ) from error
    return Files(config, fetch(hub_id, SAFE_WEIGHTS), sidecar)


def _first(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
