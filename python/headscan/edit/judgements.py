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
from headscan.edit.codes import written_rows
from headscan.edit.direction import Direction, in_words
from headscan.edit.info import Choice
from headscan.edit.matching import check_poles, combined
from headscan.errors import HeadscanError
from headscan.explanations.published import layer_of

if TYPE_CHECKING:
    import pandas as pd

    from headscan.explanations.result import Scan

__all__ = ["Judge", "JudgedItem", "items", "judged"]

_LOWEST, _HIGHEST = 1.0, 5.0
_WHOLE = (1, 2, 3, 4, 5)


class JudgedItem(NamedTuple):
    """One explanation to judge: a pole of a write direction, its concepts and their coefficients, largest first."""

    direction: Direction
    pole: str
    concepts: tuple[str, ...]
    coefficients: tuple[float, ...]


Judge = Callable[[Sequence[JudgedItem]], Sequence[float]]


def judged(
    scan: Scan,
    source: str | Path | Judge,
    mapping: Mapping[int, float] | Callable[[float], float],
    *,
    poles: str,
    layers: str | int | Iterable[int] | None,
) -> Choice:
    """Return the multipliers that scores from 1 to 5 ask for; see `Edit.from_judgements`."""
    check_poles(poles)
    if not callable(mapping) and not (isinstance(mapping, Mapping) and all(score in _WHOLE for score in mapping)):
        raise HeadscanError(f"mapping goes from scores, 1 to 5, to multipliers, or is a callable, not {mapping!r}")
    asked = items(scan, layers=layers)
    scores, origin = _scores(source, asked)
    for (direction, pole), score in scores.items():
        if not _LOWEST <= score <= _HIGHEST:
            raise HeadscanError(f"a score is from 1 to 5, not {score!r} ({in_words(direction)}, pole {pole})")
    by_direction: dict[Direction, list[float]] = {}
    for (direction, _), score in scores.items():
        by_direction.setdefault(direction, []).append(score)
    multiplier = mapping if callable(mapping) else lambda score: mapping.get(math.floor(score + 0.5), 1.0)
    chosen = {direction: multiplier(score) for direction, score in combined(by_direction, poles).items()}
    step = {"made_by": "from_judgements", "judge": origin, "judged": len(scores), "poles": poles}
    step["mapping"] = "callable" if callable(mapping) else {str(key): value for key, value in mapping.items()}
    return Choice(chosen, step)


def _scores(source: str | Path | Judge, asked: list[JudgedItem]) -> tuple[dict[tuple[Direction, str], float], str]:
    """Return a score an item, from a file or a callable, and what they come from."""
    if isinstance(source, (str, Path)):
        return _from_file(files.expanded(source), asked), Path(source).name
    given = [float(score) for score in source(asked)]
    if len(given) != len(asked):
        raise HeadscanError(f"the judge was asked for {len(asked)} scores and gave {len(given)}")
    scores = {(item.direction, item.pole): score for item, score in zip(asked, given, strict=True)}
    return scores, str(getattr(source, "__qualname__", type(source).__qualname__))


def items(scan: Scan, *, layers: str | int | Iterable[int] | None = None) -> list[JudgedItem]:
    """Return what there is to judge: every explained pole of the write directions, in the scan's order."""
    rows = written_rows(scan, layers=layers)
    return [_item(row, k=scan.info.k) for row in rows.to_dict("records")]


def _item(row: dict[Any, Any], *, k: int) -> JudgedItem:
    code = [(float(row[f"coefficient_{rank}"]), str(row[f"concept_{rank}"])) for rank in range(k)]
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
        where = f"{path}, judgement {number}"
        direction, given, score = _judgement(row, where)
        for pole in poles if given is None else [given]:
            if (direction, pole) not in known:
                raise HeadscanError(f"{where}: the scan has no {in_words(direction)}, pole {pole}")
            if (direction, pole) in scores and scores[direction, pole] != score:
                raise HeadscanError(
                    f"{where}: {in_words(direction)}, pole {pole} comes twice, with the scores "
                    f"{scores[direction, pole]:g} and {score:g}; keep one"
                )
            scores[direction, pole] = score
    return scores


def _judgement(row: Mapping[Any, Any], where: str) -> tuple[Direction, str | None, float]:
    """Return a row's direction, its pole, None for both, and its score."""
    try:
        direction = Direction("vo", *(_whole(row[name]) for name in ("layer", "head", "index")))
        score = float(row["score"])
    except (OverflowError, TypeError, ValueError) as error:
        raise HeadscanError(f"{where} is not of numbers: {error}") from error
    pole: Any = row.get("pole")
    if pole is None or pole != pole:  # NaN: an empty cell
        return direction, None, score
    if pole not in ("+", "-"):
        raise HeadscanError(f"{where}: pole is +, - or left out, for both, not {pole!r}")
    return direction, pole, score


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
