"""Edits: multipliers made from explanations, class names, judgements or a table, applied to a model, saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headscan.edit.choice import choose
from headscan.edit.direction import COLUMNS, unique
from headscan.edit.edited import EditedModel, Pictures, apply_edit, changes
from headscan.edit.files import EDIT, check_unchanged, read_content
from headscan.edit.info import Choice, EditInfo
from headscan.edit.judgements import Judge, judged
from headscan.edit.multipliers import Multipliers
from headscan.edit.relevance import relevant
from headscan.errors import HeadscanError
from headscan.explanations.result import check_scan
from headscan.models.model import Model

if TYPE_CHECKING:
    import pandas as pd

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan

__all__ = ["Edit", "load_edit"]


@dataclass(frozen=True, eq=False)
class Edit(Multipliers):
    """Multipliers of singular values: W_VO = U S V^T becomes U S M V^T (arXiv 2603.24653, section on edits).

    Made by its class methods, or read by `headscan.load_edit`. Edits combine, invert, differ and are saved as
    `headscan.edit.multipliers.Multipliers` says.

    Attributes
    ----------
    multipliers : mapping of Direction to float
        Only those that change something: a multiplier of exactly 1 is left out.
    info : EditInfo
        Provenance.
    """

    @classmethod
    def suppress(
        cls,
        scan: Scan,
        model: Model,
        *,
        like: str | Sequence[str],
        strength: float = 0.0,
        unlike: str | Sequence[str] | None = None,
        threshold: float | None = None,
        chance: float = 0.05,
        graded: bool = False,
        poles: str = "any",
        layers: str | int | Iterable[int] | None = None,
        dictionary: Dictionary | None = None,
    ) -> Edit:
        """Scale down the directions whose explanation matches a text.

        An explanation's score is the mean, weighted by its coefficients, of each concept's largest similarity to the
        texts of `like` (and not to those of `unlike`), in the centred joint space. A direction is chosen if an
        explanation of it is itself better than chance, if that matches better than chance, and if a text of `like` is
        among the nearest 1 % of the dictionary's concepts to it (`headscan.edit.evidence`). No label and no picture
        is looked at. Where nothing is chosen, the edit is empty, and its step's ``why_empty`` says why.

        Parameters
        ----------
        scan : Scan
            Explanations of the write side; only its layers are edited.
        model : Model
            The model that was scanned.
        like : str or sequence of str
            What to match: texts, or one text with commas.
        strength : float, default 0
            The multiplier: 0 removes.
        unlike : str or sequence of str, optional
            A concept that is nearer to one of these counts against the match, with minus that similarity.
        threshold : float, optional
            Choose by the score alone, of at least this, whatever chance says.
        chance : float, default 0.05
            Largest q-value of the explanation, in the scan's part and side, and of the match, over the directions
            looked at.
        graded : bool, default False
            Scale by degree: the multiplier goes linearly from 1 at the median score of random directions to
            `strength` at the highest score that is chosen, or at the threshold where there is one, so that a
            direction which names the texts among other things gives up a part.
        poles : {"any", "all", "mean"}
            Which of a direction's poles have to match: scaling a singular value scales both.
        layers : str, int or iterable of int, optional
            As in `vo_factors`: only these of the scan's layers.
        dictionary : Dictionary, optional
            The one that the scan was made with; by default it is taken from the scan, or from the cache.

        Returns
        -------
        Edit

        Raises
        ------
        HeadscanError
            If scan, model and dictionary do not belong together, the dictionary is nowhere to be had, the scan was
            not compared with chance and there is no threshold, or an option is out of range.
        """
        choice = choose(
            scan, model, made_by="suppress", like=like, strength=strength, unlike=unlike, threshold=threshold,
            chance=chance, graded=graded, poles=poles, layers=layers, dictionary=dictionary,
        )  # fmt: skip
        return cls._of(scan, choice)

    @classmethod
    def amplify(
        cls,
        scan: Scan,
        model: Model,
        *,
        like: str | Sequence[str],
        strength: float = 2.0,
        unlike: str | Sequence[str] | None = None,
        threshold: float | None = None,
        chance: float = 0.05,
        graded: bool = False,
        poles: str = "any",
        layers: str | int | Iterable[int] | None = None,
        dictionary: Dictionary | None = None,
    ) -> Edit:
        """Scale up the directions whose explanation matches a text: `suppress` with another default `strength`.

        Parameters
        ----------
        scan, model, like, unlike, threshold, chance, graded, poles, layers, dictionary
            As in `suppress`.
        strength : float, default 2
            The multiplier.

        Returns
        -------
        Edit

        Raises
        ------
        HeadscanError
            As `suppress` does.
        """
        choice = choose(
            scan, model, made_by="amplify", like=like, strength=strength, unlike=unlike, threshold=threshold,
            chance=chance, graded=graded, poles=poles, layers=layers, dictionary=dictionary,
        )  # fmt: skip
        return cls._of(scan, choice)

    @classmethod
    def for_classes(
        cls,
        scan: Scan,
        model: Model,
        classes: Sequence[str],
        *,
        offset: float = 0.3,
        floor: float | None = 0.8,
        ceiling: float | None = None,
        sparsity: int = 10,
        centred: bool = False,
        exclude: str = "exact",
        poles: str = "any",
        layers: str | int | Iterable[int] | None = None,
        dictionary: Dictionary | None = None,
    ) -> Edit:
        """Scale directions by their relevance for telling classes apart (arXiv 2603.24653, classification).

        Each class name's embedding is explained by COMP over the concepts that are no class name; what is picked for
        any class are the task's concepts. A direction's relevance is the sum over its code of coefficient times
        largest similarity to a task concept; its multiplier is ``relevance + offset``, at least `floor` and at most
        `ceiling`.

        Parameters
        ----------
        scan, model, poles, layers, dictionary
            As in `suppress`.
        classes : sequence of str
            Class names, without a prompt.
        offset, floor, ceiling : float
            None for no bound.
        sparsity : int, default 10
            Concepts a class.
        centred : bool, default False
            Centre class names and concepts on the dictionary's mean before they are compared; the published code
            does not.
        exclude : {"exact", "containing"}
            Leave out concepts that are a class name, as published, or all that hold one as a whole word.

        Returns
        -------
        Edit

        Raises
        ------
        HeadscanError
            If too few concepts are left, or an option is out of range.
        """
        choice = relevant(
            scan, model, classes, offset=offset, floor=floor, ceiling=ceiling, sparsity=sparsity, centred=centred,
            exclude=exclude, poles=poles, layers=layers, dictionary=dictionary,
        )  # fmt: skip
        return cls._of(scan, choice)

    @classmethod
    def from_judgements(
        cls,
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
            holds for both) and score; decisions of the published code, ``layer-20_right_....txt`` or a folder of
            them (a line a direction, heads after one another); or a callable from a list of `JudgedItem` to as many
            scores, such as `headscan.judge.EndpointJudge`.
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
            If the scores are missing, not from 1 to 5, contradict one another, or are for directions that the scan
            has not.
        """
        return cls._of(scan, judged(scan, source, mapping, poles=poles, layers=layers))

    @classmethod
    def from_table(cls, frame: pd.DataFrame, scan: Scan) -> Edit:
        """Take multipliers from a table; `scan` says for which model.

        Parameters
        ----------
        frame : pandas.DataFrame
            Columns layer, head, index and multiplier; part is "vo" where there is no such column. Other columns
            are ignored.
        scan : Scan
            A scan of the model that the directions belong to.

        Raises
        ------
        HeadscanError
            If a column is missing, a value is none, or a direction comes twice with different multipliers.
        """
        check_scan(scan)
        missing = [name for name in COLUMNS if name != "part" and name not in frame.columns]
        if missing:
            raise HeadscanError(
                f"the table of an edit needs the columns {', '.join(COLUMNS)}: {missing[0]} is missing"
            )
        parts = frame["part"] if "part" in frame.columns else ["vo"] * len(frame)
        rows = zip(parts, frame["layer"], frame["head"], frame["index"], frame["multiplier"], strict=True)
        return cls._of(scan, Choice(unique(rows), {"made_by": "from_table", "rows": len(frame)}))

    @classmethod
    def _of(cls, scan: Scan, choice: Choice) -> Edit:
        return cls(choice.multipliers, EditInfo.of(scan, choice.step))

    def apply(
        self, model: Model, *, in_place: bool = False, compensate: bool = True, pictures: Pictures | None = None
    ) -> EditedModel:
        """Return the edited model; see `headscan.edit.apply_edit`."""
        return apply_edit(model, self, in_place=in_place, compensate=compensate, pictures=pictures)

    def changes(self, model: Model) -> pd.DataFrame:
        """Return by how much each head would change; see `headscan.edit.edited.changes`."""
        return changes(model, self)


def load_edit(path: str | Path) -> Edit:
    """Return an edit saved by `Edit.save`.

    Raises
    ------
    HeadscanError
        If there is none, or it is damaged.
    """
    content, info, source = read_content(path, EDIT)
    rows = content.get("multipliers")
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(COLUMNS) for row in rows):
        raise HeadscanError(f"{source} is damaged: multipliers are not rows of {', '.join(COLUMNS)}")
    try:
        edit = Edit(unique(rows), info)
    except HeadscanError as error:
        raise HeadscanError(f"{source} is damaged: {error}") from error
    check_unchanged(content, source)
    return edit
