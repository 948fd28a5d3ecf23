"""The critics that training leaves beside a generator: how real an image looks to the network it was trained against.

==============  ==========================================================================
``base``        what all have: a score for each image, in float32, on CPU or CUDA
``stylegan2``   the residual one of StyleGAN2, ADA and StyleGAN3 (NVIDIA's names, rosinality's, genforce's)
``projection``  the projecting one of BigGAN and SAGAN
``official``    those of PGGAN and the first StyleGAN (NVIDIA's names, genforce's)
``progressive`` pytorch_GAN_zoo's of PGGAN
``stylegan``    rosinality's of the first StyleGAN
``strided``     chains of strided convolutions: DCGAN
``opening``     from a file to a discriminator
==============  ==========================================================================
"""

from .base import Discriminator
from .opening import load_discriminator

__all__ = ["Discriminator", "load_discriminator"]
