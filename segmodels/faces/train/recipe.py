"""Every choice of the training in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...errors import GanatomyError
from ...fetch import PackageFolder

TEACHER = PackageFolder(
    "mediapipe==0.10.14",
    "3.11",
    "mediapipe/modules",
    (
        ("face_landmark/face_landmark.tflite", "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"),
        (
            "selfie_segmentation/selfie_segmentation.tflite",
            "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        ),
    ),
)


@dataclass(frozen=True)
class Source:
    """A generator of the catalogue whose images are trained on.

    Attributes:
        images: training seeds are 0 .. images - 1.
        side: pixels a side of the images as kept.
    """

    generator: str
    images: int
    side: int


HELD_OUT = range(4_000_000, 4_000_256)
"""Seeds that are scored and never trained on, of every source."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the training.

    Attributes:
        steps: how many.
        rate: the highest learning rate.
        cosine: steps over which it would fall to zero; a phase may end before.
        weighted: whether the cross-entropy weighs rare classes more. That finds thin parts early, and fattens them.
        shares: of every batch, per source.
        scale: of the face in most pictures; far: share of the pictures in which it is made small.
        coarsest: pixels a side of the lowest resolution imitated.
        bfloat16: whether convolutions run in bfloat16, 1.4 times as fast here, where the processor has it.
    """

    steps: int
    rate: float
    cosine: int
    weighted: bool
    shares: tuple[float, ...]
    scale: tuple[float, float]
    far: float
    coarsest: int
    bfloat16: bool


@dataclass(frozen=True)
class Recipe:
    """What is trained on what, and how."""

    sources: tuple[Source, ...] = (
        Source("mobilestylegan-ffhq", 3000, 256),
        Source("digiface-dcgan64", 8000, 64),
    )
    phases: tuple[Phase, ...] = (
        # Roughly right, everywhere; then without the weights; then on what faces mostly look like; then small ones too;
        # then calm.
        Phase(2750, 2e-3, 5000, True, (0.625, 0.375), (0.8, 1.6), 0.25, 24, False),
        Phase(5000, 2e-3, 5000, False, (0.5, 0.5), (0.8, 1.6), 0.15, 36, True),
        Phase(2500, 1e-3, 2500, False, (0.4375, 0.5625), (0.85, 1.3), 0.08, 56, True),
        Phase(6000, 1.5e-3, 6000, False, (0.4375, 0.5625), (0.8, 1.45), 0.15, 48, True),
        Phase(1200, 8e-4, 1200, False, (0.375, 0.625), (0.85, 1.3), 0.1, 56, True),
    )
    least_confidence: float = 0.9  # of the landmarks; other pictures are not trained on
    architecture: str = "Unet"
    encoder: str = "tu-mobilenetv4_conv_small"
    decoder_channels: tuple[int, ...] = (128, 64, 48, 32, 16)
    side: int = 128  # of what the model sees
    batch: int = 16
    weight_decay: float = 0.02
    average: float = 0.998  # decay of the running average of the weights, which is what is kept
    seed: int = 0
    checkpoint_every: int = 250  # steps

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        return sum(phase.steps for phase in self.phases)

    def phase_of(self, step: int) -> tuple[Phase, int]:
        """Return the phase of a step, and which of its steps it is."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        raise IndexError(step)

    def check(self) -> None:
        """Raise GanatomyError for numbers that cannot be trained with."""
        if not 0 <= self.seed < 2**40:
            raise GanatomyError(f"expected a seed from 0 to {2**40 - 1}, got {self.seed}")
        if self.batch < 2 * len(self.sources):
            raise GanatomyError(f"expected a batch of at least {2 * len(self.sources)} pictures, got {self.batch}")

    def shortened(self, steps: int) -> Recipe:
        """Return the recipe with about so many steps in all; GanatomyError if that is fewer than phases."""
        if steps < len(self.phases):
            raise GanatomyError(f"expected at least {len(self.phases)} steps, one a phase, got {steps}")
        factor = steps / self.steps
        phases = (
            replace(phase, steps=max(1, round(phase.steps * factor)), cosine=max(1, round(phase.cosine * factor)))
            for phase in self.phases
        )
        return replace(self, phases=tuple(phases))
