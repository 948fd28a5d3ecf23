"""The catalogue of generators: names, sources, licences, and which licences this user has accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from segmodels import GanatomyError, fetch
from segmodels.errors import unknown_name
from segmodels.files import one_line

from ..disk import replacing
from . import biggan, biggan_deep, dcgan, keras, mobilestylegan, pggan, stylegan, stylegan2, stylegan3
from .base import Generator
from .family import Family


@dataclass(frozen=True)
class Entry:
    """A generator that can be had by name.

    Attributes:
        name: what people type.
        summary: one line for ``generators list``.
        family, resolution: as in the loaded generator.
        licence: of the weights.
        source: where the weights are; None for generators that need none.
        ask: whether the licence must be accepted once before the weights are used.
        verified: whether address and contents were tried when the entry was written.
        options: options of the family that belong to these weights.
    """

    name: str
    summary: str
    family: str
    resolution: int
    licence: str
    source: fetch.Source | None = None
    ask: bool = False
    verified: bool = True
    options: Mapping[str, object] = field(default_factory=dict)


CELEBA = "unknown; trained on CelebA, whose terms are non-commercial"

ENTRIES = (
    Entry(
        "digiface-dcgan64",
        "faces, 64 px, DCGAN trained on DigiFace (weights of the package gan-face-generate 1.1.1)",
        dcgan.FAMILY_NAME,
        64,
        "MIT",
        fetch.PackageMember(
            requirement="gan-face-generate==1.1.1",
            python_version="3.12",  # the wheel declares < 3.13, but the file is data
            member="gan_face_generate/weights.tar",
            sha256="0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
            size=14_322_251,
        ),
    ),
    Entry(
        "mobilestylegan-ffhq",
        "faces, 1024 px, photorealistic, MobileStyleGAN (weights of the package random-face 2021.7.21.1)",
        mobilestylegan.FAMILY_NAME,
        1024,
        "non-commercial: distilled from NVIDIA's StyleGAN2 trained on FFHQ (NVIDIA Source Code Licence; FFHQ: "
        "CC BY-NC-SA 4.0), although the package itself says Apache-2.0",
        fetch.PackageFolder(
            requirement="random-face==2021.7.21.1",
            python_version="3.9",
            folder="random_face/data",
            members=(
                ("MappingNetwork.bin", "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305"),
                ("MappingNetwork.xml", "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b"),
                ("SynthesisNetwork.bin", "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645"),
                ("SynthesisNetwork.xml", "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd"),
            ),
        ),
        ask=True,
    ),
    *(
        Entry(
            f"pggan-{name}",
            f"{what}, {side} px, PGGAN of pytorch_GAN_zoo (torch.hub)",
            pggan.FAMILY_NAME,
            side,
            licence,
            # Address and the first eight digits of the hash as in the repository's hubconf.py.
            fetch.Https(f"https://dl.fbaipublicfiles.com/gan_zoo/PGAN/{file}-{prefix}.pth", prefix),
            verified=False,
        )
        for name, what, side, licence, file, prefix in (
            ("celebahq256", "faces", 256, CELEBA, "celebaHQ_s6_i80000", "6196db68"),
            ("celebahq512", "faces", 512, CELEBA, "celebaHQ16_december_s7_i96000", "9c72988c"),
            ("dtd", "textures", 128, "unknown; trained on DTD, which is for research", "testDTD_s5_i96000", "04efa39f"),
        )
    ),
    Entry(
        "planted",
        "shapes in colours with known truth, 64 px; planted:SEED[,units=64,layers=3,noise=0.25]",
        "planted",
        64,
        "MIT (hand-set weights)",
    ),
)

# What is tried on a checkpoint, in this order. A new family adds a line.
FAMILIES: tuple[Family, ...] = (
    stylegan2.FAMILY,
    stylegan.FAMILY,
    stylegan3.FAMILY,
    mobilestylegan.FAMILY,
    pggan.FAMILY,
    dcgan.FAMILY,
    biggan.FAMILY,
    biggan_deep.FAMILY,
    keras.FAMILY,
)


def entries() -> list[Entry]:
    """Return the catalogue."""
    return list(ENTRIES)


def entry(name: str) -> Entry:
    """Return the entry of that name; GanatomyError with the nearest names."""
    for known in ENTRIES:
        if known.name == name:
            return known
    raise unknown_name("generator", name, [known.name for known in ENTRIES])


def family(name: str) -> Family:
    """Return the family of that name; GanatomyError with the nearest names."""
    for known in FAMILIES:
        if known.name == name:
            return known
    raise unknown_name("family", name, [known.name for known in FAMILIES])


def obtain(wanted: Entry) -> Path:
    """Return the entry's weights on this machine, fetched if need be.

    Raises:
        GanatomyError: if its licence has to be accepted first, or the weights cannot be had.
    """
    assert wanted.source is not None, f"{wanted.name} has no weights"
    if wanted.ask and wanted.name not in accepted():
        how = f"accept it once with --accept-licence or dissect.accept_licence({wanted.name!r})"
        raise GanatomyError(f"{wanted.name}: its licence is {wanted.licence}; {how}")
    return fetch.fetch(wanted.source)


def _acceptances() -> Path:
    return fetch.cache_dir().parent / "licences.json"


def accepted() -> dict[str, str]:
    """Return the entries whose licence this user has accepted, with the date."""
    try:
        kept = json.loads(_acceptances().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(when) for name, when in kept.items()} if isinstance(kept, dict) else {}


def accept_licence(name: str) -> None:
    """Note that the user accepts the licence of an entry; it is asked once. GanatomyError if no entry has the name."""
    wanted = entry(name)
    if not wanted.ask or name in accepted():
        return
    path = _acceptances()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(accepted() | {name: date.today().isoformat()}, indent=1).encode())
    except OSError as error:
        raise GanatomyError(f"cannot write {path}: {error.strerror or one_line(error)}") from error


def entry_of(sha256: str) -> str | None:
    """Return the name of the entry with these weights, or None. By content: a file of one's own may have any name."""
    for known in ENTRIES:
        digest = None if known.source is None else known.source.sha256
        if digest and sha256.startswith(digest):
            return known.name
    return None


def licence_of(generator: Generator) -> str | None:
    """Return what is known of the licence of a generator's weights, or None."""
    origin = generator.origin
    for known in ENTRIES:
        if origin is None and known.source is None and known.family == generator.family:
            return known.licence
    named = None if origin is None else entry_of(origin.sha256)
    if named is not None:
        return entry(named).licence
    return next((known.licence for known in FAMILIES if known.name == generator.family and known.licence), None)
