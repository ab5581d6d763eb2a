"""What of the theory emerges in deep nets without biases, and what a change of the net takes away.

Judged by the measurements that come with the package (`ladder_study`). A claim names the exact
denoisers that must pass it, too: what they miss no net can be blamed for.
"""

from collections.abc import Callable
from dataclasses import replace

from dae_theory.deep.ladder.nets import PLAIN
from dae_theory.deep.ladder.rungs import (
    DIFFERENT,
    F_EMP,
    FEW,
    FIVE,
    HOMOGENEOUS,
    LOCAL_PCA,
    MOST,
    UNTRAINED,
    WIDE,
)
from proofs_checks.claims import FLOAT32, Claim, Kind, Mutant, Origin, Verdict
from proofs_checks.diffusion.ladder_study import (
    LadderStudy,
    antisymmetric,
    degree,
    gain_between,
    gain_is_degree,
    gain_of_5,
    in_order,
    no_gain,
    passed_by,
    rerun,
    top_direction,
    trace_ratio,
    worst_of,
)

ONE_DEPTH = (3,)
# Changes of the net with which D(cy) = c D(y), as without the change, and with which D(cy) = D(y).
DEGREE_1 = (WIDE, "skip", "convolution", "conditioned gains")
DEGREE_0 = ("rms norm", "layer norm", "group norm")

# --- mutants -------------------------------------------------------------------------------------


def of_nets(name: str, change: Callable[[dict, LadderStudy], dict]) -> Mutant:
    """What was measured of every plain net is changed; exact denoisers stay as they are."""

    def apply(e: LadderStudy) -> LadderStudy:
        rows = tuple(change(row, e) if row["kind"] == PLAIN else row for row in e.ladder.rows)
        return replace(e, ladder=replace(e.ladder, rows=rows))

    return Mutant(name, apply)


def in_place_of_nets(name: str, kind: str) -> Mutant:
    """The denoiser of another kind on the same images, where there is one."""

    def change(row: dict, e: LadderStudy) -> dict:
        same = {key: row[key] for key in ("data", "n", "seed")} | {"kind": kind}
        for other in e.ladder.rows:
            if other | same == other:
                return other | {"kind": PLAIN, "depth": row["depth"]}
        return row

    return of_nets(name, change)


def another_image(row: dict, e: LadderStudy) -> dict:
    """Directions and gains along the image of another point."""
    names = ("left", "right", "gain")
    return row | {f"training/{name}": row[f"training/other_{name}"] for name in names}


def neighbourhoods_exchanged(first: str, second: str) -> Mutant:
    """Operators of two neighbourhoods, one for the other."""
    places = {f"/{first}/": f"/{second}/", f"/{second}/": f"/{first}/"}

    def exchanged(name: str) -> str:
        for place, other in places.items():
            if place in name:
                return name.replace(place, other)
        return name

    return of_nets(
        f"neighbourhoods {first} and {second} exchanged",
        lambda row, e: {exchanged(name): value for name, value in row.items()},
    )


OTHER_IMAGE = of_nets("another image", another_image)
DOUBLED = of_nets("a factor of 2", lambda row, e: row | {"training/gain": 2 * row["training/gain"]})
UNTRAINED_NETS = in_place_of_nets("untrained nets", UNTRAINED)
F_EMP_NETS = in_place_of_nets("f_emp in the place of nets", F_EMP)
COUNTS_EXCHANGED = of_nets(
    "few and many images exchanged",
    lambda row, e: row | {"n": {FEW: MOST, MOST: FEW}.get(row["n"], row["n"])},
)


def kinds_are(name: str, kind: str, replaced: tuple[str, ...]) -> Mutant:
    """The nets of one kind in the place of these, at the same number of images and depth."""

    def apply(e: LadderStudy) -> LadderStudy:
        rows = [row for row in e.ladder.rows if row["kind"] not in replaced]
        copies = [row | {"kind": new} for row in rows if row["kind"] == kind for new in replaced]
        return replace(e, ladder=replace(e.ladder, rows=(*rows, *copies)))

    return Mutant(name, apply)


# --- claims --------------------------------------------------------------------------------------
# Tolerances were fixed on seeds below 1000 of some rungs. On seeds 1000 to 1004 four claims were
# left open, and three nets a rung were added: seeds from 2000 on judge now.

FIXED_BEFORE_LADDER = Origin(
    "fixed before nets of the seeds that judge were trained, at commit",
    "0d228b3d788f2ba0ab3d36af40c4c948ebcae7e4",
)

