"""How good images are, and how near to others: numbers of features, of concept areas, of patches.

==================  ====================================================================================
``gaussians``       the Fréchet distance of features (FID) and of concept areas (segmentation distance)
``kernels``         the kernel distance (KID)
``posteriors``      the inception score
``sliced``          sliced Wasserstein distances, also of Laplacian pyramids
``neighbours``      precision and recall
``paths``           perceptual path length
==================  ====================================================================================

All but the last are pure functions of arrays. What the features come from is said beside every number: a distance of
features that are not Inception's is no FID.
"""

from .gaussians import Frechet, Gaussian, frechet, segmentation_distance
from .kernels import kernel_distance
from .neighbours import Coverage, coverage
from .paths import PathLengths, path_length, squared_difference
from .posteriors import inception_score
from .sliced import pyramid_distances, sliced_distance

__all__ = [
    "Coverage", "Frechet", "Gaussian", "PathLengths", "coverage", "frechet", "inception_score", "kernel_distance",
    "path_length", "pyramid_distances", "segmentation_distance", "sliced_distance", "squared_difference",
]  # fmt: skip
