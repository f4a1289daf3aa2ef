"""Edits from judgements: a score from 1 to 5 a direction, by a person, a language model or any callable."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from headscan.common import files
from headscan.common.reading import read_text, reading
from headscan.edit.direction import Direction, said
from headscan.edit.edit import Edit, EditInfo
from headscan.edit.matching import POLES, written_rows
from headscan.errors import HeadscanError
from headscan.explanations.published import layer_of

if TYPE_CHECKING:
    import pandas as pd

    from headscan.explanations.result import Scan

__all__ = ["Judge", "JudgedItem", "from_judgements", "items"]

_LOWEST, _HIGHEST = 1.0, 5.0
_WHOLE = (1, 2, 3, 4, 5)


class JudgedItem(NamedTuple):
    """One explanation to judge: a pole of a write direction, its concepts and their coefficients, largest first."""

    direction: Direction
    pole: str
    concepts: tuple[str, ...]
    coefficients: tuple[float, ...]


Judge = Callable[[Sequence[JudgedItem]], Sequence[float]]


def from_judgements(
    scan: Scan,
    source: str | Path | Judge,
    mapping: Mapping[int, float] | Callable[[float], float],
    *,
    poles: str = "any",
    layers: str | int | Iterable[int] | None = None,
) -> Edit:
    """Scale directions by scores from 1 to 5 that say how much an explanation is about something.

    Parameters
    ----------
    scan : Scan
        Explanations of the write side.
    source : path or callable
        A CSV table, or JSON or JSON lines of objects, with layer, head, index, pole (may be left out: then it
        holds for both) and score; decisions of the published code, ``layer-20_right_....txt`` or a folder of them
        (a line a direction, heads after one another); or a callable from a list of `JudgedItem` to as many scores,
        such as `headscan.judge.EndpointJudge`.
    mapping : mapping or callable
        From the score to the multiplier: ``{5: 0.0, 4: 0.5}``, scores not in it (after rounding) leave the
        direction as it is; or a callable.
    poles : {"any", "all", "mean"}
        A direction's score is the largest, smallest or mean one of its poles.
    layers : str, int or iterable of int, optional
        As in `vo_factors`: only these of the scan's layers.

    Returns
    -------
    Edit

    Raises
    ------
    HeadscanError
        If the scores are missing, not from 1 to 5, contradict one another, or are for directions that the scan has
        not.
    """
    if poles not in POLES:
        raise HeadscanError(f"poles must be one of {', '.join(POLES)}, not {poles!r}")
    if not callable(mapping) and not (isinstance(mapping, Mapping) and all(score in _WHOLE for score in mapping)):
        raise HeadscanError(f"mapping goes from scores, 1 to 5, to multipliers, or is a callable, not {mapping!r}")
    asked = items(scan, layers=layers)
    if isinstance(source, (str, Path)):
        scores, origin = _from_file(files.expanded(source), asked), Path(source).name
    else:
        given = [float(score) for score in source(asked)]
        if len(given) != len(asked):
            raise HeadscanError(f"the judge was asked for {len(asked)} scores and gave {len(given)}")
        scores = {(item.direction, item.pole): score for item, score in zip(asked, given, strict=True)}
        origin = getattr(source, "__qualname__", type(source).__qualname__)
    for (direction, pole), score in scores.items():
        if not _LOWEST <= score <= _HIGHEST:
            raise HeadscanError(f"a score is from 1 to 5, not {score!r} ({said(direction)}, pole {pole})")
    by_direction: dict[Direction, list[float]] = {}
    for (direction, _), score in scores.items():
        by_direction.setdefault(direction, []).append(score)
    multiplier = mapping if callable(mapping) else lambda score: mapping.get(math.floor(score + 0.5), 1.0)
    chosen = {direction: multiplier(float(POLES[poles](values))) for direction, values in by_direction.items()}
    step = {"made_by": "from_judgements", "judge": origin, "judged": len(scores), "poles": poles}
    step["mapping"] = "callable" if callable(mapping) else {str(key): value for key, value in mapping.items()}
    return Edit(chosen, EditInfo.of(scan, step))


def items(scan: Scan, *, layers: str | int | Iterable[int] | None = None) -> list[JudgedItem]:
    """Return what there is to judge: every explained pole of the write directions, in the scan's order."""
    rows = written_rows(scan, layers=layers)
    return [_item(row, k=scan.info.k) for row in rows.to_dict("records")]


