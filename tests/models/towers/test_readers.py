"""Every architecture of open_clip's list, built in its real sizes without weights: read, or refused by name."""

from __future__ import annotations

import pytest
import torch
from tools.list_architectures import families, page_parts, table
from torch import nn

import headscan as hs
from architectures import shrunk
from headscan.models.towers import Tower, read_tower
from headscan.models.towers.block import Block
from headscan.models.towers.checks import final_weights, layer_norm, linear
from headscan.models.towers.readers import IMAGE_READERS
from headscan.models.towers.tower import make_tower


def test_the_page_lists_the_families_and_every_architecture_as_they_are_read():
    made = table()
    assert page_parts() == [families(), made], "run: python tools/list_architectures.py --write"
    assert made.startswith("127 of the 144 architectures")
    refused = [line for line in made.splitlines() if "refused: " in line]
    assert len(refused) == 17
    assert all("convolutions" in line for line in refused)


class _Toy(nn.Module):
    """A vision tower of one attention, as somebody might bring it."""

    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.LayerNorm(12), nn.LayerNorm(12)
        self.query, self.key, self.value, self.output = (nn.Linear(12, 12) for _ in range(4))
        self.projection = nn.Linear(12, 6)


def _read_toy(visual, weights) -> Tower:
    block = Block(
        norm=layer_norm(visual.norm, "layer 0"),
        heads=3,
        query=linear(visual.query, "layer 0"),
        key=linear(visual.key, "layer 0"),
        value=linear(visual.value, "layer 0"),
        output=linear(visual.output, "layer 0"),
    )
    into = linear(visual.projection, "the end")
    return make_tower(
        [block],
        family="toy",
        kind="image",
        joint_dim=6,
        weights=weights,
        read_final=lambda: final_weights(weights, visual.last, width=12, projection=into),
    )


def test_a_new_architecture_is_one_reader_and_one_line(monkeypatch):
    toy = _Toy()
    name = f"{_Toy.__module__.split('.')[0]}._Toy"
    with pytest.raises(hs.HeadscanError, match=r"the vision tower is a .*_Toy: supported are open_clip.VisionTransf"):
        read_tower(toy)
    monkeypatch.setitem(IMAGE_READERS, name, _read_toy)
    tower = read_tower(toy)
    assert (tower.layers, tower.heads, tower.width, tower.rank, tower.joint_dim) == (1, 3, 12, 4, 6)
    rows = torch.randn(2, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = toy.double().projection(toy.last(rows))
    torch.testing.assert_close(torch.from_numpy(tower.read_final().apply(rows.numpy())), expected)


@pytest.mark.parametrize(("kind", "says"), [("image", "is a .*Linear: supported are open_clip"), ("both", "'both'")])
def test_what_is_not_known_is_named(kind, says):
    module = shrunk("ViT-B-32")
    module.visual = nn.Linear(2, 2)
    with pytest.raises(hs.HeadscanError, match=says):
        read_tower(module, kind=kind)