LEFT, RIGHT = top_direction("left"), top_direction("right")
OWN = in_order("training", ("all", "10"), ("10", "1"))
LOCAL = {
    "fashion_mnist": in_order("held_out", ("10", "1000"), ("all", "label"), ("label", "1000")),
    "patches": in_order("held_out", ("10", "1000"), ("all", "1000")),
}
OPEN = {("decode", "faces")}  # one net of eight writes another direction more
SECOND = {"fashion_mnist": "", "faces": "-faces", "patches": "-patches"}
ON = {
    "fashion_mnist": "images of Fashion-MNIST",
    "faces": "faces",
    "patches": "patches of photographs",
}


def where_nets_memorize(data: str) -> tuple[Claim, ...]:
    """At images of a net that has few."""

    def claim(name, statement, quantity, tolerance, exact, *mutants) -> Claim:
        return Claim(
            id=f"diffusion/ladder-{name}{SECOND[data]}",
            statement=f"{statement} ({FEW} {ON[data]}, depth 2 to 4, no biases).",
            source="docs/THEORY.md#deep-homogeneous",
            part="ladder",
            requires=(passed_by(exact, quantity, data, FEW, tolerance),),
            measure=worst_of(quantity, data, FEW),
            tolerance=tolerance,
            mutants=mutants,
            kind=Kind.CONFIRMATORY,
            origin=FIXED_BEFORE_LADDER,
            expected=Verdict.INCONCLUSIVE if (name, data) in OPEN else Verdict.HOLDS,
        )

    return (
        claim(
            "decode",
            "The direction that a deep ReLU net writes most at a training image is that image",
            LEFT,
            0.1,
            HOMOGENEOUS,
            UNTRAINED_NETS,
            OTHER_IMAGE,
        ),
        claim(
            "encode",
            "The direction that it reads most there is that image, too",
            RIGHT,
            0.15,
            FIVE,
            UNTRAINED_NETS,
            OTHER_IMAGE,
            F_EMP_NETS,
        ),
        claim(
            "gain",
            "It keeps a training image's own direction with the gain of (5)",
            gain_of_5,
            0.15,
            FIVE,
            UNTRAINED_NETS,
            OTHER_IMAGE,
            F_EMP_NETS,
        ),
        claim(
            "gain-between",
            "That gain is between the one of the best homogeneous denoiser and (5)",
            gain_between,
            0.05,
            HOMOGENEOUS,
            UNTRAINED_NETS,
            DOUBLED,
            F_EMP_NETS,
        ),
        claim(
            "own-neighbourhood",
            "Its Jacobian is more like the operator of that image alone than of its neighbours, "
            "and more like theirs than that of all",
            OWN,
            0.0,
            HOMOGENEOUS,
            neighbourhoods_exchanged("1", "all"),
            F_EMP_NETS,
        ),
    )


def where_nets_generalize(data: str) -> tuple[Claim, ...]:
    """At images of a net that has many."""
    shared = {
        "source": "docs/THEORY.md#deep-homogeneous",
        "part": "ladder",
        "kind": Kind.CONFIRMATORY,
        "origin": FIXED_BEFORE_LADDER,
    }
    return (
        Claim(
            id=f"diffusion/ladder-local-neighbourhood{SECOND[data]}",
            statement=f"At held-out images the Jacobian of a deep ReLU net on {MOST:,} {ON[data]} "
            "is more like S(S+σ²)⁻¹ of the 1,000 nearest than of the 10 nearest, the label (where "
            "there are labels) or all, and more like that of the label than of all.",
            requires=(passed_by(LOCAL_PCA, LOCAL[data], data, MOST, 0.0),),
            measure=worst_of(LOCAL[data], data, MOST),
            tolerance=0.0,
            mutants=(neighbourhoods_exchanged("1000", "all"),),
            **shared,
        ),
        Claim(
            id=f"diffusion/ladder-rank{SECOND[data]}",
            statement=f"At training images it keeps at most a quarter as many directions if there "
            f"are {FEW} as if there are {MOST:,} ({ON[data]}).",
            requires=(passed_by(HOMOGENEOUS, trace_ratio, data, FEW, 0.25),),
            measure=worst_of(trace_ratio, data, FEW),
            tolerance=0.25,
            mutants=(UNTRAINED_NETS, COUNTS_EXCHANGED),
            **shared,
        ),
    )


