"""open_clip's ResNets: their one attention, the pool at the end, whose heads write into the joint space itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from headscan.errors import HeadscanError
from headscan.models.towers.block import Block
from headscan.models.towers.checks import linear, type_name
from headscan.models.towers.layer_weights import FinalWeights
from headscan.models.towers.tower import Tower, make_tower
from headscan.models.towers.weights import Weights

__all__ = ["read_resnet"]

_NOTE = "the heads of the attention pool behind the convolutions, which write into the joint space itself"


def read_resnet(visual: Any, weights: Weights) -> Tower:
    """Read open_clip's ``ModifiedResNet``: a tower of one layer, its attention pool.

    No layer norm is in front of the pool or behind it: nothing is folded or centred, and the stream that its heads
    write into is the joint space. They read the last convolution's features, as many as `read_width`.
    """
    from open_clip.modified_resnet import AttentionPool2d

    pool, where = visual.attnpool, "the attention pool"
    if type(pool) is not AttentionPool2d:
        raise HeadscanError(f"the vision tower ends in {type_name(pool)}: only AttentionPool2d is read")
    block = Block(
        norm=None,
        heads=int(pool.num_heads),
        query=linear(pool.q_proj, where),
        key=linear(pool.k_proj, where),
        value=linear(pool.v_proj, where),
        output=linear(pool.c_proj, where),
        qk_refusal="reads features of convolutions, which have no place of their own in the joint space",
    )
    joint_dim = int(pool.c_proj.out_features)
    end = FinalWeights(
        gain=np.ones(joint_dim),
        shift=np.zeros(joint_dim),
        eps=0.0,
        projection=np.eye(joint_dim),
        bias=np.zeros(joint_dim),
        normalises=False,
    )
    return make_tower(
        [block],
        family="resnet",
        kind="image",
        joint_dim=joint_dim,
        weights=weights,
        read_final=lambda: end,
        writes_centred=False,
        note=_NOTE,
    )
