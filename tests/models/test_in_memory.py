"""Modules in memory whose weights are not what they compute with: refused by name."""

from __future__ import annotations

import pytest
import torch

import headscan as hs
from architectures import transformers_model
from conftest import build_module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [build_module, lambda: transformers_model("CLIPModel")])
def test_dynamically_quantised_modules_are_refused(make):
    from torch.ao.quantization import quantize_dynamic

    quantised = quantize_dynamic(make(), {torch.nn.Linear})
    with pytest.raises(hs.HeadscanError, match=r"is quantised \(.* is a torch\.ao\.nn\.quantized\.dynamic"):
        hs.load_model(quantised)


@pytest.mark.filterwarnings("ignore")
def test_scripted_modules_are_refused(module):
    with pytest.raises(hs.HeadscanError, match="is a TorchScript module, whose parts are compiled: pass the module"):
        hs.load_model(torch.jit.script(module))


def test_a_compiled_module_is_read_as_the_one_inside(module):
    compiled = torch.compile(module)
    assert hs.load_model(compiled).weights_hash == hs.load_model(module).weights_hash  # type: ignore[arg-type]


def test_narrow_weights_wrapped_modules_and_several_devices_are_refused(module):
    with pytest.raises(hs.HeadscanError, match=r"not a torch\.nn\.parallel\..*DataParallel: pass its \.module"):
        hs.load_model(torch.nn.DataParallel(module))
    projection = module.visual.transformer.resblocks[0].attn.out_proj
    whole = projection.weight
    projection.weight = torch.nn.Parameter(whole.data.to(torch.int8), requires_grad=False)
    with pytest.raises(hs.HeadscanError, match=r"is quantised \(visual.*out_proj\.weight is torch\.int8\)"):
        hs.load_model(module)
    projection.weight = torch.nn.Parameter(whole.data.to("meta"))
    with pytest.raises(hs.HeadscanError, match=r"on several devices \(cpu, meta\)"):
        hs.load_model(module)


def test_weights_computed_from_other_tensors_are_refused(module):
    from torch.nn.utils import parametrizations, prune

    output = module.visual.transformer.resblocks[0].attn.out_proj
    prune.l1_unstructured(output, "weight", 0.5)
    with pytest.raises(hs.HeadscanError, match=r"weights of visual.*out_proj from other tensors .pruned or "):
        hs.load_model(module)
    prune.remove(output, "weight")
    assert hs.load_model(module).layers == 3
    parametrizations.weight_norm(module.visual.transformer.resblocks[1].mlp.c_fc)
    with pytest.raises(hs.HeadscanError, match=r"weights of visual.*c_fc from other tensors"):
        hs.load_model(module)
