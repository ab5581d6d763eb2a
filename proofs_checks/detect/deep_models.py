"""Detection in deep models whose planted images are known: the paper's claims, and when detection
without a caption works.

What is judged are AUROCs of planted against other training images of their class, under no caption
unless one is named, on models trained with seeds from 1000 on. The condition was found on models
with seeds below 1000: at low noise the noisy image says which image it is, a caption adds nothing,
and whatever measures how well or along how many directions the model restores it detects planted
images, whether or not the model makes copies of its own accord; the standard deviation of
activations does not. The shipped text DiT, asked after that had been judged, is an exception.
"""

from dataclasses import replace

import numpy as np

from dae_theory.detect.study.images import ORDINARY, TOLD, Group
from dae_theory.detect.study.settings import SHIPPED
from dae_theory.detect.study.store import Model
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Origin, Verdict
from proofs_checks.detect.deep_study import (
    FAIR,
    STD,
    areas,
    judged,
    models_of,
    of_models,
    separates,
    some_models,
    with_models,
)
from proofs_checks.parts import DeepStudy

ERROR, TRACE = "denoising_error", "jacobian_trace"
OTHERS_OF_THE_PAPER = {
    "guidance_norm": "Wen",
    "activation_outlier": "Hintersdorf",
    "local_dimension": "Ross",
}
LAG = 0.2  # of AUROC


def text(model: Model) -> bool:
    """Judged, and takes captions."""
    return judged(model) and model.facts["text"]


def shipped_text(model: Model) -> bool:
    """Takes captions, was trained in development and is shipped: larger than those of the study,
    and asked after the condition had been found and judged."""
    return model.facts["name"] in SHIPPED and model.facts["text"]


def unet(model: Model) -> bool:
    """A U-Net at its end, the shipped one included."""
    return model.last and model.facts["architecture"] == "unet"


def without_free_copies(model: Model) -> bool:
    """Takes captions, and no sample without one was a copy."""
    return text(model) and model.free_share == 0


def with_free_copies(model: Model) -> bool:
    """Takes captions, and copies are a fair share of the samples without."""
    return text(model) and model.free_share >= FAIR


def named(model: Model) -> bool:
    """Its planted images have captions of their own and were not rare."""
    return text(model) and model.facts["own_captions"] and model.facts["planted_share"] >= 0.3


def std_lags(e: DeepStudy) -> Measured:
    """What the AUROC of std misses to be LAG below that of the denoising error; negative where it
    is farther below."""
    models = models_of(e, text)
    error, std = (areas(models, name) for name in (ERROR, STD))
    lags = np.array([error[name] - std[name] for name in error])
    found = of_models(std, models, float(np.mean(list(error.values())) - LAG))
    return replace(found, errors=LAG - lags)


def std_is_best(e: DeepStudy) -> Measured:
    """How far the best of the paper's other detectors is above std, in each model; negative where
    std is the best."""
    models = models_of(e, text)
    std = areas(models, STD)
    others = [areas(models, name) for name in OTHERS_OF_THE_PAPER]
    best = {name: max(other[name] for other in others) for name in std}
    found = of_models(std, models, float(np.mean(list(best.values()))))
    return replace(found, errors=np.array([best[name] - std[name] for name in std]))


def std_in_unets(e: DeepStudy) -> Measured:
    """How far the AUROC of std is below 1 in the worst U-Net: two are too few for an interval
    over models."""
    found = separates(STD, unet)(e)
    return replace(found, errors=np.array([np.max(found.errors)]))


def std_where_copies_are_free(e: DeepStudy) -> Measured:
    """How far the AUROC of std is below 1 on average where the model copies without a caption: two
    are too few for an interval over models."""
    found = separates(STD, with_free_copies)(e)
    return replace(found, errors=np.array([np.mean(found.errors)]))


def both(e: DeepStudy) -> Measured:
    """Share of copies with the captions of planted images minus that with other captions."""
    models = models_of(e, named)

    def share(model: Model, kind: str) -> float:
        copies, samples = model.facts["copies"][kind]
        return copies / samples

    apart = {f"{m.name}@{m.step}": share(m, TOLD) - share(m, ORDINARY) for m in models}
    return of_models(apart, models, 1.0)


# --- mutants -------------------------------------------------------------------------------------


def scores_of(name: str, change) -> Mutant:
    """All scores of every model changed."""
    return Mutant(
        name,
        lambda e: with_models(e, lambda model: replace(model, scores=change(model))),
    )


def groups_exchanged(model: Model) -> Model:
    """Planted images taken for others, and others for planted."""
    other = {Group.PLANTED: Group.OTHER, Group.OTHER: Group.PLANTED}
    return replace(model, group=np.array([other.get(group, group) for group in model.group]))


def captions_exchanged(model: Model) -> Model:
    """Samples of planted captions taken for those of others."""
    copies = model.facts["copies"]
    if TOLD not in copies:
        return model
    swapped = copies | {TOLD: copies[ORDINARY], ORDINARY: copies[TOLD]}
    return replace(model, facts=model.facts | {"copies": swapped})


