"""What can be seen of a run's network by showing it images; filled by `plsc.report.examine`."""

from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np


@dataclass
class Example:
    """An image and what the network takes it for.

    Attributes:
        image: uint8 (H, W, 3).
        label: Name of its class.
        predicted: Name of the class that the network prefers.
        confidence: Probability that it gives that class.
        file: Where the image is from.
    """

    image: np.ndarray
    label: str
    predicted: str
    confidence: float
    file: str


@dataclass
class Examination:
    """Findings on N images of C classes. What does not apply is None or empty.

    Attributes:
        images: Which images, in words.
        classes: Names.
        matrix: Images by class (rows) and predicted class (columns), int64 (C, C).
        ece: Expected calibration error in percent.
        bins: For each bin of confidence: number of images, mean confidence, accuracy; float64 (bins, 3).
        worst: Wrong with the most confidence.
        best: Right with the most confidence.
        points: The encoder's features in two dimensions, float32 (N, 2).
        point_labels: Class of each point, int64 (N,).
        embedding: How the points were made, as the end of a sentence.
        notes: What could not be found out, and why.
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
