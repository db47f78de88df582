"""What folding did and what it left, as it goes."""

from dataclasses import dataclass, field

from foldbench.bench.records import Fold, FoldKind, LinearFold, Skip


@dataclass
class Findings:
    """What was done so far, and what the last round left."""

    folded: list[Fold] = field(default_factory=list)
    """BatchNorms."""
    others: list[LinearFold] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)

    def took(self, layer: str, what: str, batchnorm: str | None, kind: FoldKind) -> None:
        """Note that `layer` took in a BatchNorm, or else `what` of another kind."""
        if batchnorm is None:
            self.others.append(LinearFold(kind=kind, layer=layer, taken=what))
        else:
            self.folded.append(Fold(layer=layer, batchnorm=batchnorm))

    def left(self, what: str, reason: str, kind: FoldKind | None = None) -> None:
        """Note that something stays, and why; no kind stands for a BatchNorm."""
        skip = Skip(module=what, reason=reason, kind=kind or "batchnorm")
        if skip not in self.skipped:
            self.skipped.append(skip)

    @property
    def count(self) -> int:
        """How many things were done."""
        return len(self.folded) + len(self.others)
