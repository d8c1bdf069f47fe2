"""Images to calibrate the reference corpus with: seeded, smooth, normalized as for ImageNet.

Low frequencies carry most of a photograph's energy (Field 1987, "Relations between the statistics
of natural images"); random noise would drive activations to other ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

COUNT = 8
SIZE = 224


def image(seed: int) -> npt.NDArray[np.float32]:
    """One image, float32 [1, 3, 224, 224], mean 0 and standard deviation 1."""
    random = np.random.RandomState(seed)
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.fft2(random.standard_normal((3, SIZE, SIZE))) / frequency
    pixels = np.fft.ifft2(spectrum).real
    pixels = (pixels - pixels.mean()) / pixels.std()
    normalized: npt.NDArray[np.float32] = pixels.astype(np.float32)[None]
    return normalized


def feeds(input_name: str) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """The images as feeds of a model."""
    for seed in range(COUNT):
        yield {input_name: image(seed)}


resnet50 = partial(feeds, "gpu_0/data_0")
squeezenet = densenet121 = partial(feeds, "data_0")
vit_s14 = partial(feeds, "input")
