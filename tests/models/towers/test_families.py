"""What `headscan models` says of each family is so."""

from __future__ import annotations

import functools

import pytest

import headscan as hs
from architectures import TRANSFORMERS, shrunk, transformers_model
from headscan.cli.main import main
from headscan.models.towers.families import FAMILIES, REFUSED
from headscan.models.towers.transformers import MODEL_TYPES

CASES = [(family, example) for family in FAMILIES for example in family.examples]


@functools.lru_cache(maxsize=1)
def load(example):
    return hs.load_model(transformers_model(example) if example in TRANSFORMERS else shrunk(example))


@pytest.mark.parametrize(("family", "example"), CASES, ids=lambda value: value if isinstance(value, str) else "")
class TestFamily:
    def test_its_towers_and_parts_can_be_read(self, family, example):
        model = load(example)
        for kind in ("image", "text"):
            if kind not in family.towers:
                with pytest.raises(hs.HeadscanError, match="make dictionaries"):
                    model.get_tower(kind)
                continue
            tower = model.get_tower(kind)
            parts = family.parts if kind == "image" else ("vo", "qk", "mlp")
            assert tower.read_attention(0).output.shape == (tower.heads * tower.rank, tower.width)
            for part, read in (("qk", tower.read_query_key), ("mlp", tower.read_mlp)):
                if part in parts:
                    read(0)
                else:
                    with pytest.raises(hs.HeadscanError, match=f"part '{part}'"):
                        read(0)

    def test_its_way_into_joint_space_and_its_note_are_the_towers(self, family, example):
        tower = load(example).tower
        ends_in_a_pool = "attention pool" in family.joint or "siglip" in example
        assert (tower.read_final().pool is not None) == ends_in_a_pool
        for word in ("positive scale", "last stage", "joint space itself", "frame by itself"):
            assert (word in tower.note) == (word in family.note and (word != "frame by itself" or "XCLIP" in example))

    def test_its_vision_heads_are_edited_or_refused(self, family, example):
        tower = load(example).tower
        weights = tower.read_attention(0)
        if not family.edits:
            with pytest.raises(hs.HeadscanError, match="can be read but not edited"):
                tower.write_attention_output(0, weights.output, weights.output_bias)
            return
        tower.write_attention_output(0, weights.output * 2, weights.output_bias)
        assert abs(tower.read_attention(0).output - 2 * weights.output).max() < 1e-6


def test_every_class_of_transformers_that_loads_is_in_a_family():
    listed = {example for family in FAMILIES for example in family.examples}
    assert set(MODEL_TYPES.values()) == set(TRANSFORMERS) <= listed


def test_the_command_lists_families_and_what_is_refused(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    for family in FAMILIES:
        assert family.name in printed
        assert ", ".join(family.parts) in printed
    assert all(name in printed for name in REFUSED)
    assert max(map(len, printed.splitlines())) <= 120
