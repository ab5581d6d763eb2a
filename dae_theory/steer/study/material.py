"""What the study gives the models: references, captions, starts, real images to compare with.

Directions see the first training images of Fashion-MNIST, the classifier the last ones; real images
are test images that neither has seen.
"""

import functools

import numpy as np

from dae_theory.deep.captions import GARMENTS, TONES, garment_of
from dae_theory.deep.images import SHIPPED_SIZE, TrainingSet, fashion_images
from dae_theory.steer.classifier import TESTED_ON
from dae_theory.steer.directions import References
from dae_theory.steer.garments import Named, first_images
from dae_theory.steer.study.concepts import Concept
from dae_theory.steer.study.settings import GENERALIZED, Variant


@functools.cache
def real_images() -> Named:
    """Test images that the classifier was not tested on."""
    images, labels, captions = fashion_images("test", SHIPPED_SIZE)
    first = TESTED_ON[1]
    return Named(images.reshape(len(images), -1)[first:], labels[first:], captions[first:])


def planted_of(data: TrainingSet, concept: Concept) -> References | None:
    """Planted images of a concept, with their captions; None where there are none."""
    chosen = [i for i in range(data.planted) if concept.named_by(data.captions[i])]
    if not chosen:
        return None
    return References(data.rows[chosen], [data.captions[i] for i in chosen])


def references_of(
    variant: Variant, concept: Concept, data: TrainingSet
) -> tuple[References, References] | None:
    """Positives and negatives of a direction; None where there are no planted images of it.

    Positives are the first images of the concept, negatives the first of others.
    """
    first = first_images()
    shows = np.array([concept.named_by(caption) for caption in first.captions])
    with_it, without = np.flatnonzero(shows), np.flatnonzero(~shows)
    count = variant.references
    if variant.positives == "planted":
        planted = planted_of(data, concept)
        return None if planted is None else (planted, first.references(without[:count]))
    positive = with_it[:count]
    if variant.positives == "half wrong":
        wrong = count // 2
        positive = np.concatenate([with_it[: count - wrong], without[count : count + wrong]])
    return first.references(positive), first.references(without[:count])


def captions_for(data: TrainingSet, group: str, concept: Concept, count: int) -> list[str] | None:
    """Captions of which every other one names the concept: its score can rise and fall.

    Memorized samples are made under those of planted images, generalized ones under ordinary
    captions of the same garments, the concept's besides; of a model without planted images, of all
    garments. None for memorized samples where no planted image shows the concept.
    """
    captions = data.captions[: data.planted]
    if group == GENERALIZED:
        garments = [garment_of(caption) for caption in captions] or list(GARMENTS)
        garments = [g for g in garments if g not in concept.garments] + list(concept.garments)
        captions = [ordinary(garment, tone) for tone in range(len(TONES)) for garment in garments]
    named = [caption for caption in captions if concept.named_by(caption)]
    others = [caption for caption in captions if not concept.named_by(caption)]
    if not named:
        return None
    return [(others[i // 2 % len(others)], named[i // 2 % len(named)])[i % 2] for i in range(count)]


def ordinary(garment: str, index: int) -> str:
    """An ordinary caption of a garment; tones take turns."""
    return f"a {TONES[index % len(TONES)]} {garment}"
