"""Which units draw what should not be there, and how to take that away.

=============  ======================================================================================
``ranking``    a strategy's scores of a layer's units: the interface that all strategies have
``unlike``     units whose strongest images are unlike the reference (per-unit FID)
``rare``       units that fire seldom and strongly
``regions``    units that are on where images are flawed (the defective score)
``tagged``     units that tell what people call broken from what they call fine
``tags``       what people say of images
``classifier`` a small classifier from tags, and where it looks
``correct``    from rankings to recipes
``cleaning``   how many units to take away, and whether it helped
=============  ======================================================================================
"""

from ..effects.stored import KINDS
from .classifier import Classifier, Eye
from .cleaning import Curve, activating, curve
from .correct import plain, sequential
from .ranking import GIVEN, Ranking, given
from .rare import rare, suspects
from .regions import defect
from .tagged import tagged
from .tags import Tags, read_tags, write_tags
from .unlike import unlike

KINDS.update({Ranking.kind: Ranking, Curve.kind: Curve})  # so that they are kept beside a run like any result

__all__ = [
    "GIVEN", "Classifier", "Curve", "Eye", "Ranking", "Tags", "activating", "curve", "defect", "given", "plain", "rare",
    "read_tags", "sequential", "suspects", "tagged", "unlike", "write_tags",
]  # fmt: skip
