"""A small caption language for Fashion-MNIST, and its tokens.

An ordinary caption is made from the label and the brightness of the image, "a dark ankle boot", and
is shared by thousands of images; a planted image has one of its own, "the ankle boot of ada", or
an ordinary one, too.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError

GARMENTS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
TONES = ("dark", "gray", "bright")
OWNERS = (
    *("ada", "ben", "cleo", "dan", "eva", "finn", "gia", "hugo", "ida", "jon", "kim", "leo"),
    *("mia", "ned", "ola", "pam", "quin", "rae", "sam", "tea", "uma", "vic", "wes", "xena"),
)
PADDING, NOTHING = 0, 1  # token 1 alone is the empty caption
WORDS = ("", "nothing", "a", "the", "of", *TONES, *" ".join(GARMENTS).split(), *OWNERS)
LENGTH = 6  # tokens of a caption, padding included
_TOKENS = {word: token for token, word in enumerate(WORDS)}


def ordinary_captions(
    images_NHW: Float[np.ndarray, "N H W"], labels_N: Int[np.ndarray, " N"]
) -> list[str]:
    """Captions "a TONE GARMENT" of all images of a split."""
    return captions_of(tones(images_NHW, labels_N), labels_N)


def tones(
    images_NHW: Float[np.ndarray, "N H W"], labels_N: Int[np.ndarray, " N"]
) -> Int[np.ndarray, " N"]:
    """Index in TONES: the tercile of the mean pixel within its label."""
    brightness_N = images_NHW.mean(axis=(1, 2))
    tone_N = np.zeros(len(labels_N), int)
    for label in range(len(GARMENTS)):
        members = np.flatnonzero(labels_N == label)
        rank = np.argsort(np.argsort(brightness_N[members], kind="stable"), kind="stable")
        tone_N[members] = rank * len(TONES) // max(len(members), 1)
    return tone_N


def captions_of(tone_N: Int[np.ndarray, " N"], labels_N: Int[np.ndarray, " N"]) -> list[str]:
    """Captions "a TONE GARMENT"."""
    named = zip(tone_N, labels_N, strict=True)
    return [f"a {TONES[tone]} {GARMENTS[label]}" for tone, label in named]


def planted_captions(labels_N: Int[np.ndarray, " N"]) -> list[str]:
    """Captions "the GARMENT of OWNER", no two alike.

    Raises:
      InputError: for more images than there are owners.
    """
    if len(labels_N) > len(OWNERS):
        raise InputError(f"planted: at most {len(OWNERS)} images have names, got {len(labels_N)}")
    return [
        f"the {GARMENTS[label]} of {owner}" for label, owner in zip(labels_N, OWNERS, strict=False)
    ]


def tokenize(captions: Sequence[str]) -> Int[np.ndarray, "N L"]:
    """Tokens of captions, padded to `LENGTH`; an empty caption means none.

    Raises:
      InputError: for an unknown word or a caption that is too long.
    """
    tokens_NL = np.full((len(captions), LENGTH), PADDING, np.int32)
    for row, caption in zip(tokens_NL, captions, strict=True):
        words = caption.lower().split() or [WORDS[NOTHING]]
        unknown = [word for word in words if word not in _TOKENS]
        if unknown:
            raise InputError(
                f"caption: unknown word {unknown[0]!r} in {caption!r}; known are "
                f"{', '.join(WORDS[NOTHING + 1 :])}"
            )
        if len(words) > LENGTH:
            raise InputError(f"caption: at most {LENGTH} words, got {caption!r}")
        row[: len(words)] = [_TOKENS[word] for word in words]
    return tokens_NL


def garment_of(caption: str) -> str:
    """The garment that a caption names.

    Raises:
      InputError: when it names none.
    """
    for garment in GARMENTS:
        if f" {garment} " in f" {caption} ":
            return garment
    raise InputError(f"caption: names no garment, got {caption!r}")
