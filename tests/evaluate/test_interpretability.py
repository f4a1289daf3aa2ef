"""Interpretability on labelled pictures: the class token's writes, what codes name, and what drives directions."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import headscan as hs
from headscan.errors import HeadscanError
from headscan.evaluate.factors import presence
from headscan.evaluate.interpretability import Factor, head_writes, interpretability, name_factor, rank_correlations


@pytest.fixture(scope="module")
def model():
    return hs.load_model("demo")


@pytest.fixture(scope="module")
def dictionary(model, tmp_path_factory):
    words = ["sea", "desert", "forest", "snow", "red thing", "blue thing", "bird", "fruit", "tool", "two things"]
    return hs.load_dictionary(words, model=model, cache=False)


def pictures(count, seed=0):
    return torch.rand(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def colour(dictionary, count, name="colour"):
    claims = np.zeros((len(dictionary), 2), dtype=bool)
    claims[dictionary.texts.index("red thing"), 0] = claims[dictionary.texts.index("blue thing"), 1] = True
    return Factor(name, ("red", "blue"), np.arange(count) % 2, claims)


def test_heads_and_the_output_bias_make_up_what_the_attention_adds(model):
    images = pictures(5)
    block = model.module.visual.transformer.resblocks[-1]
    added = []
    hook = block.attn.register_forward_hook(lambda _, __, output: added.append(output[0][:, 0]))
    with torch.inference_mode():
        model.module.visual(images)
    hook.remove()
    writes = head_writes(model, images, layers=[-1], batch_size=2)
    assert writes.shape == (5, 1, model.heads, model.width) and writes.dtype == np.float32
    bias = model.tower.read_attention(model.layers - 1).output_bias
    # Float32 sums of about a hundred terms of order one, in another order.
    np.testing.assert_allclose(writes[:, 0].sum(1) + bias, added[0].numpy(), atol=1e-4)


def test_reading_the_writes_leaves_no_hook_and_the_mode_as_it_was(model):
    before = model.module.training
    head_writes(model, pictures(1), layers=[0])
    assert model.module.training == before
    assert not model.module.visual.transformer.resblocks[0].ln_1._forward_hooks


def test_pictures_of_another_shape_are_refused(model):
    with pytest.raises(HeadscanError, match=r"\(n, 3, height, width\)"):
        head_writes(model, np.zeros((2, 48, 48, 3), np.float32))
    with pytest.raises(HeadscanError, match="floating-point"):
        head_writes(model, torch.zeros(2, 3, 48, 48, dtype=torch.uint8))


def test_rank_correlations_equal_scipys_with_ties_and_constants():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((40, 3)), rng.integers(0, 3, (40, 2)).astype(float)
    found = rank_correlations(left, np.column_stack([right, np.ones(40)]))
    expected = [[spearmanr(a, b).statistic for b in right.T] for a in left.T]
    np.testing.assert_allclose(found[:, :2], expected, atol=1e-12)
    assert (found[:, 2] == 0).all()


def test_a_concept_is_present_where_all_that_it_claims_holds():
    # concepts: "red bird", "bird", "red or blue", one without claims; pictures: red bird, blue bird, red fruit, bird
    colour = Factor(
        "colour", ("red", "blue"), np.array([0, 1, 0, -1]), np.array([[1, 0], [0, 0], [1, 1], [0, 0]], bool)
    )
    kind = Factor("kind", ("bird", "fruit"), np.array([0, 0, 1, 0]), np.array([[1, 0], [1, 0], [0, 0], [0, 0]], bool))
    expected = [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    np.testing.assert_array_equal(presence([colour, kind]), expected)


def test_a_code_names_the_value_that_holds_most_of_its_weight():
    scenery = Factor("scenery", ("sea", "lake"), np.zeros(1, int), np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool))
    kind = Factor("kind", ("bird", "fruit"), np.zeros(1, int), np.array([[0, 0], [0, 0], [1, 0], [0, 1]], bool))
    codes = np.array([[0.5, 0.2, 0.3, 0], [0, 0, 0.5, 0.5], [0.1, 0, 0.3, 0.6], [0, 0, 0, 0]])
    found = name_factor(codes, [scenery, kind])
    assert found[0] == ("scenery", 0, pytest.approx(0.7))
    assert found[1] is None and found[3] is None
    assert found[2] == ("kind", 1, pytest.approx(0.6))


def test_a_word_for_several_values_names_the_one_that_fewest_concepts_allow():
    claims = np.array([[1, 1], [1, 0], [1, 0]], bool)
    found = name_factor(np.array([[1.0, 0, 0]]), [Factor("scenery", ("sea", "lake"), np.zeros(1, int), claims)])
    assert found == [("scenery", 1, pytest.approx(1.0))]


def test_every_strong_direction_is_measured_by_every_method(model, dictionary):
    measured = interpretability(model, dictionary, pictures(12), [colour(dictionary, 12)], top=2, k=3)
    table = measured.table
    assert measured.pictures == 12
    assert list(table.groupby("method", sort=False).size().items()) == [
        (name, 2 * model.heads * 2) for name in ("comp", "nnomp", "top_k", "random")
    ]
    comp = table[table["method"] == "comp"].reset_index()
    scan = hs.scan(model, dictionary, layers=(-2, -1), k=3).table()
    scan = scan[scan["index"] < 2].set_index(["layer", "head", "index", "pole"])
    for _, row in comp.iterrows():
        found = scan.loc[(row["layer"], row["head"], row["index"], row["pole"])]
        other = scan.loc[(row["layer"], row["head"], row["index"], "-" if row["pole"] == "+" else "+")]
        assert found["concepts"] == row["concepts"]
        assert row["joint_fidelity"] == pytest.approx(found["joint_fidelity"], abs=1e-9)
        assert found["joint_fidelity"] >= other["joint_fidelity"] - 1e-12
    assert table[["predicted", "shuffled"]].abs().max().max() <= 1 + 1e-12
    assert (table["driven"].isna() == (table["factor"] == "")).all()
    assert set(measured.summary().index) == {"comp", "nnomp", "top_k", "random"}


def test_a_direction_driven_by_what_its_explanation_says_is_found(model, dictionary):
    """Label each picture by the very contribution of one direction: its explanation must predict it perfectly."""
    images = pictures(30)
    first = interpretability(model, dictionary, images, [colour(dictionary, 30)], top=1, layers=[-1]).table
    row = first[first["method"] == "comp"].iloc[0]
    writes = head_writes(model, images, layers=[-1])[:, 0, int(row["head"])]
    _, _, vh = hs.svd_factored(*(side[0] for side in hs.vo_factors(model, layers=[-1])))
    driving = writes @ vh[int(row["head"]), 0] * (1 if row["pole"] == "+" else -1)
    claims = np.zeros((len(dictionary), 2), dtype=bool)
    claims[[dictionary.texts.index(word) for word in row["concepts"].split(", ")], 1] = True
    factor = Factor("drive", ("low", "high"), (driving > np.median(driving)).astype(int), claims)
    again = interpretability(model, dictionary, images, [factor], top=1, layers=[-1]).table
    found = again[again["method"] == "comp"].iloc[0]
    assert found["factor"] == "drive: high" and found["share"] == pytest.approx(1)
    # Halves against ranks: the best correlation a binary label of this prevalence can have.
    assert found["predicted"] == pytest.approx(np.sqrt(3 / 4), abs=0.01)
    assert found["driven"] == pytest.approx(found["predicted"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": np.zeros(3, int)}, "needs a value for each of 12 pictures"),
        ({"pictures": np.full(12, 2)}, "labelled -1 to 1"),
        ({"concepts": np.zeros((4, 2), bool)}, "claims of shape"),
    ],
)
def test_labels_that_do_not_fit_are_refused(model, dictionary, change, message):
    whole = vars(colour(dictionary, 12)) | change
    with pytest.raises(HeadscanError, match=message):
        interpretability(model, dictionary, pictures(12), [Factor(**whole)])


def test_no_factor_and_too_many_directions_are_refused(model, dictionary):
    with pytest.raises(HeadscanError, match="no factors"):
        interpretability(model, dictionary, pictures(2), [])
    with pytest.raises(HeadscanError, match="head rank, 32"):
        interpretability(model, dictionary, pictures(2), [colour(dictionary, 2)], top=33)
