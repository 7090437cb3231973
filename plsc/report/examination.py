"""Results of a network on images, computed by `plsc.report.examine`."""

from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np


@dataclass
class Example:
    """An image with its class and the predicted class.

    Attributes:
        image: uint8 (H, W, 3).
        label: Name of the true class.
        predicted: Name of the predicted class.
        confidence: Probability of the predicted class.
        file: Path of the image; empty if unknown.
    """

    image: np.ndarray
    label: str
    predicted: str
    confidence: float
    file: str


@dataclass
class Examination:
    """Results on N images of C classes. A result that does not apply is None or empty.

    Attributes:
        images: Description of the images.
        classes: Names of the classes.
        matrix: Number of images by true class (rows) and predicted class (columns), int64 (C, C).
        ece: Expected calibration error in percent.
        bins: For each bin of confidence: number of images, mean confidence, accuracy; float64 (bins, 3).
        worst: Wrong predictions with the highest confidence.
        best: Correct predictions with the highest confidence.
        points: Features of the encoder in two dimensions, float32 (N, 2).
        point_labels: Class of each point, int64 (N,).
        embedding: Method of the projection, as the end of a sentence.
        notes: Messages about results that are missing, with the reason.
    """

    images: str = ""
    classes: List[str] = field(default_factory=list)
    matrix: Optional[np.ndarray] = None
    ece: Optional[float] = None
    bins: Optional[np.ndarray] = None
    worst: List[Example] = field(default_factory=list)
    best: List[Example] = field(default_factory=list)
    points: Optional[np.ndarray] = None
    point_labels: Optional[np.ndarray] = None
    embedding: str = ""
    notes: List[str] = field(default_factory=list)
