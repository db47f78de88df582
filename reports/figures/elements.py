"""SVG as text: elements whose attributes and contents are escaped, and whole drawings.

Colours, fonts and line widths are not in here: the page's style sheet gives them to the classes
that elements carry, so that one drawing suits a light page, a dark one and paper.
"""

from markupsafe import Markup, escape

from foldbench.reports.text.escaping import visible

AttributeValue = str | float


def element(name: str, /, *children: str | Markup, **attributes: AttributeValue | None) -> Markup:
    """Return the element `name`; plain text in it is escaped, Markup is taken as it is.

    An attribute's underscores become hyphens (a trailing one, as in ``class_``, goes); None leaves
    it out; numbers are given to a tenth of a unit.
    """
    given = {key: value for key, value in attributes.items() if value is not None}
    stated = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in given.items()
    )
    inner = Markup("").join(safe(child) for child in children)
    if not inner:
        return Markup("<{}{}/>").format(Markup(name), stated)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), stated, inner)


def safe(text: str | Markup) -> Markup:
    """Return `text` as it may stand in a page: escaped, its invisible characters made visible."""
    return text if isinstance(text, Markup) else escape(visible(text))


def _value(value: AttributeValue) -> Markup:
    return safe(value) if isinstance(value, str) else Markup(number(value))


def number(value: float) -> str:
    """Return a coordinate to a tenth, without a trailing zero."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def group(*children: Markup, **attributes: AttributeValue | None) -> Markup:
    """Return a group of elements."""
    return element("g", *children, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(
    content: str,
    x: float,
    y: float,
    class_: str = "",
    anchor: str = "start",
    **more: AttributeValue,
) -> Markup:
    """Return a line of text; `anchor` is start, middle or end."""
    found = anchor if anchor != "start" else None
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=found, **more)


def short(content: str, longest: int) -> str:
    """Return `content` in at most `longest` letters, the middle left out where it is longer."""
    shown = visible(content)
    if len(shown) <= longest:
        return shown
    head = (longest - 1) // 2
    return f"{shown[:head]}…{shown[head + 1 - longest :]}"


def drawing(
    identity: str, width: float, height: float, title: str, description: str, *children: Markup
) -> Markup:
    """Return a drawing that scales to its place; `identity` is unique in the page.

    Screen readers read the title and the description.
    """
    return element(
        "svg",
        element("title", title, id=f"{identity}-title"),
        element("desc", description, id=f"{identity}-desc"),
        *children,
        class_="plot",
        role="img",
        aria_labelledby=f"{identity}-title {identity}-desc",
        viewBox=f"0 0 {number(width)} {number(height)}",
    )
