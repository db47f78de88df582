"""What came of classifying a frozen network's features."""

from foldbench.bench.records.base import Record
from foldbench.bench.records.images import Sha256


class Candidate(Record):
    """One strength of regularisation that was tried."""

    inverse_regularisation: float
    """scikit-learn's C: larger is weaker."""
    validation_accuracy: float
    """On training images that were held out; never on the test split."""


class Transfer(Record):
    """A linear classifier on frozen features, as it did on the features of the test split."""

    weights: str
    """What the backbone was filled with: a name, or a file's."""
    weights_sha256: Sha256
    """Of all its tensors, its own classifier included."""
    features_sha256: Sha256
    """Key of the features: of weights, network, preprocessing and images."""
    feature_count: int
    classifier: str
    candidates: tuple[Candidate, ...] = ()
    """Of the regularisation path, weakest last."""
    validation_count: int = 0
    train_correct: int
    train_count: int
    test_correct: int
    test_count: int
    test_balanced_accuracy: float
    """Mean over classes of the share of each class's test images that are classified correctly."""
    extract_s: float
    """Seconds to compute the features, or to read them."""
    from_cache: bool
    fit_s: float
