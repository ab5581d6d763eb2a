"""Theory against the shipped deep nets: what their Jacobians keep, at memorized and other images.

These nets have biases, norms and a skip: they are not homogeneous, and what (5) says of a gain is
not to be expected of them. `deep_ladder` judges nets that are, and names what each change removes.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from dae_theory.diffusion.jacobian import (
    Alignment,
    align_jacobians,
    decompose,
    gains_along,
    local_operator,
    nearest_samples,
    summarize_jacobians,
    top_direction_cosines,
)
from proofs_checks.claims import Claim, Kind, Measured, Verdict
from proofs_checks.diffusion.jacobian_mutants import (
    GROUPS,
    NETS,
    NOTHING,
    OTHER_IMAGES,
    ROTATED,
    SHIFTED,
    STORED,
)
from proofs_checks.diffusion.jacobian_study import (
    JacobianExperiment,
    NetPoints,
    Points,
    listed,
    nets_there,
    of_worst,
)
from proofs_checks.mutants import PRINTED_SIGMA

NEIGHBOURS = 300  # of local PCA


def fewer_directions(e: JacobianExperiment) -> Measured:
    """Share of a net's generalized images at which no more is kept than at a memorized one."""
    shares, traces, others = {}, {}, {}
    for net in e.mixed:
        others[net.name] = len(net.generalized.x)
        memorized_SM1 = net.memorized.traces[:, :, None]
        generalized_S1G = net.generalized.traces[:, None, :]
        shares[net.name] = np.mean(generalized_S1G <= memorized_SM1, axis=(0, 2))
        traces[net.name] = f"{memorized_SM1.mean():.1f} against {generalized_S1G.mean():.1f}"
    note = "directions kept on average: " + listed(traces)
    return of_worst(shares, shares, 0.0, note, others)


def fewer_than_control(e: JacobianExperiment) -> Measured:
    """Directions kept at a memorized image, as a multiple of what the control keeps there."""
    with np.errstate(divide="ignore"):
        ratios = {
            # A posterior mean keeps no less than nothing; a net can.
            net.name: np.maximum(net.memorized.traces / net.control.traces, 0).mean(0)
            for net in e.memorizing
        }
    return of_worst(ratios, ratios, 0.0, "trace, over that of a net without them")


def top_direction(e: JacobianExperiment) -> Measured:
    """|cosine| of the top direction (left and right averaged) with the stored image."""
    cosines = {
        net.name: np.mean(
            [top_direction_cosines(j, net.memorized.x) for j in net.memorized.jacobians],
            axis=(0, 1),
        )
        for net in e.memorizing
    }
    errors = {name: 1 - cosine for name, cosine in cosines.items()}
    return of_worst(cosines, errors, 1.0, "cosine with the stored image")


def gains(points: Points) -> Float[np.ndarray, "S N"]:
    """Gains along the images."""
    return np.stack([gains_along(matrix, points.x) for matrix in points.matrix])


def stored_gain(e: JacobianExperiment) -> Measured:
    """Gain along the stored image against (5)."""
    found, errors, uniform = {}, {}, {}
    for net in e.memorizing:
        square_N = np.sum(net.memorized.x**2, axis=1)
        predicted_SN = square_N / (square_N + np.square(e.sigmas)[:, None])
        gain_SN = gains(net.memorized)
        flat = replace(net.memorized, x=np.ones_like(net.memorized.x))
        uniform[net.name] = f"{gains(flat).mean():.3f}"
        found[net.name] = gain_SN.mean(axis=0)
        errors[net.name] = np.mean(np.abs(gain_SN / predicted_SN - 1), axis=0)
    note = "gain along the stored image; along uniform brightness: "
    return of_worst(found, errors, 1.0, note + listed(uniform))


def vanished_gain(e: JacobianExperiment) -> Measured:
    """Gain along the stored image against that of f_emp, which is 0."""
    found = {net.name: gains(net.memorized) for net in e.memorizing}
    errors = {name: np.abs(gain_SN).mean(axis=0) for name, gain_SN in found.items()}
    return of_worst(found, errors, 0.0, "gain along the stored image, f_emp's is 0")


def aligned(e: JacobianExperiment, net: NetPoints) -> list[Alignment]:
    """The Jacobians at generalized images beside the operators of their labels, by level."""
    points = net.generalized
    return [
        align_jacobians(points.jacobians[level], e.predicted(level, points.labels), 1)
        for level in range(len(e.sigmas))
    ]


def of_neighbours(e: JacobianExperiment) -> list[Alignment]:
    """The operators of the NEIGHBOURS training images nearest to each generalized image, as local
    PCA has them, beside those of its label, by level: how far a good denoiser is from the label."""
    points, training_ND = e.generalizing[0].generalized, np.concatenate(e.clusters)
    near_NK = nearest_samples(points.x, training_ND, min(NEIGHBOURS, len(training_ND)))
    return [
        align_jacobians(
            decompose(
                np.stack([local_operator(training_ND[near_K], sigma).matrix for near_K in near_NK])
            ),
            e.predicted(level, points.labels),
            1,
        )
        for level, sigma in enumerate(e.sigmas)
    ]


def local_spectrum(e: JacobianExperiment) -> Measured:
    """Relative distance of the singular values at generalized images from the predicted gains."""
    errors = {
        net.name: np.mean([a.spectrum_distance for a in aligned(e, net)], axis=0)
        for net in e.generalizing
    }
    control = np.mean([a.spectrum_distance for a in of_neighbours(e)])
    note = f"relative distance of the spectra ({control:.3f} for {NEIGHBOURS} nearest images)"
    return of_worst(errors, errors, 0.0, note)


