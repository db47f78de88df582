"""An explanation as a file: Markdown or HTML, every module in it."""

from foldbench.bench.records.explanation import Explanation
from foldbench.reports.formats.markdown import render_markdown
from foldbench.reports.html.page import render_document
from foldbench.reports.sections.explain import build_explanation


def render_explanation(explanation: Explanation, as_page: bool) -> str:
    """Return the whole explanation as Markdown, or as an HTML page."""
    document = build_explanation(explanation, whole=True)
    return render_document(document, "bench explain") if as_page else render_markdown(document)