def _item(row: dict[Any, Any], *, k: int) -> JudgedItem:
    code = [(float(row[f"coefficient_{place}"]), str(row[f"concept_{place}"])) for place in range(k)]
    code = sorted((pair for pair in code if pair[0] > 0), key=lambda pair: -pair[0])
    direction = Direction("vo", int(row["layer"]), int(row["head"]), int(row["index"]))
    return JudgedItem(direction, str(row["pole"]), tuple(text for _, text in code), tuple(value for value, _ in code))


def _from_file(path: Path, asked: Sequence[JudgedItem]) -> dict[tuple[Direction, str], float]:
    known = {(item.direction, item.pole) for item in asked}
    poles = sorted({item.pole for item in asked})
    if path.suffix == ".txt" or path.is_dir():
        return _decisions(path, asked)
    table = _read_table(path)
    missing = [name for name in ("layer", "head", "index", "score") if name not in table.columns]
    if missing:
        raise HeadscanError(f"{path} needs layer, head, index and score: {missing[0]} is missing")
    scores: dict[tuple[Direction, str], float] = {}
    for number, row in enumerate(table.to_dict("records"), start=1):
        try:
            direction = Direction("vo", *(_whole(row[name]) for name in ("layer", "head", "index")))
            score = float(row["score"])
        except (OverflowError, TypeError, ValueError) as error:
            raise HeadscanError(f"{path}, judgement {number} is not of numbers: {error}") from error
        given: Any = row.get("pole")
        left_out = given is None or given != given  # NaN: an empty cell
        if not left_out and given not in ("+", "-"):
            raise HeadscanError(f"{path}, judgement {number}: pole is +, - or left out, for both, not {given!r}")
        for pole in poles if left_out else [given]:
            if (direction, pole) not in known:
                raise HeadscanError(f"{path}, judgement {number}: the scan has no {said(direction)}, pole {pole}")
            if (direction, pole) in scores and scores[direction, pole] != score:
                raise HeadscanError(
                    f"{path}, judgement {number}: {said(direction)}, pole {pole} comes twice, with the scores "
                    f"{scores[direction, pole]:g} and {score:g}; keep one"
                )
            scores[direction, pole] = score
    return scores


def _decisions(path: Path, asked: Sequence[JudgedItem]) -> dict[tuple[Direction, str], float]:
    """Read decisions of the published code: a file a layer, a score a line, heads after one another."""
    heads = 1 + max((item.direction.head for item in asked), default=-1)
    paths = sorted(path.glob("layer-*.txt")) if path.is_dir() else [path]
    if not paths:
        raise HeadscanError(f"{path} holds no decisions (layer-20_right_....txt)")
    by_layer: dict[int, tuple[Path, list[str]]] = {}
    for one in paths:
        layer = layer_of(one)
        if layer in by_layer:
            raise HeadscanError(f"{one.name} and {by_layer[layer][0].name} are of the same layer: give one of them")
        by_layer[layer] = one, read_text(one, "the decisions").split()
    scores: dict[tuple[Direction, str], float] = {}
    for item in asked:
        layer, head, index = item.direction[1:]
        if layer not in by_layer:
            continue
        one, lines = by_layer[layer]
        rank, rest = divmod(len(lines), heads)
        if rest or not rank:
            raise HeadscanError(f"{one} holds {len(lines)} decisions, which {heads} heads cannot share equally")
        line = lines[head * rank + index] if index < rank else "Error"
        if line != "Error":  # what the published code writes where it got no answer
            try:
                scores[item.direction, item.pole] = float(int(line))
            except ValueError as error:
                raise HeadscanError(f"{one}: a decision is 1 to 5 or Error, not {line!r:.40}") from error
    return scores


def _whole(value: Any) -> int:
    if not float(value).is_integer():
        raise ValueError(f"{value!r} is not a whole number")
    return int(float(value))


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.exists():
        raise HeadscanError(f"there is no file of judgements {path}")
    text = read_text(path, "the judgements")
    with reading(path, "the judgements"):
        if path.suffix == ".csv":
            table: pd.DataFrame = pd.read_csv(io.StringIO(text))
            return table
        whole = text.lstrip().startswith("[")
        rows = json.loads(text) if whole else [json.loads(line) for line in text.splitlines() if line.strip()]
        return pd.DataFrame(rows)  # type: ignore[no-any-return]