CLAIMS = (
    *where_nets_memorize("fashion_mnist"),
    *where_nets_memorize("faces"),
    *where_nets_generalize("fashion_mnist"),
    *where_nets_generalize("patches"),
    Claim(
        id="diffusion/ladder-again",
        statement="A rung trained anew measures what the ladder in the package says.",
        source="docs/THEORY.md#deep-homogeneous",
        part="ladder",
        measure=rerun,
        tolerance=0.1,
        mutants=(UNTRAINED_NETS,),
        kind=Kind.EXPLORATORY,  # its tolerance is younger than the ladder
        slow=True,
    ),
    Claim(
        id="diffusion/ladder-degree-one",
        statement="Nets without biases are homogeneous, J(y)y = D(y), also with a skip, "
        "convolutions or gains that depend on the noise level.",
        source="docs/THEORY.md#deep-homogeneous",
        part="ladder",
        measure=worst_of(degree(1.0), "fashion_mnist", FEW, ONE_DEPTH, (PLAIN, *DEGREE_1)),
        tolerance=1e-3,
        origin=FLOAT32,
        mutants=(kinds_are("biases in the net with a skip", "biases", ("skip",)),),
        kind=Kind.EXACT,
    ),
    Claim(
        id="diffusion/ladder-degree-zero",
        statement="With a norm before the activations the length of y is lost, J(y)y = 0.",
        source="docs/THEORY.md#deep-homogeneous",
        part="ladder",
        measure=worst_of(degree(0.0), "fashion_mnist", FEW, ONE_DEPTH, DEGREE_0),
        tolerance=1e-3,
        origin=FLOAT32,
        mutants=(kinds_are("biases instead of group norm", "biases", ("group norm",)),),
        kind=Kind.EXACT,
    ),
    Claim(
        id="diffusion/ladder-homogeneous-gain",
        statement="Changes that leave a net homogeneous leave it the gain of (5).",
        source="docs/THEORY.md#deep-homogeneous",
        part="ladder",
        requires=(passed_by(FIVE, gain_of_5, "fashion_mnist", FEW, 0.15),),
        measure=worst_of(gain_of_5, "fashion_mnist", FEW, ONE_DEPTH, DEGREE_1),
        tolerance=0.15,
        mutants=(
            kinds_are("RMS norm in the net with a skip", "rms norm", ("skip",)),
            kinds_are("untrained nets", UNTRAINED, DEGREE_1),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_BEFORE_LADDER,
    ),
    Claim(
        id="diffusion/ladder-norms-remove-gain",
        statement="Norms before the activations take the gain of (5) away: nearly nothing is kept "
        "of a training image's own direction.",
        source="docs/THEORY.md#deep-homogeneous",
        part="ladder",
        measure=worst_of(no_gain, "fashion_mnist", FEW, ONE_DEPTH, DEGREE_0),
        tolerance=0.1,
        mutants=(kinds_are("no norm", PLAIN, ("layer norm",)),),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_BEFORE_LADDER,
    ),
    Claim(
        id="diffusion/ladder-gain-is-degree",
        statement="Whatever the change of the net, its gain along a training image is its degree "
        "of homogeneity.",
        source="docs/THEORY.md#deep-homogeneous",
        part="ladder",
        requires=(passed_by(FIVE, gain_is_degree, "fashion_mnist", FEW, 0.2),),
        measure=worst_of(gain_is_degree, "fashion_mnist", FEW, ONE_DEPTH, (PLAIN, *DIFFERENT)),
        tolerance=0.2,
        mutants=(
            kinds_are("the best homogeneous denoiser", HOMOGENEOUS, ("smooth",)),
            kinds_are("untrained nets", UNTRAINED, ("skip",)),
        ),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_BEFORE_LADDER,
    ),
    Claim(
        id="diffusion/ladder-symmetric",
        statement=f"At held-out images the Jacobian of a deep ReLU net on {MOST:,} images is "
        "symmetric, as of a posterior mean, to 5% of its energy.",
        source="docs/THEORY.md#jacobian",
        part="ladder",
        requires=(passed_by(F_EMP, antisymmetric, "fashion_mnist", MOST, 0.05),),
        measure=worst_of(antisymmetric, "fashion_mnist", MOST),
        tolerance=0.05,
        mutants=(UNTRAINED_NETS,),
        kind=Kind.CONFIRMATORY,
        origin=FIXED_BEFORE_LADDER,
        expected=Verdict.FAILS,
    ),
)