NEGATED = scores_of("the sign", lambda m: {name: -score for name, score in m.scores.items()})
EXCHANGED = Mutant("groups exchanged", lambda e: with_models(e, groups_exchanged))
OTHER_IMAGES = scores_of(
    "scores of other images",
    lambda m: {name: np.roll(score, len(score) // 2) for name, score in m.scores.items()},
)
ALIKE = scores_of(
    "all images alike", lambda m: {name: np.zeros_like(score) for name, score in m.scores.items()}
)
IN_EACH_OTHERS_PLACE = scores_of(
    "std in the place of the error",
    lambda m: m.scores | {STD: m.scores[ERROR], ERROR: m.scores[STD]},
)
OTHER_CAPTIONS = Mutant("captions exchanged", lambda e: with_models(e, captions_exchanged))

# --- claims --------------------------------------------------------------------------------------

# Tolerances and the condition were fixed on models with seeds below 1000, before any model with a
# later seed was trained.
FIXED_ON_DEVELOPMENT = Origin(
    "fixed before the models that judge were trained, at commit",
    "f204db0cafe9b411b87964cd49d355dfe3d2b498",
)
SHARED = {
    "source": "docs/THEORY.md#prompt-free",
    "part": "deep",
    "kind": Kind.CONFIRMATORY,
    "origin": FIXED_ON_DEVELOPMENT,
}
# Fewer than three models, or asked after looking.
FEW_MODELS = {"kind": Kind.EXPLORATORY, "origin": None}

CONDITION = (
    Claim(
        id="detect/deep-condition-error",
        statement="Without a caption the denoising error at low noise detects planted images in "
        "text DiTs.",
        requires=(some_models(4, text),),
        measure=separates(ERROR, text),
        tolerance=0.1,
        mutants=(NEGATED, EXCHANGED, OTHER_IMAGES),
        **SHARED,
    ),
    Claim(
        id="detect/deep-condition-trace",
        statement="So does the trace of the Jacobian there.",
        requires=(some_models(4, text),),
        measure=separates(TRACE, text),
        tolerance=0.15,
        mutants=(NEGATED, EXCHANGED, OTHER_IMAGES),
        **SHARED,
    ),
    Claim(
        id="detect/deep-condition-no-free-copies",
        statement="The denoising error does so also where no sample made without a caption is a "
        "copy.",
        requires=(some_models(1, without_free_copies),),
        measure=separates(ERROR, without_free_copies),
        tolerance=0.1,
        mutants=(NEGATED, EXCHANGED, OTHER_IMAGES),
        expected=Verdict.INCONCLUSIVE,  # all are found, of one model's eight
        **SHARED | FEW_MODELS,
    ),
    Claim(
        id="detect/deep-condition-std",
        statement="The standard deviation in the paper's layer stays .2 of AUROC behind the "
        "denoising error in text DiTs.",
        requires=(some_models(4, text),),
        measure=std_lags,
        tolerance=0.05,
        mutants=(IN_EACH_OTHERS_PLACE, NEGATED),
        **SHARED,
    ),
    Claim(
        id="detect/deep-condition-shipped",
        statement="The denoising error at low noise detects planted images in the shipped text "
        "DiT, too.",
        requires=(some_models(1, shipped_text),),
        measure=separates(ERROR, shipped_text),
        tolerance=0.1,
        mutants=(NEGATED, OTHER_IMAGES),
        expected=Verdict.FAILS,
        **SHARED | FEW_MODELS,
    ),
)

PAPER = (
    Claim(
        id="detect/deep-both",
        statement="One model does both: with the captions of planted images its samples are "
        "copies, with others they are not (whether those look like images is not measured).",
        requires=(some_models(2, named),),
        measure=both,
        tolerance=0.2,
        mutants=(OTHER_CAPTIONS,),
        expected=Verdict.INCONCLUSIVE,  # one of three models copies in 77% only
        **SHARED,
    ),
    Claim(
        id="detect/deep-std-dit",
        statement="Without a caption the standard deviation in the paper's layer detects planted "
        "images in text DiTs.",
        requires=(some_models(4, text),),
        measure=separates(STD, text),
        tolerance=0.1,
        mutants=(OTHER_IMAGES,),
        expected=Verdict.FAILS,
        **SHARED,
    ),
    Claim(
        id="detect/deep-std-free-copies",
        statement="It does so at least where a tenth of the samples made without a caption are "
        "copies.",
        requires=(some_models(1, with_free_copies),),
        measure=std_where_copies_are_free,
        tolerance=0.1,
        mutants=(ALIKE,),
        expected=Verdict.FAILS,
        **SHARED | FEW_MODELS,
    ),
    Claim(
        id="detect/deep-std-unet",
        statement="The standard deviation in the paper's layer detects planted images in U-Nets.",
        requires=(some_models(1, unet),),
        measure=std_in_unets,
        tolerance=0.1,
        mutants=(NEGATED, EXCHANGED, OTHER_IMAGES),
        expected=Verdict.INCONCLUSIVE,  # of ten images of the two models one is missed at times
        **SHARED | FEW_MODELS,
    ),
    Claim(
        id="detect/deep-std-best",
        statement="The standard deviation is the best of the paper's detectors (Wen's, "
        "Hintersdorf's and Ross's after the fact) in text DiTs.",
        requires=(some_models(4, text),),
        measure=std_is_best,
        tolerance=0.02,
        mutants=(scores_of("the sign of std", lambda m: m.scores | {STD: -m.scores[STD]}),),
        expected=Verdict.FAILS,
        **SHARED,
    ),
)

CLAIMS = (*CONDITION, *PAPER)
