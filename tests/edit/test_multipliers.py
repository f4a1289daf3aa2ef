"""Making edits: matching a text, task rescaling, judgements; and the judges."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import headscan as hs
from headscan.edit import Direction, EditInfo
from headscan.edit.judgements import JudgedItem, items
from headscan.edit.matching import embed_queries, names_one_of
from headscan.judge import EmbeddingJudge


@pytest.fixture(scope="module")
def scan(model, dictionary):
    return hs.scan(model, dictionary, k=3, sides=("write", "read"))


def brute_scores(scan, dictionary, model, like, unlike=()):
    """Scores by (layer, head, index) and pole, one explanation at a time."""
    place = {text: row for row, text in enumerate(dictionary.texts)}
    wanted, avoided = (
        [embed_queries(model, dictionary, [text])[0] for text in texts] if texts else [] for texts in (like, unlike)
    )
    found: dict[Any, Any] = {}
    for row in scan.table().query("side == 'write'").to_dict("records"):
        total, mean = 0.0, 0.0
        for i in range(3):
            atom = dictionary.atoms[place[row[f"concept_{i}"]]].astype(float)
            near = max(float(atom @ query) for query in wanted)
            far = max((float(atom @ query) for query in avoided), default=-9.0)
            total += row[f"coefficient_{i}"]
            mean += row[f"coefficient_{i}"] * (near if near >= far else -far)
        found.setdefault((row["layer"], row["head"], row["index"]), []).append(mean / total)
    return found


@pytest.mark.parametrize(("poles", "combine"), [("any", max), ("all", min), ("mean", np.mean)])
def test_suppressed_are_those_whose_concepts_are_near(scan, model, dictionary, poles, combine):
    scores = brute_scores(scan, dictionary, model, ["snow", "sand"])
    middle = float(np.median([combine(values) for values in scores.values()]))  # of an even number: no score itself
    edit = hs.Edit.suppress(
        scan, model, like="snow, sand", threshold=middle, strength=0.25, poles=poles, dictionary=dictionary
    )
    expected = {Direction("vo", *key) for key, values in scores.items() if combine(values) >= middle}
    assert set(edit.multipliers) == expected
    assert 0 < len(expected) < len(scores)
    assert set(edit.multipliers.values()) == {0.25}
    assert edit.info.steps[0]["like"] == ["snow", "sand"]


def test_unlike_takes_concepts_away(scan, model, dictionary):
    options: dict[Any, Any] = {"like": "snow", "threshold": 0.1, "dictionary": dictionary}
    scores = brute_scores(scan, dictionary, model, ["snow"], ["dog", "cat"])
    edit = hs.Edit.suppress(scan, model, unlike="dog, cat", **options)
    assert set(edit.multipliers) == {Direction("vo", *key) for key, values in scores.items() if max(values) >= 0.1}
    assert set(edit.multipliers) < set(hs.Edit.suppress(scan, model, **options).multipliers)


def test_the_scans_own_dictionary_is_taken_where_none_is_given(scan, model, dictionary, tmp_path):
    options: dict[Any, Any] = {"like": "snow", "threshold": 0.3, "layers": [1]}
    edit = hs.Edit.amplify(scan, model, **options)
    assert edit.multipliers and {direction.layer for direction in edit.multipliers} == {1}
    assert set(edit.multipliers.values()) == {2.0}
    assert edit.multipliers == hs.Edit.amplify(scan, model, **options, dictionary=dictionary).multipliers
    with pytest.raises(hs.HeadscanError, match=r"dictionary texts .* is not in the cache: give the list"):
        hs.Edit.amplify(hs.load_scan(scan.save(tmp_path / "scan")), model, **options)


def test_a_graded_edit_goes_from_the_median_random_score_to_the_threshold(scan, model, dictionary):
    options: dict[Any, Any] = {"like": "snow", "strength": -0.5, "dictionary": dictionary, "graded": True}
    edit = hs.Edit.suppress(scan, model, threshold=0.4, **options)
    low = edit.info.steps[0]["graded_from"]
    assert -0.2 < low < 0.2  # of random explanations of 30 concepts that are random too
    brute = brute_scores(scan, dictionary, model, ["snow"])
    scores = {Direction("vo", *key): max(poles) for key, poles in brute.items()}
    assert set(edit.multipliers) == {direction for direction, score in scores.items() if score > low}
    for direction, multiplier in edit.multipliers.items():
        assert multiplier == pytest.approx(np.interp(scores[direction], [low, 0.4], [1.0, -0.5]), abs=1e-6)
    with pytest.raises(hs.HeadscanError, match="has to be larger"):
        hs.Edit.suppress(scan, model, threshold=low - 0.1, **options)


@pytest.mark.parametrize("centred", [True, False])
def test_classes_rescale_by_relevance(scan, model, dictionary, centred):
    edit = hs.Edit.for_classes(
        scan, model, ["cat", "dog"], sparsity=4, ceiling=1.1, centred=centred, dictionary=dictionary
    )
    step = edit.info.steps[0]
    assert not {"cat", "dog"} & set(step["task_concepts"])
    place = {text: row for row, text in enumerate(dictionary.texts)}
    atoms = dictionary.atoms if centred else dictionary.embeddings()
    task = atoms[[place[text] for text in step["task_concepts"]]].astype(float)
    for (layer, head, index), rows in scan.table().query("side == 'write'").groupby(["layer", "head", "index"]):
        relevance = max(
            sum(
                row[f"coefficient_{i}"] * (task @ atoms[place[row[f"concept_{i}"]]].astype(float)).max()
                for i in range(3)
            )
            for row in rows.to_dict("records")
        )
        expected = min(max(relevance + 0.3, 0.8), 1.1)
        assert edit.multipliers.get(Direction("vo", layer, head, index), 1.0) == pytest.approx(expected, abs=1e-6)


def test_concepts_that_hold_a_class_name_are_left_out_where_asked(model):
    texts = ["cat", "small cat", "dog", "fish", "tree"]
    dictionary = hs.load_dictionary(texts, model=model, cache=False)
    scan = hs.scan(model, dictionary, layers=0, k=2, significance=0)
    made = {
        exclude: hs.Edit.for_classes(scan, model, ["cat"], sparsity=3, exclude=exclude, dictionary=dictionary)
        for exclude in ("exact", "containing")
    }
    picked = {exclude: set(edit.info.steps[0]["task_concepts"]) for exclude, edit in made.items()}
    assert "small cat" in picked["exact"] and "cat" not in picked["exact"]
    assert not {"cat", "small cat"} & picked["containing"]
    with pytest.raises(hs.HeadscanError, match="exclude is 'exact' or 'containing', not 'all'"):
        hs.Edit.for_classes(scan, model, ["cat"], exclude="all", dictionary=dictionary)


def test_class_names_are_whole_words():
    assert names_one_of("three Cats", ["cat"]) and names_one_of("red fox", ["fox", "cat"])
    assert names_one_of("foxes", ["fox"])
    assert not names_one_of("cattle", ["cat"]) and not names_one_of("catfish", ["cat", "fis"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"like": " , "}, "like is a text"),
        ({"like": "snow", "poles": "+"}, "poles must be one of any, all, mean"),
        ({"like": "snow", "strength": float("nan")}, "strength must be a finite number"),
        ({"like": "snow", "chance": 0}, "chance must be a share"),
        ({"like": "snow", "threshold": "high"}, "threshold must be a finite number"),
        ({"like": "snow", "strength": 10**400}, "strength must be a finite number"),
        ({"like": 5}, "like is a text, several separated by commas, or a list of texts, not 5"),
        (
            {"like": "snow", "layers": [7]},
            "there is no layer 7: the scanned part of the image tower has layers 0 to 2",
        ),
        ({"like": "snow", "layers": "1-x"}, "layers must be 'all'"),
    ],
)
def test_bad_options_are_refused(scan, model, options, says):
    with pytest.raises(hs.HeadscanError, match=says):
        hs.Edit.suppress(scan, model, **options)


def test_layers_are_chosen_as_elsewhere(scan, model, dictionary):
    made = {
        str(layers): hs.Edit.suppress(
            scan, model, like="snow", threshold=-1, layers=layers, dictionary=dictionary
        ).multipliers
        for layers in ([2], "2", 2, -1, range(2, 3), "all", None)
    }
    assert {direction.layer for direction in made["[2]"]} == {2}
    assert made["[2]"] == made["2"] == made["-1"] == made["range(2, 3)"]
    assert len(made["all"]) == len(made["None"]) == 96
    part = hs.scan(model, dictionary, layers=[1, 2], k=3)
    assert {direction.layer for direction, _, *_ in items(part, layers="all")} == {1, 2}
    with pytest.raises(hs.HeadscanError, match="layer 0 is not in the scan: it holds 1, 2"):
        hs.Edit.suppress(part, model, like="snow", layers="0-1")


def test_a_scan_is_asked_for_where_something_else_comes(scan, model):
    edit = hs.Edit.from_table(hs.Edit.suppress(scan, model, like="snow").table(), scan)
    for ask in (
        lambda: hs.Edit.from_table(edit.table(), model),
        lambda: hs.Edit.suppress(model, model, like="snow"),
        lambda: hs.Edit.from_judgements(model, "scores.csv", {5: 0.0}),
        lambda: edit.table(model),
    ):
        with pytest.raises(hs.HeadscanError, match=r"scan must be one from headscan\.scan or load_scan, not Model"):
            ask()


def test_strangers_are_refused(scan, model, dictionary, module):
    module.visual.proj.data += 1
    with pytest.raises(hs.HeadscanError, match="scan this model"):
        hs.Edit.suppress(scan, hs.load_model(module), like="snow")
    other = hs.load_dictionary(["cat", "dog", "fish"], model=model, cache=False)
    with pytest.raises(hs.HeadscanError, match="not the one that the scan was made with"):
        hs.Edit.suppress(scan, model, like="snow", dictionary=other)
    read = hs.scan(model, dictionary, layers=0, k=3, sides="read")
    with pytest.raises(hs.HeadscanError, match="no write directions"):
        hs.Edit.suppress(read, model, like="snow")
    with pytest.raises(hs.HeadscanError, match="sparsity must be from 1"):
        hs.Edit.for_classes(scan, model, ["cat"], sparsity=500, dictionary=dictionary)


# ---- judgements


def test_files_of_scores_become_multipliers(scan, tmp_path):
    (tmp_path / "scores.csv").write_text("layer,head,index,pole,score\n0,1,2,+,5\n0,1,2,-,1\n1,0,0,+,3\n1,0,0,-,4\n")
    lines = [{"layer": 0, "head": 1, "index": 2, "score": 5}, {"layer": 1, "head": 0, "index": 0, "score": 3.6}]
    (tmp_path / "scores.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "scores.json").write_text(json.dumps(lines))
    mapping = {5: 0.0, 4: 0.5, 3: 0.75}
    expected = {Direction("vo", 0, 1, 2): 0.0, Direction("vo", 1, 0, 0): 0.5}
    for name in ("scores.csv", "scores.jsonl", "scores.json"):
        assert hs.Edit.from_judgements(scan, tmp_path / name, mapping).multipliers == expected
    both = hs.Edit.from_judgements(scan, tmp_path / "scores.csv", mapping, poles="mean")
    assert both.multipliers == {Direction("vo", 0, 1, 2): 0.75, Direction("vo", 1, 0, 0): 0.5}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("layer,head,index\n0,0,0\n", "score is missing"),
        ("layer,head,index,score\n0,0,0,9\n", "from 1 to 5, not 9"),
        ("layer,head,index,score\n0,0,0,\n", "from 1 to 5, not nan"),
        ("layer,head,index,score\n0,0,99,3\n", "judgement 1: the scan has no"),
        ("layer,head,index,score\n0,0,x,3\n", "judgement 1 is not of numbers"),
        ("", "cannot read the judgements"),
        ("layer,head,index,pole,score\ninf,0,0,+,5\n", "judgement 1 is not of numbers: inf is not a whole number"),
        ("layer,head,index,pole,score\n0,0,1e400,+,5\n", "judgement 1 is not of numbers: inf is not a whole number"),
        (
            "layer,head,index,pole,score\n0,0,0,+,5\n1.9,0,0,+,5\n",
            "judgement 2 is not of numbers: 1.9 is not a whole",
        ),
        (
            "layer,head,index,pole,score\n0,0,0,plus,5\n",
            r"judgement 1: pole is \+, - or left out, for both, not 'plus'",
        ),
        (
            "layer,head,index,pole,score\n0,0,4,+,1\n0,0,4,+,5\n",
            r"judgement 2: layer 0, head 0, index 4, pole \+ comes twice, with the scores 1 and 5",
        ),
        ("layer,head,index,pole,score\n0,0,4,+,5\n0,0,4,+,\n", "comes twice, with the scores 5 and nan"),
        ("layer,head,index,pole,score\n0,0,4,,1\n0,0,4,-,5\n", "judgement 2: .*, pole - comes twice"),
        ("layer,head,index,pole,score\n0,0,4,+,7\n", r"not 7.0 \(layer 0, head 0, index 4, pole \+\)"),
    ],
)
def test_bad_scores_are_refused(scan, tmp_path, text, says):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(hs.HeadscanError, match=says):
        hs.Edit.from_judgements(scan, tmp_path / "scores.csv", {5: 0.0})


@pytest.mark.parametrize(("name", "value"), [("layer", "Infinity"), ("layer", "1" + "0" * 400), ("pole", "[1, 2]")])
def test_bad_scores_of_json_are_refused(scan, tmp_path, name, value):
    row = {"layer": "0", "head": "0", "index": "0", "score": "5"} | {name: value}
    (tmp_path / "scores.json").write_text("[{" + ", ".join(f'"{key}": {text}' for key, text in row.items()) + "}]")
    with pytest.raises(hs.HeadscanError, match="judgement 1"):
        hs.Edit.from_judgements(scan, tmp_path / "scores.json", {5: 0.0})


@pytest.mark.parametrize("mapping", [{9: 0.0}, {4.5: 0.0}, [0.0, 1.0], 0.0])
def test_a_mapping_is_of_scores(scan, mapping):
    with pytest.raises(hs.HeadscanError, match="mapping goes from scores, 1 to 5, to multipliers"):
        hs.Edit.from_judgements(scan, lambda asked: [5] * len(asked), mapping)


def test_multipliers_that_no_float_holds_are_refused(scan, tmp_path):
    hs.Edit({Direction("vo", 0, 0, 0): 1e300}, EditInfo.of(scan, {})).save(tmp_path / "edit.json")
    text = (tmp_path / "edit.json").read_text()
    (tmp_path / "edit.json").write_text(text.replace("1e+300", "1" + "0" * 400))
    with pytest.raises(hs.HeadscanError, match="is damaged: a multiplier is a finite number, not 1000"):
        hs.load_edit(tmp_path / "edit.json")


def test_any_callable_judges(scan):
    def judge(asked):
        assert all(isinstance(item, JudgedItem) for item in asked)
        return [5 if item.direction.layer == 2 and item.pole == "-" else 1 for item in asked]

    edit = hs.Edit.from_judgements(scan, judge, lambda score: 1 - (score - 1) / 4)
    assert set(edit.multipliers) == {Direction("vo", 2, head, i) for head in range(4) for i in range(8)}
    with pytest.raises(hs.HeadscanError, match="asked for 192 scores and gave 1"):
        hs.Edit.from_judgements(scan, lambda asked: [3], {5: 0})


def test_the_offline_judge_agrees_with_matching(scan, model, dictionary):
    judge = EmbeddingJudge(model=model, dictionary=dictionary, about="snow, sand")
    scores = brute_scores(scan, dictionary, model, ["snow", "sand"])
    given = judge(items(scan))
    for item, score in zip(items(scan), given, strict=True):
        _, layer, head, index = item.direction
        mean = scores[layer, head, index][0 if item.pole == "+" else 1]
        assert score == pytest.approx(1 + 4 * max(mean, 0), abs=1e-5)
