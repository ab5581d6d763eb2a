"""What a detection leaves behind: scores.csv, scores.parquet, scores.png and report.html."""

import base64
import io
import json
from dataclasses import asdict
from pathlib import Path

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from jaxtyping import Float
from PIL import Image

from dae_theory.detect.model import DetectorModel
from dae_theory.detect.run import Detection
from dae_theory.detect.scores import SCORES
from dae_theory.files import write_whole
from dae_theory.memorization.copies import COPY_RATIO

COLUMNS = pa.schema(
    [
        ("image", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("verdict", pa.string()),
        ("nearest_training_image", pa.int32()),
        ("distance", pa.float64()),
        ("gap_ratio", pa.float64()),
        ("copy", pa.bool_()),
    ]
)
MEMORIZED, NOT_FLAGGED, RANKED = "memorized", "not flagged", "ranked only"
SHOWN = 100  # images in report.html
THUMBNAIL = 56  # pixels a side, at least
BLUE, ORANGE = "#0072B2", "#D55E00"


def table(detection: Detection) -> pa.Table:
    """One row an image, in their order; empty where there was no calibration, or no training
    set."""
    n, copied = len(detection.scores), detection.copied
    rank_N = np.empty(n, int)
    rank_N[np.argsort(-detection.scores, kind="stable")] = np.arange(1, n + 1)
    if detection.calibration is None:
        verdicts = [RANKED] * n
    else:
        verdicts = [MEMORIZED if flagged else NOT_FLAGGED for flagged in detection.flagged]
    nothing = [None] * n
    columns = {
        "image": detection.images.names,
        "rank": rank_N,
        "score": detection.scores,
        "p_value": nothing if detection.calibration is None else detection.p_values,
        "verdict": verdicts,
        "nearest_training_image": nothing if copied is None else copied.nearest,
        "distance": nothing if copied is None else copied.distance,
        "gap_ratio": nothing if copied is None else copied.ratio,
        "copy": nothing if copied is None else copied.ratio < COPY_RATIO,
    }
    return pa.table(columns, schema=COLUMNS)


def write_report(detection: Detection, out: Path, command: str = "") -> None:
    """Write all files into a folder."""
    rows = table(detection)
    content = io.BytesIO()
    pa.csv.write_csv(rows, content)
    write_whole(out / "scores.csv", content.getvalue())
    about = json.dumps({"answer": detection.answer, **asdict(detection.config)})
    content = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({"detection": about}), content)
    write_whole(out / "scores.parquet", content.getvalue())
    picture = draw(detection)
    write_whole(out / "scores.png", picture)
    write_whole(out / "report.html", _html(detection, rows, picture, command).encode())


def draw(detection: Detection) -> bytes:
    """Histograms of the scores, those of the calibration images on top, as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # most of a second to load
    from matplotlib.figure import Figure

    found, scores_N = detection.calibration, detection.scores
    figure = Figure(figsize=(6.8, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    every = scores_N if found is None else np.concatenate([scores_N, found.scores])
    edges = np.histogram_bin_edges(every, bins=40)
    if found is not None:
        calibrating = {"color": BLUE, "alpha": 0.5, "label": "calibration images"}
        axes.hist(found.scores, edges, density=True, **calibrating)
        label = f"threshold, false positives ≤ {detection.config.fpr:.3g}"
        axes.axvline(found.threshold, color="black", lw=1, label=label)
    axes.hist(scores_N, edges, density=True, color=ORANGE, alpha=0.5, label="images asked about")
    axes.set(xlabel=f"{detection.config.score} (high = memorized)", ylabel="density")
    axes.legend(frameon=False, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def _html(detection: Detection, rows: pa.Table, picture: bytes, command: str) -> str:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("dae_theory.detect", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters["number"] = lambda value: "–" if value is None else f"{value:.4g}"
    ranked = rows.append_column("index", pa.array(np.arange(len(rows)))).sort_by("rank")
    shown = ranked.slice(0, SHOWN).to_pylist()
    for row in shown:
        row["picture"] = _inline(detection.images.rows[row["index"]], detection.model)
        row["training"] = ""
        if detection.copied is not None:
            training_D = detection.training[row["nearest_training_image"]]
            row["training"] = _inline(training_D, detection.model)
    return templates.get_template("report.html").render(
        answer=detection.answer,
        command=command,
        model=detection.model.name,
        score=SCORES[detection.config.score],
        config=detection.config,
        passes=detection.passes,
        calibration=detection.calibration,
        notes=detection.notes,
        left_out=detection.images.left_out,
        picture=_uri(picture),
        rows=shown,
        total=len(rows),
    )


def _inline(row_D: Float[np.ndarray, " D"], model: DetectorModel) -> str:
    """An image as a data URI; empty where rows are no images."""
    if len(model.image_shape) == 1:
        return ""
    black, white = model.pixel_range
    levels = np.clip((row_D - black) / (white - black), 0, 1).reshape(model.image_shape)
    image = Image.fromarray(np.round(255 * levels).astype(np.uint8).squeeze())
    factor = max(1, -(-THUMBNAIL // image.width))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    content = io.BytesIO()
    image.save(content, "png")
    return _uri(content.getvalue())


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
