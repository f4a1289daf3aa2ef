"""The demo world: seeded, its captions true, its planted habit there in training and gone in testing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

_ROOT = Path(__file__).resolve().parents[1]
_FOLDER = Path(os.environ.get("HEADSCAN_DEMO_IMAGES", _ROOT.parent / "shared" / "data" / "images"))


@pytest.fixture(scope="module")
def world() -> Iterator[ModuleType]:
    pytest.importorskip("PIL", reason="pillow draws the demo world and is not installed")
    if not (_FOLDER / "emoji.npz").is_file():
        pytest.skip(f"no packed pictures in {_FOLDER}: set HEADSCAN_DEMO_IMAGES (tools/demo_model/pack_images.py)")
    tools = str(_ROOT / "tools" / "demo_model")
    sys.path.insert(0, tools)
    try:
        import world as module

        # Few scenes paint fast; what is tested does not depend on how many there are.
        module.SCENES_PER_KIND.update(train=3, test=3)
        yield module
    finally:
        sys.path.remove(tools)


def _habit(world: ModuleType, **options: object) -> float:
    """Share of waterbirds and landbirds on their own scenery, among those on water or land."""
    from words import MATCHING_SCENERIES, load_objects

    birds = tuple(n for n, entry in enumerate(load_objects()) if entry.special_kind in MATCHING_SCENERIES)
    _, factors = world.sample(3, 400, objects=birds, images=_FOLDER, **options)
    hits = []
    for number in range(len(factors)):
        row = factors.row(number)
        match, opposite = MATCHING_SCENERIES[row["special_kind"]]
        if row["scenery"] in match + opposite:
            hits.append(row["scenery"] in match)
    return float(np.mean(hits))


def test_same_seed_gives_same_pictures_and_captions(world: ModuleType) -> None:
    first, factors = world.sample(5, 24, images=_FOLDER)
    again, same = world.sample(5, 24, images=_FOLDER)
    assert first.shape == (24, 48, 48, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert [factors.row(n) for n in range(24)] == [same.row(n) for n in range(24)]
    assert world.captions(5, factors) == world.captions(5, same)
    other, _ = world.sample(6, 24, images=_FOLDER)
    assert (first != other).any()


def test_every_caption_is_true_of_its_picture_and_says_so(world: ModuleType) -> None:
    from words import COLOUR_SYNONYMS

    _, factors = world.sample(1, 300, images=_FOLDER)
    written = world.captions(1, factors)
    holds = world.truth(factors, written)
    assert holds.diagonal().all()
    assert holds.mean() < 0.2
    assert (world.truth(factors, written, open_natural=True) >= holds).all()
    for number, caption in enumerate(written):
        assert caption.text
        if caption.colour >= 0:
            colour = factors.row(number)["colour"]
            assert any(word in caption.text for word in (colour, *COLOUR_SYNONYMS[colour]))


def test_waterbirds_keep_to_water_in_training_only(world: ModuleType) -> None:
    assert _habit(world, split="train") == pytest.approx(0.95, abs=0.04)
    # Independent scenery: half of those that stand on water or land; four standard errors of about 185 birds.
    assert _habit(world, split="test") == pytest.approx(0.5, abs=0.15)
    assert _habit(world, split="test", matching=0.0) == 0.0
    assert _habit(world, split="test", matching=1.0) == 1.0


def test_other_factors_are_independent(world: ModuleType) -> None:
    _, factors = world.sample(2, 3000, images=_FOLDER)
    table = np.zeros((len(world.COLOUR_NAMES), len(world.SCENERY_NAMES)))
    np.add.at(table, (factors.colour, factors.scenery), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic, freedom = (
        ((table - expected) ** 2 / expected).sum(),
        (table.shape[0] - 1) * (table.shape[1] - 1),
    )
    # A chi-squared with this many degrees of freedom stays below mean + 5 standard deviations.
    assert statistic < freedom + 5 * np.sqrt(2 * freedom)


def test_splits_share_no_drawing_style_and_cover_every_object(world: ModuleType) -> None:
    from words import HELD_OUT_STYLE, load_objects

    assert len(load_objects()) >= 120
    _, train = world.sample(0, 200, split="train", images=_FOLDER)
    _, test = world.sample(0, 200, split="test", images=_FOLDER)
    styles = {world.names("style")[n] for n in train.style}
    assert {world.names("style")[n] for n in test.style} == {HELD_OUT_STYLE}
    assert HELD_OUT_STYLE not in styles and len(styles) >= 4


def test_unknown_split_and_missing_folder_are_refused(world: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown split"):
        world.sample(0, 1, split="validation", images=_FOLDER)
    with pytest.raises(FileNotFoundError, match="no packed pictures"):
        world.sample(0, 1, images=tmp_path)


def test_dictionary_has_no_duplicates(world: ModuleType) -> None:
    from dictionary import concepts

    lines = concepts()
    assert len(lines) == len(set(lines)) > 2000
    assert {"red apple", "three cars", "waterbird", "ocean"} <= set(lines)


def test_words_that_share_a_meaning_share_a_direction(world: ModuleType) -> None:
    from captions import object_terms, scenery_terms
    from geometry import caption_vectors, geometry

    known, thing, place = geometry(), object_terms().number, scenery_terms().number
    factors = np.concatenate([known.colour, known.count, known.size, known.scenery])
    np.testing.assert_allclose(factors @ factors.T, np.eye(len(factors)), atol=1e-6)
    # 207 directions of kinds, keywords and objects in 99 dimensions cannot be orthogonal: the best is about 0.07.
    assert np.abs(factors @ known.thing.T).max() < 1e-6
    cosine = known.thing @ known.thing.T
    assert cosine[thing["duck"], thing["mallard"]] == pytest.approx(1)
    assert cosine[thing["duck"], thing["bird"]] > 0.4 > 0.2 > abs(cosine[thing["duck"], thing["fruit"]])
    assert cosine[thing["duck"], thing["swan"]] > 0.3 > abs(cosine[thing["duck"], thing["hammer"]])
    water = known.place[place["water"]]
    assert water @ known.place[place["ocean"]] == pytest.approx(0.5)
    _, factors = world.sample(1, 40, images=_FOLDER)
    vectors = caption_vectors(world.captions(1, factors))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_concepts_claim_what_their_words_say(world: ModuleType) -> None:
    from dictionary import concepts
    from labels import factors as labelled

    _, factors = world.sample(0, 4, images=_FOLDER)
    texts = [
        "red apple",
        "two ducks",
        "waterbird",
        "fruit",
        "ocean",
        "water",
        "owl in the forest",
        "wings",
        "big thing",
    ]
    assert set(texts[:-1]) <= set(concepts())
    said = {factor.name: factor for factor in labelled(texts, factors)}
    claims = {
        text: {
            name: {factor.values[value] for value in np.flatnonzero(factor.concepts[row])}
            for name, factor in said.items()
            if factor.concepts[row].any()
        }
        for row, text in enumerate(texts)
    }
    assert claims["red apple"] == {"colour": {"red"}, "kind": {"fruit"}, "object": {"apple"}}
    assert claims["two ducks"] == {"count": {"2"}, "kind": {"bird"}, "object": {"duck"}}
    assert claims["waterbird"]["object"] == {"duck", "swan", "penguin", "flamingo", "goose"}
    assert claims["fruit"] == {"kind": {"fruit"}} and claims["ocean"] == {"scenery": {"sea"}}
    assert claims["water"] == {"scenery": {"sea", "lake", "river", "underwater"}}
    assert claims["owl in the forest"]["scenery"] == {"forest"}
    assert "kind" not in claims["wings"] and {"eagle", "airplane"} <= claims["wings"]["object"]
    assert claims["big thing"] == {"size": {"large"}}
