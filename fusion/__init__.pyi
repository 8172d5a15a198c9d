from fusion.base import FusionModule as FusionModule
from fusion.concat import ConcatFusion as ConcatFusion
from fusion.attention import AttentionFusion as AttentionFusion
from fusion.gated import GatedFusion as GatedFusion
from fusion.concat import LateFusion as LateFusion
from fusion.registry import (
    create_fusion as create_fusion,
    list_fusions as list_fusions,
    register_fusion as register_fusion,
)