def local_matrix(e: JacobianExperiment) -> Measured:
    """‖J − S(S + σ²)⁻¹‖/‖S(S + σ²)⁻¹‖ at generalized images."""
    errors = {
        net.name: np.mean([a.operator_distance for a in aligned(e, net)], axis=0)
        for net in e.generalizing
    }
    control = np.mean([a.operator_distance for a in of_neighbours(e)])
    note = f"relative Frobenius distance ({control:.3f} for {NEIGHBOURS} nearest images)"
    return of_worst(errors, errors, 0.0, note)


def own_cluster(e: JacobianExperiment) -> Measured:
    """Share of clusters with a higher cosine ⟨J, M_k⟩/‖J‖‖M_k‖ than an image's own."""
    shares, cosines = {}, {}
    for net in e.generalizing:
        share_SN, own_SN = [], []
        for level in range(len(e.sigmas)):
            j, operators = net.generalized.jacobians[level], e.operators[level].matrix
            cosine_NK = np.einsum("nde,kde->nk", j.matrix, operators) / (
                np.linalg.norm(j.values, axis=1)[:, None] * np.linalg.norm(operators, axis=(1, 2))
            )
            own_N = cosine_NK[np.arange(len(cosine_NK)), net.generalized.labels]
            own_SN.append(own_N)
            share_SN.append(np.sum(cosine_NK > own_N[:, None], axis=1) / (cosine_NK.shape[1] - 1))
        shares[net.name] = np.mean(share_SN, axis=0)
        cosines[net.name] = f"{np.mean(own_SN):.3f}"
    note = "share of other clusters whose operator is more like J; own cosine: "
    return of_worst(shares, shares, 0.0, note + listed(cosines))


def symmetry(e: JacobianExperiment) -> Measured:
    """Share of a Jacobian's energy in its antisymmetric part, at generalized images."""
    shares = {
        net.name: np.mean(
            [summarize_jacobians(j).asymmetry ** 2 for j in net.generalized.jacobians], axis=0
        )
        for net in e.generalizing
    }
    return of_worst(shares, shares, 0.0, "antisymmetric share of the energy")


# --- claims --------------------------------------------------------------------------------------

SOME_MEMORIZE = nets_there("memorize", lambda e: e.memorizing)
SOME_DO_BOTH = nets_there("do both", lambda e: e.mixed)
SOME_GENERALIZE = nets_there("generalize", lambda e: e.generalizing)

CLAIMS = (
    Claim(
        id="diffusion/jacobian-fewer-directions",
        statement="A deep net's Jacobian keeps fewer directions at a memorized image than at "
        "others.",
        source="docs/THEORY.md#jacobian",
        part="jacobian",
        requires=SOME_DO_BOTH,
        measure=fewer_directions,
        tolerance=0.05,
        mutants=(GROUPS, NETS),
        kind=Kind.EXPLORATORY,
        expected=Verdict.INCONCLUSIVE,  # it does at all, which are few
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-fewer-than-control",
        statement="It keeps at most half of what a net that has not memorized the image keeps "
        "there.",
        source="docs/THEORY.md#jacobian",
        part="jacobian",
        requires=SOME_MEMORIZE,
        measure=fewer_than_control,
        tolerance=0.5,
        mutants=(NETS,),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-top-direction",
        statement="Also in a net with norms, biases and a skip the direction kept most at a "
        "memorized image is that image (without them: ladder-decode, ladder-encode).",
        source="docs/THEORY.md#jacobian",
        part="jacobian",
        requires=SOME_MEMORIZE,
        measure=top_direction,
        tolerance=0.1,
        mutants=(OTHER_IMAGES, NETS),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-stored-gain",
        statement="Also a net with norms, biases and a skip keeps a memorized image's own "
        "direction with the gain of (5), as one without them does (ladder-gain).",
        source="docs/THEORY.md#jacobian",
        part="jacobian",
        requires=SOME_MEMORIZE,
        measure=stored_gain,
        tolerance=0.1,
        mutants=(NOTHING,),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-vanished-gain",
        statement="Such a net keeps as little of that direction as f_emp does: nothing.",
        source="docs/THEORY.md#jacobian",
        part="jacobian",
        requires=SOME_MEMORIZE,
        measure=vanished_gain,
        tolerance=0.1,
        mutants=(STORED, NETS),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-local-spectrum",
        statement="The images of a label are a small enough neighbourhood: at generalized images "
        "the singular values are the gains of its S(S+σ²)⁻¹ (a smaller one's are not: note).",
        source="docs/THEORY.md#local-statistics",
        part="jacobian",
        requires=SOME_GENERALIZE,
        measure=local_spectrum,
        tolerance=0.1,
        mutants=(PRINTED_SIGMA,),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-local-operator",
        statement="The images of a label are a small enough neighbourhood: at generalized images "
        "the Jacobian is its S(S+σ²)⁻¹ (a smaller one's is not: note).",
        source="docs/THEORY.md#local-statistics",
        part="jacobian",
        requires=SOME_GENERALIZE,
        measure=local_matrix,
        tolerance=0.1,
        mutants=(PRINTED_SIGMA, ROTATED),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-own-cluster",
        statement="There it is more like S(S+σ²)⁻¹ of the image's own label than of others.",
        source="docs/THEORY.md#local-statistics",
        part="jacobian",
        requires=SOME_GENERALIZE,
        measure=own_cluster,
        tolerance=0.2,
        mutants=(ROTATED,),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/jacobian-symmetric",
        statement="There it is symmetric, as of a posterior mean, to 5% of its energy.",
        source="docs/THEORY.md#jacobian",
        part="jacobian",
        requires=SOME_GENERALIZE,
        measure=symmetry,
        tolerance=0.05,
        mutants=(SHIFTED,),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
)
