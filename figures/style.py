"""How the figures look, and how they are saved: for print, colour-blind safe, byte for byte."""

import io
from pathlib import Path
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dae_theory.files import write_whole

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.8  # widths in inches
DPI = 200
METADATA = {  # without dates and versions
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
}

# Okabe and Ito's palette: told apart by all common kinds of colour vision, and by lightness.
MEMORIZING = "#D55E00"  # vermillion: memorizing nets, samples stored one by one
GENERALIZING = "#0072B2"  # blue: generalizing nets
DUPLICATES = "#CC79A7"  # purple: duplicated samples within a hybrid net
THEORY = "#000000"  # black: what a formula says
NEUTRAL = "#8C8C8C"  # gray: everything else

RC = MappingProxyType(
    {
        "font.family": "DejaVu Sans",  # comes with matplotlib
        "font.size": 8,
        "mathtext.fontset": "dejavusans",
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 1.5,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "lines.linewidth": 1.0,
        "lines.markersize": 4,
        "pdf.fonttype": 42,  # fonts that journals accept
        "savefig.dpi": DPI,
    }
)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches; it needs no display and no pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panel_title(axes: Axes, letter: str, text: str) -> None:
    """A title at the left edge that starts with the panel's letter."""
    axes.set_title(f"({letter}) {text}", loc="left")


def save(figure: Figure, out_dir: Path, name: str) -> list[Path]:
    """Write ``name``.pdf and ``name``.png."""
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = [out_dir / f"{name}{suffix}" for suffix in METADATA]
    # One layout for both files: finding it takes as long as drawing.
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)  # which "none" would not do: it asks for another drawing
    for path in paths:
        write_picture(figure, path)
    return paths


def write_picture(figure: Figure, path: Path) -> None:
    """Write a PDF or PNG, by the suffix; the same figure gives the same bytes."""
    content = io.BytesIO()
    kind, metadata = path.suffix.removeprefix("."), METADATA[path.suffix]
    figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    write_whole(path, content.getvalue())
