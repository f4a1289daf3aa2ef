"""What `headscan models` says of each family is so."""

from __future__ import annotations

import pytest

import headscan as hs
from architectures import TRANSFORMERS, shrunk, transformers_model
from headscan.cli.main import main
from headscan.models.towers.families import FAMILIES, REFUSED

CASES = [(family, example) for family in FAMILIES for example in family.examples]


@pytest.mark.parametrize(("family", "example"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_towers_and_parts_of_a_family_can_be_read(family, example):
    model = hs.load_model(transformers_model(example) if example in TRANSFORMERS else shrunk(example))
    for kind in family.towers:
        tower = model.get_tower(kind)
        assert (tower.read_final().pool is not None) == (kind == "image" and "attention pool" in family.joint)
        assert tower.read_attention(0).output.shape == (tower.heads * tower.rank, tower.width)
        assert tower.read_mlp(0).output.shape == (tower.hidden, tower.width)
        if "qk" in family.parts:
            assert tower.read_query_key(0).query.shape == (tower.width, tower.heads * tower.rank)
        else:
            with pytest.raises(hs.HeadscanError, match="part 'qk' cannot be read"):
                tower.read_query_key(0)


def test_the_command_lists_families_and_what_is_refused(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for family in FAMILIES:
        assert family.name in printed
        assert ", ".join(family.parts) in printed
    assert all(name in printed for name in REFUSED)
    assert max(map(len, printed.splitlines())) <= 120
