"""Where onnxruntime really runs a graph: provider by provider, node by node."""

from collections import Counter
from typing import Any

from foldbench.bench.errors import BackendError

RECORD_PLACEMENT = ("session.record_ep_graph_assignment_info", "1")
"""Session option without which no placement can be read back."""

_HEAVY = {"Conv", "ConvTranspose", "ConvInteger", "Gemm", "MatMul", "MatMulInteger", "QGemm"}
_PREFIXES = ("QLinear", "Fused")


def check_nodes(session: Any, wanted: str) -> str:
    """Return how many nodes run on the provider `wanted`, as text.

    The session has to be opened with RECORD_PLACEMENT. Raises BackendError when a convolution or a
    matrix product runs elsewhere: then the row would be named after what does little of its work.
    A version that does not say where nodes run leaves that unproven.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return "where its nodes run is not proven (this version does not say)"
    placed: Counter[tuple[str, str]] = Counter(
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    )
    total = sum(placed.values())
    there = sum(count for (provider, _), count in placed.items() if provider == wanted)
    strays = sorted({kind for provider, kind in placed if provider != wanted})
    if any(kind.removeprefix(prefix) in _HEAVY for kind in strays for prefix in _PREFIXES):
        raise BackendError(
            f"asked for {wanted}, but it took {there} of {total} nodes; {', '.join(strays)} run on "
            "another provider: use a backend or an export that it supports as a whole"
        )
    return f"{there} of {total} nodes on it"
