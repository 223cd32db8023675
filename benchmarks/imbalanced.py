"""The 27 imbalanced sets of Figure 1 (Ding 2011; imbalanced-learn's ``fetch_datasets``): what each must look like."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Shape(NamedTuple):
    """Rows, columns, rows of the minority."""

    rows: int
    columns: int
    minority: int


#: Least imbalanced first, as the benchmark orders them.
TABLE: dict[str, Shape] = {
    "ecoli": Shape(336, 7, 35),
    "optical_digits": Shape(5_620, 64, 554),
    "satimage": Shape(6_435, 36, 626),
    "pen_digits": Shape(10_992, 16, 1_055),
    "abalone": Shape(4_177, 10, 391),
    "sick_euthyroid": Shape(3_163, 42, 293),
    "spectrometer": Shape(531, 93, 45),
    "car_eval_34": Shape(1_728, 21, 134),
    "isolet": Shape(7_797, 617, 600),
    "us_crime": Shape(1_994, 100, 150),
    "yeast_ml8": Shape(2_417, 103, 178),
    "scene": Shape(2_407, 294, 177),
    "libras_move": Shape(360, 90, 24),
    "thyroid_sick": Shape(3_772, 52, 231),
    "coil_2000": Shape(9_822, 85, 586),
    "arrhythmia": Shape(452, 278, 25),
    "solar_flare_m0": Shape(1_389, 32, 68),
    "oil": Shape(937, 49, 41),
    "car_eval_4": Shape(1_728, 21, 65),
    "wine_quality": Shape(4_898, 11, 183),
    "letter_img": Shape(20_000, 16, 734),
    "yeast_me2": Shape(1_484, 8, 51),
    "webpage": Shape(34_780, 300, 981),
    "ozone_level": Shape(2_536, 72, 73),
    "mammography": Shape(11_183, 6, 260),
    "protein_homo": Shape(145_751, 74, 1_296),
    "abalone_19": Shape(4_177, 10, 32),
}

#: Two of the five groups of speakers of isolet, 3,119 of its 7,797 rows, where the whole set is not at hand.
PART = "isolet_partial"
PARTS: dict[str, Shape] = {PART: Shape(3_119, 617, 240)}


def checked(name: str, X: Any, y: Any) -> None:
    """Raise a ValueError that names the set where its shape or its classes are not those of the table.

    Parameters
    ----------
    name : str
        A set of `TABLE` or `PARTS`.
    X, y : array (rows, columns), (rows,)
        Inputs; +1 for the minority, -1 for the majority.
    """
    wanted = {**TABLE, **PARTS}[name]
    if X.ndim != 2 or X.shape != wanted[:2] or len(y) != wanted.rows:
        raise ValueError(f"{name}: must be {wanted.rows} x {wanted.columns}, got {X.shape} and {len(y)} labels")
    if set(np.unique(y)) != {-1, 1}:
        raise ValueError(f"{name}: labels must be -1 and +1, got {np.unique(y)[:5]}")
    minority = int((y == 1).sum())
    if minority != wanted.minority:
        raise ValueError(f"{name}: must have {wanted.minority} rows of the minority, got {minority}")
