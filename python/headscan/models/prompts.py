"""Class names in prompts, embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headscan.common.checks import embeddings, texts
from headscan.common.vectors import normalise
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.models.model import Model


__all__ = ["class_embeddings"]


def class_embeddings(
    model: Model, classes: Sequence[str], *, templates: Sequence[str] = ("a photo of a {}",)
) -> NDArray[np.float64]:
    """Return one unit embedding a class, (classes, joint_dim): the mean of its normalised prompts, normalised.

    Raises
    ------
    HeadscanError
        If a template does not hold ``{}`` once, there are no classes, or the model embeds one as NaN.
    """
    classes, templates = texts(classes, "classes"), texts(templates, "templates")
    for template in templates:
        if template.count("{}") != 1:
            raise HeadscanError(f"a template needs {{}} once, where the class goes; got {template!r}")
    prompts = [template.replace("{}", name) for name in classes for template in templates]
    embedded = normalise(embeddings(model.encode_text(prompts), "the prompts' embeddings"))
    return normalise(embedded.reshape(len(classes), len(templates), -1).mean(axis=1))
