"""The tables of docs/RESULTS.md, from a ladder: mean ± half of the 95% t interval over nets."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.deep.ladder.measure import NEIGHBOURS
from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.rungs import (
    COUNTS,
    DEPTHS,
    DIFFERENT,
    FEW,
    FEW_CONTROLS,
    MANY,
    MANY_CONTROLS,
    MOST,
    Rung,
)
from dae_theory.deep.ladder.store import Ladder
from dae_theory.statistics import mean_interval

DIRECTIONS = {
    "trace": "training/trace",
    "stable rank": "training/stable_rank",
    "written": "training/left",
    "read": "training/right",
    "gain": "training/gain",
    "degree": "training/degree",
    "antisymmetric": "held_out/antisymmetric",
}
UNITS = {
    f"layer {k}: {name}": f"hidden{k}/{name}" for k in (1, 2, 3) for name in ("units", "stored")
}
AROUND = {
    name: f"held_out/second moment/{name}/cosine"
    for name in (*map(str, NEIGHBOURS), "label", "all")
}
OTHER_DATA = {"faces": (10, FEW), "patches": (FEW, MOST), "shuffled": (FEW, MANY)}


def mean_and_reach(values_S: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """Mean over nets, and half the length of its t interval (NaN for one net)."""
    interval = mean_interval(values_S, symmetric=True)
    reach = float("nan") if interval is None else (interval.high - interval.low) / 2
    return float(np.mean(values_S)), reach


def _cell(ladder: Ladder, quantity: str, rung: Rung) -> str:
    try:
        values_S = ladder.values(quantity, rung.data, rung.n, rung.kind, rung.depth)
    except InputError:  # not measured: a ladder cut short, or more neighbours than images
        return ""
    mean, reach = mean_and_reach(values_S)
    digits = 1 if abs(mean) >= 10 else 2
    return f"{mean:.{digits}f} ± {reach:.{digits}f}"


def _table(ladder: Ladder, quantities: dict[str, str], rungs: Iterable[Rung]) -> list[str]:
    """A Markdown table, a rung a line; rungs without any of the quantities are left out."""
    names = ["data", "images", "denoiser", *quantities]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for rung in rungs:
        cells = [_cell(ladder, quantity, rung) for quantity in quantities.values()]
        if any(cells):
            kind = f"{rung.kind}, depth {rung.depth}" if rung.kind == PLAIN else rung.kind
            lines.append(f"| {rung.data} | {rung.n:,} | {kind} | " + " | ".join(cells) + " |")
    return lines


def tables(ladder: Ladder) -> dict[str, list[str]]:
    """Markdown tables by their titles."""
    data = "fashion_mnist"
    plain = [Rung(data, n, PLAIN, depth) for n in COUNTS for depth in DEPTHS]
    controls = [Rung(data, n, kind) for n in (10, FEW) for kind in FEW_CONTROLS]
    controls += [Rung(data, n, kind) for n in (MANY, MOST) for kind in MANY_CONTROLS]
    changes = [Rung(data, n, kind) for n in (FEW, MANY) for kind in (PLAIN, *DIFFERENT)]
    others = [
        Rung(name, n, kind, depth)
        for name, counts in OTHER_DATA.items()
        for n in counts
        for kind, depths in (
            (PLAIN, DEPTHS),
            *((kind, (3,)) for kind in dict.fromkeys(FEW_CONTROLS + MANY_CONTROLS)),
        )
        for depth in depths
    ]
    depth_3 = [rung for rung in plain if rung.depth == 3]
    generalizing: Sequence[Rung] = [
        *depth_3,
        *(rung for rung in controls if rung.n >= MANY),
        *(rung for rung in others if rung.n == MOST),
    ]
    return {
        "Depth and number of images": _table(ladder, DIRECTIONS, plain),
        "One change of a net of depth 3": _table(ladder, DIRECTIONS, changes),
        "Exact denoisers and untrained nets": _table(ladder, DIRECTIONS, controls),
        "Other images": _table(ladder, DIRECTIONS, others),
        "Cosine with the operators of neighbourhoods, held-out images": _table(
            ladder, AROUND, generalizing
        ),
        "Effective units, and units stored per image": _table(ladder, UNITS, depth_3),
    }


def text(ladder: Ladder) -> str:
    """All tables under their titles."""
    parts = [f"#### {title}\n\n" + "\n".join(lines) for title, lines in tables(ladder).items()]
    return "\n\n".join(parts)
