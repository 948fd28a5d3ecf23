"""How good images are, and how near to others: numbers of features, of concept areas, of patches.

==================  ====================================================================================
``gaussians``       the Fréchet distance of features (FID) and of concept areas (segmentation distance)
``kernels``         the kernel distance (KID)
``posteriors``      the inception score
``sliced``          sliced Wasserstein distances, also of Laplacian pyramids
``neighbours``      precision and recall
``perceptual``      how different two images look: LPIPS, or what stands in
``pairs``           images and their changed selves, by such a distance
``paths``           perceptual path length
``resampling``      intervals and the noise floor
``extractors``      what images are compared by
``imagesets``       which images: a folder, a zip, a generator's
``scores``          all of it for two sets, with intervals and the noise floor
==================  ====================================================================================

Most are pure functions of arrays. What the features come from is said beside every number: a distance of
features that are not Inception's is no FID.
"""

from .extractors import Extractor
from .gaussians import Frechet, Gaussian, Target, frechet, frechet_of, segmentation_distance
from .imagesets import Drawn, ImageSet, Pictures
from .kernels import KernelTarget, kernel_distance
from .neighbours import Coverage, coverage
from .pairs import pair_distances
from .paths import PathLengths, path_length, squared_difference
from .perceptual import Distance
from .posteriors import inception_score
from .scores import Looks, Score, compare, look, pair_score, path_score
from .sliced import pyramid_distances, sliced_distance

__all__ = [
    "Coverage", "Distance", "Drawn", "Extractor", "Frechet", "Gaussian", "ImageSet", "KernelTarget", "Looks",
    "PathLengths", "Pictures", "Score", "Target", "compare", "coverage", "frechet", "frechet_of", "inception_score",
    "kernel_distance", "look", "pair_distances", "pair_score", "path_length", "path_score", "pyramid_distances",
    "segmentation_distance", "sliced_distance", "squared_difference",
]  # fmt: skip
