"""A model and a dictionary by name, as a command line names them, and the encoding of a list by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headscan.common.checks import check_threads
from headscan.common.files import expanded
from headscan.core import devices
from headscan.dictionaries.folder import check_target
from headscan.dictionaries.load import (
    Dictionary,
    Template,
    check_list,
    check_source,
    encode_dictionary,
    load_dictionary,
)
from headscan.dictionaries.vocabulary import list_path
from headscan.errors import HeadscanError
from headscan.models.load import load_model

if TYPE_CHECKING:
    from headscan.models.model import Model

__all__ = ["Sources", "encode_by_name"]

_DEMO, _DEFAULT_LIST = "demo", "wordnet"
_LOCAL, _OWN_LIST = "local-dir:", "dictionary.txt"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A model and a dictionary by name.

    Attributes
    ----------
    model, pretrained, image_mean, dtype
        As in `load_model`.
    device : str or None
        Where the text tower runs, as in `load_model`; a CUDA device also does the work that the caller passes it to.
    dictionary : str, path or None
        As in `load_dictionary`; None for the demo list with the demo model, for dictionary.txt with a ``local-dir:``
        that holds it (as an edited demo does), and for WordNet with any other.
    template, column, strict, batch_size
        As in `load_dictionary`.
    threads : int
        Of torch and of the core; 0 leaves their choice.
    """

    model: str
    pretrained: str | Path | None = None
    image_mean: str | Path | None = None
    device: str | None = None
    dtype: str = "float32"
    dictionary: str | Path | None = None
    template: Template = None
    column: str | None = None
    strict: bool = False
    batch_size: int = 256
    threads: int = 0

    @property
    def cuda(self) -> str | None:
        """The device, where it is one for the compiled core too."""
        return self.device if self.device is not None and self.device.startswith("cuda") else None

    @property
    def list(self) -> str | Path:
        """The dictionary's name."""
        if self.dictionary is not None:
            return self.dictionary
        if self.model.startswith(_LOCAL):
            own = expanded(self.model.removeprefix(_LOCAL)) / _OWN_LIST
            if own.is_file():
                return own
        return _DEMO if self.model == _DEMO else _DEFAULT_LIST

    def check(self) -> None:
        """Raise unless settings, device and dictionary could be used: what is cheap to say before the work.

        Raises
        ------
        HeadscanError
            If one of them is not there, or out of range.
        """
        devices.check_settings()
        check_threads(self.threads)
        devices.devices_for(None, self.cuda, "the model")
        if self.dtype != "float32" and (self.device or "cpu").split(":")[0] == "cpu":
            raise HeadscanError(f"the dtype {self.dtype} runs on a GPU: name it as device, cuda say")
        check_source(self.list)
        list_path(self.list)

    def load_model(self) -> Model:
        """Return the model, with torch limited to `threads`."""
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        return load_model(
            self.model,
            pretrained=self.pretrained,
            image_mean=self.image_mean,
            device=self.device,
            dtype=self.dtype,
        )

    def load_dictionary(self, model: Model, *, at_least: int = 2) -> Dictionary:
        """Return the dictionary, of so many concepts or more, encoded by the model where the cache has none."""
        return load_dictionary(
            self.list, model=model, template=self.template, column=self.column, strict=self.strict,
            batch_size=self.batch_size, at_least=at_least,
        )  # fmt: skip


def encode_by_name(sources: Sources, folder: str | Path) -> Dictionary:
    """Encode the list of `sources` with its model into a folder; see `encode_dictionary`.

    Raises
    ------
    HeadscanError
        As `load_model` and `encode_dictionary` do; what needs no model is said before it is loaded.
    """
    check_target(folder)
    sources.check()
    check_list(sources.list)
    return encode_dictionary(
        sources.list, folder, model=sources.load_model(), template=sources.template, column=sources.column,
        strict=sources.strict, batch_size=sources.batch_size,
    )  # fmt: skip
