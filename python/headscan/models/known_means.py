"""Image means that are known: of pretrained models, under the names that these are loaded by.

The package's file has those of three models, as published with SpLiCE (arXiv 2402.10376; Apache-2.0). Anybody adds
their own in a file of the same layout that the environment variable ``HEADSCAN_IMAGE_MEANS`` names; it is looked into
first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from headscan.common import files
from headscan.common.reading import reading, regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["known_image_mean"]

_PACKAGED = Path(__file__).parents[1] / "data" / "image_means.safetensors"
_VARIABLE = "HEADSCAN_IMAGE_MEANS"


def known_image_mean(name: str, pretrained: str | None) -> NDArray[np.float32] | None:
    """Return the known mean of a model's unit image embeddings, (joint_dim,), or None.

    Parameters
    ----------
    name, pretrained : str
        As in `load_model`; a file of means has a tensor ``ARCHITECTURE/TAG`` or ``hf-hub:org/repo``, whatever the
        revision.

    Raises
    ------
    HeadscanError
        If the file that ``HEADSCAN_IMAGE_MEANS`` names cannot be read.
    """
    from safetensors import safe_open

    key = name.split("@")[0] if pretrained is None else f"{name}/{pretrained}"
    own = os.environ.get(_VARIABLE)
    for path in (*([files.expanded(own)] if own else []), _PACKAGED):
        what = f"the file of image means ({_VARIABLE})" if path != _PACKAGED else "the file of image means"
        with reading(regular(path, what), what), safe_open(path, framework="numpy") as means:
            if key in means.keys():  # noqa: SIM118 - no mapping
                mean: NDArray[np.float32] = means.get_tensor(key)
                return mean
    return None
