"""Modules in memory: what they have to be for their weights to be read as they compute with them."""

from __future__ import annotations

from typing import Any

from headscan.errors import HeadscanError
from headscan.models.tensor_files import check_finite

__all__ = ["check_module"]

_QUANTISED = (  # packages whose modules compute with other weights than they show
    "torch.ao.nn", "torch.ao.quantization", "torch.nn.quantized", "torchao", "bitsandbytes", "auto_gptq", "gptqmodel",
    "awq", "optimum.quanto", "compressed_tensors", "hqq",
)  # fmt: skip


def check_module(module: Any) -> Any:
    """Return the module whose weights are to be read: that inside one from torch.compile, else the given one.

    Raises
    ------
    HeadscanError
        If its weights are quantised, scripted, on several devices or partly elsewhere, or not finite; naming which.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise HeadscanError(
            "the model in memory is a TorchScript module, whose parts are compiled: pass the module that it was made "
            "from, or save its state_dict() and name the architecture"
        )
    if not isinstance(module, torch.nn.Module):
        return module
    module = getattr(module, "_orig_mod", module)  # torch.compile computes with the weights of the module inside
    for name, part in module.named_modules():
        if type(part).__module__.startswith(_QUANTISED):
            kind = f"{type(part).__module__}.{type(part).__qualname__}"
            raise HeadscanError(
                f"the model in memory is quantised ({name} is a {kind}): only plain floating-point weights are read; "
                "pass the model that was quantised"
            )
        if hasattr(part, "parametrizations") or any(key.endswith("_orig") for key in part._parameters):
            raise HeadscanError(
                f"the model in memory computes weights of {name} from other tensors (pruned or parametrized): make "
                "them plain first, by torch.nn.utils.prune.remove or parametrize.remove_parametrizations"
            )
    _check_tensors(module)
    return module


def _check_tensors(module: Any) -> None:
    """Raise unless a module's weights are plain, floating-point, finite and on one device."""
    import torch

    devices = {str(parameter.device) for parameter in module.parameters()}
    if len(devices) > 1:
        raise HeadscanError(
            f"the model in memory is on several devices ({', '.join(sorted(devices))}): move all of it to one"
        )
    if devices == {"meta"}:
        raise HeadscanError("the model in memory has no weights (it is on the meta device or empty)")
    for name, parameter in module.named_parameters():
        if type(parameter) is not torch.nn.Parameter or type(parameter.data) is not torch.Tensor:
            kind = type(parameter.data if type(parameter) is torch.nn.Parameter else parameter).__name__
            raise HeadscanError(
                f"the model in memory holds {name} as a {kind}: only plain tensors are read; gather or "
                "dequantise it first"
            )
        if not parameter.is_floating_point() or parameter.element_size() < 2:
            raise HeadscanError(
                f"the model in memory is quantised ({name} is {parameter.dtype}): pass it unquantised"
            )
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            check_finite(name, tensor)
