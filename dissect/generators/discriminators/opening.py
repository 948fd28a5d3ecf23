"""From a file to the discriminator in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segmodels import GanatomyError, fetch
from segmodels.files import shown

from .. import catalog, checkpoint
from ..checkpoint import Checkpoint, StoredNetwork
from ..family import check, check_records, flat
from ..stylebased import positive
from . import official, progressive, projection, strided, stylegan, stylegan2
from .base import Discriminator

ODD = re.compile(r"\d{5}|[^ -~]")  # no name of any layout has such a number, or is not plain
LONGEST = 200  # characters of a name
# What a file may record about its network, and the only value for which the arithmetic here is right.
RECORDS: Mapping[str, object] = {
    "nonlinearity": "lrelu", "activation": "lrelu", "use_wscale": True, "resample_kernel": [1, 3, 3, 1],
    "resample_filter": [1, 3, 3, 1], "blur_filter": [1, 2, 1], "architecture": "resnet",
}  # fmt: skip
OFFICIAL = [(family, flavour) for family in ("pggan", "stylegan") for flavour in ("genforce", "tensorflow")]
FIRST = ("D_ema", "discriminator_smooth", "D", "d", "discriminator", "netD", "netD_state_dict")  # averaged ones first


def load_discriminator(
    source: str | Path | Mapping[str, Tensor], device: str | torch.device = "cpu", *, group: int | None = None,
    step: int | None = None, fused_scale: bool | str | None = None,
) -> Discriminator:  # fmt: skip
    """Open the discriminator in a checkpoint, beside a generator or alone.

    Known are the residual one of StyleGAN2, ADA and StyleGAN3 (NVIDIA's pickles of all years and state dicts,
    rosinality's, genforce's), those of PGGAN and the first StyleGAN (NVIDIA's pickles, genforce's, pytorch_GAN_zoo's
    of PGGAN, rosinality's of StyleGAN), the projecting one of BigGAN and SAGAN, and the chain of DCGAN (``main.*``).
    Nothing of the file is run.

    Args:
        source: a file, a name of the catalogue, ``https://…#sha256=…``, or a state dict.
        group: images that are compared with each other; the file's (None: all of a call), or 4, if not given. See
            :class:`Discriminator`.
        step: of rosinality's port of the first StyleGAN, whose files have more blocks than may have been trained: 0
            looks at 4 x 4 pixels, each more at twice the side; the last if not given.
        fused_scale: of PGGAN and the first StyleGAN by genforce's and NVIDIA's names, which do not show it: whether
            kernels that halve are stored before they are averaged; "auto" for those from 128 pixels on. What the file
            says if not given, else "auto" for StyleGAN, for PGGAN True by NVIDIA's names and False by genforce's.

    Raises:
        GanatomyError: if there is none, one of an unknown kind, or one whose tensors do not fit; for a group below 1,
            a step that is not there, and another ``fused_scale`` than these.
    """
    if fused_scale is not None and not isinstance(fused_scale, bool) and str(fused_scale) != "auto":
        raise GanatomyError(f'expected fused_scale to be true, false or "auto", got {fused_scale!r}')
    if group is not None and (isinstance(group, bool) or not isinstance(group, int) or group < 1):
        raise GanatomyError(f"expected a group of 1 image or more, got {group!r}")
    found = _read(source)
    ranked = sorted(found.networks, key=lambda network: FIRST.index(network.where) if network.where in FIRST else 99)
    for network in ranked:
        made = _opened(network, found, torch.device(device), group, step, fused_scale)
        if made is not None:
            return _suited(made, step, fused_scale)
    keys = list(ranked[0].tensors) if ranked else []
    raise GanatomyError(
        f"{found.path.name}: no discriminator that is known is in it ({shown(keys, 4)}); known: StyleGAN2 (nvlabs, "
        "rosinality, genforce, tensorflow; of StyleGAN3, too), BigGAN (ajbrock), StyleGAN (rosinality, genforce, "
        "tensorflow), PGGAN (ganzoo, genforce, tensorflow), DCGAN (main)"
    )


def _read(source: str | Path | Mapping[str, Tensor]) -> Checkpoint:
    if isinstance(source, Mapping):
        if odd := [key for key, value in source.items() if not isinstance(value, Tensor) or _is_odd(value)]:
            raise GanatomyError(f"expected a state dict, names and plain tensors; {shown([str(odd[0])], 1)} is none")
        copied = {str(key): value.detach().clone() for key, value in source.items()}  # the caller's may change
        network = StoredNetwork("", "", copied, None, {}, {})
        return Checkpoint(Path("state dict"), "", "state dict", (network,))
    text, named = str(source), {entry.name: entry for entry in catalog.ENTRIES}
    if text in named:
        return checkpoint.read(catalog.obtain(named[text]))
    if re.match(r"[A-Za-z]+://", text):
        return checkpoint.read(fetch.fetch(fetch.parse_url(text)))
    path = Path(text).expanduser()
    if not path.exists():
        raise GanatomyError(f"no such checkpoint: {text}")
    return checkpoint.read(path)


def _opened(
    network: StoredNetwork, found: Checkpoint, device: torch.device, group: int | None, step: int | None,
    fused_scale: bool | str | None,
) -> Discriminator | None:  # fmt: skip
    """Return the discriminator that a network is, None if it is of no known kind."""
    name = f"{found.path.stem} ({network.where})" if network.where else found.path.stem
    if any(len(key) > LONGEST or ODD.search(key) for key in network.tensors):
        return None
    try:
        for flavour, canonical in stylegan2.LAYOUTS.items():
            if (tensors := canonical(network.tensors)) is not None:
                _check(network, found)
                return _residual(network, tensors, flavour, name, device, group)
        if (tensors := projection.of_ajbrock(network.tensors)) is not None:
            _check(network, found)
            critic, resolution = projection.build(tensors)
            return Discriminator(
                critic, name=name, family="biggan", flavour="ajbrock", where=network.where, resolution=resolution,
                channels=tensors["blocks.0.0.conv1.weight"].shape[1],
                num_classes=None if critic.embed is None else critic.embed.num_embeddings, device=device,
            )  # fmt: skip
        if (tensors := stylegan.of_rosinality(network.tensors)) is not None:
            _check(network, found)
            port, resolution, chosen = stylegan.build(tensors, step)
            return Discriminator(
                port, name=name, family="stylegan", flavour="rosinality", where=network.where, resolution=resolution,
                channels=port.fromrgb.weight.shape[1], group=group or stylegan.GROUP, settings={"step": chosen},
                device=device,
            )  # fmt: skip
        read = official.of_genforce(network.tensors) or official.of_tensorflow(network.tensors, network.class_name)
        if read is not None:
            _check(network, found)
            return _official(network, read, name, device, group, fused_scale)
        if (tensors := progressive.of_ganzoo(network.tensors)) is not None:
            _check(network, found)
            grown, resolution = progressive.build(tensors)
            return Discriminator(
                grown, name=name, family="pggan", flavour="ganzoo", where=network.where, resolution=resolution,
                channels=grown.fromrgb.weight.shape[1], device=device,
                group=(group or progressive.GROUP) if grown.deviation else 1,
            )  # fmt: skip
        if (tensors := strided.of_main(network.tensors)) is not None:
            _check(network, found)
            chain, resolution = strided.build(tensors)
            first = tensors[min((k for k in tensors if k.endswith(".weight")), key=lambda k: int(k.partition(".")[0]))]
            return Discriminator(
                chain, name=name, family="dcgan", flavour="main", where=network.where, resolution=resolution,
                channels=first.shape[1], device=device,
            )  # fmt: skip
    except GanatomyError as error:
        prefix = f"{found.path.name}: "
        raise GanatomyError(prefix + str(error).removeprefix(prefix)) from error
    return None


def _check(network: StoredNetwork, found: Checkpoint) -> None:
    """Refuse NaN, tensors that no layer can have, and networks of which the file says that they are others."""
    for key, value in network.tensors.items():
        if value.numel() == 0:
            raise GanatomyError(f"{key} is empty")
        if not value.is_floating_point() and not key.endswith("num_batches_tracked"):
            raise GanatomyError(f"{key} is {value.dtype}, expected floating-point numbers")
    check_records(flat(network.arguments), RECORDS)
    check(network, found)


def _is_odd(value: Tensor) -> bool:
    return value.layout is not torch.strided or value.is_quantized


def _suited(made: Discriminator, step: int | None, fused_scale: bool | str | None) -> Discriminator:
    """Return it; GanatomyError for options that are of another kind."""
    kind = made.family, made.flavour
    if step is not None and kind != ("stylegan", "rosinality"):
        raise GanatomyError(f"{made.name}: step is of rosinality's StyleGAN, this is {made.family} ({made.flavour})")
    if fused_scale is not None and kind not in OFFICIAL:
        raise GanatomyError(f"{made.name}: fused_scale is of PGGAN and StyleGAN by names of genforce and TensorFlow")
    return made


def _residual(
    network: StoredNetwork, tensors: dict[str, Tensor], flavour: str, name: str, device: torch.device, group: int | None
) -> Discriminator:
    told = flat(network.arguments)
    clamp = told.get("conv_clamp")
    if clamp is not None:
        try:
            clamp = positive(clamp)
        except (TypeError, ValueError, OverflowError):
            raise GanatomyError(f"the file records conv_clamp={clamp!r:.60}, expected a positive number") from None
    stored = _group(told, stylegan2.GROUP)
    made = stylegan2.build(tensors, clamp)
    top = max(int(m[1]) for key in tensors if (m := stylegan2.BLOCK.fullmatch(key)))
    return Discriminator(
        made, name=name, family="stylegan2", flavour=flavour, where=network.where, resolution=top,
        channels=tensors[f"b{top}.fromrgb.weight"].shape[1], num_classes=made.num_classes,
        group=(stored if group is None else group) if made.deviations else 1, settings={"conv_clamp": clamp},
        device=device,
    )  # fmt: skip


def _official(
    network: StoredNetwork, read: official.Read, name: str, device: torch.device, group: int | None,
    fused_scale: bool | str | None,
) -> Discriminator:  # fmt: skip
    told = flat(network.arguments)
    fused = told.get("fused_scale", read.fused_scale) if fused_scale is None else fused_scale
    fused = fused if fused in (True, False, "auto") else read.fused_scale
    made, resolution = official.build(read, fused)
    stored = _group(told, official.GROUPS.get((str(read.family), read.flavour), official.GROUP))
    return Discriminator(
        made, name=name, family=str(read.family), flavour=read.flavour, where=network.where, resolution=resolution,
        channels=made.fromrgb.weight.shape[1], num_classes=made.num_classes, device=device,
        group=(stored if group is None else group) if made.deviations else 1, settings={"fused": made.fused},
    )  # fmt: skip


def _group(told: Mapping[str, object], usual: int) -> int | None:
    """Return how many images a file says are compared with each other, ``usual`` where it says nothing sensible."""
    stored = told.get("mbstd_group_size", usual)
    return stored if stored is None or (isinstance(stored, int) and stored >= 1) else usual
