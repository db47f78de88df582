import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.user_code.source import is_source, parse_source

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "form", "location", "attribute", "name"),
    [
        ("net.py:MyNet", "code", "net.py", "MyNet", "MyNet"),
        ("/a b/net.py:make", "code", "/a b/net.py", "make", "make"),
        ("C:\\x\\net.py:Net", "code", "C:\\x\\net.py", "Net", "Net"),
        ("pkg.module:Outer.Inner", "code", "pkg.module", "Outer.Inner", "Inner"),
        ("torchvision:resnet18", "torchvision", "resnet18", "", "resnet18"),
        (
            "timm:mobilenetv3_small_100",
            "timm",
            "mobilenetv3_small_100",
            "",
            "mobilenetv3_small_100",
        ),
        ("a/model.onnx", "onnx", "a/model.onnx", "", "model"),
        ("MODEL.ONNX", "onnx", "MODEL.ONNX", "", "MODEL"),
        ("program.pt2", "program", "program.pt2", "", "program"),
    ],
)
def test_each_form_of_a_network_is_known_by_how_it_is_written(
    text: str, form: str, location: str, attribute: str, name: str
) -> None:
    found = parse_source(text)
    assert (found.form, found.location, found.attribute) == (form, location, attribute)
    assert found.name == name


@pytest.mark.parametrize(
    "text",
    ["deep_mish", "deep_mish-003", "my.yaml", "net.py", "net.py:", ":Net", "a b:c", "", "x:"],
)
def test_names_of_runs_and_configurations_are_no_networks(text: str) -> None:
    assert not is_source(text)
    with pytest.raises(ValueError, match="allowed"):
        parse_source(text)


@given(NAMES, NAMES)
def test_code_written_absolutely_means_the_same_network(stem: str, attribute: str) -> None:
    source = parse_source(f"{stem}.py:{attribute}")
    again = parse_source(source.absolute(Path("/base")))
    assert (again.form, again.attribute) == ("code", attribute)
    assert Path(again.location) == Path("/base") / f"{stem}.py"


@pytest.mark.parametrize("text", ["torchvision:resnet18", "pkg.module:Net"])
def test_what_is_no_path_stays_as_it_is_written(text: str) -> None:
    assert parse_source(text).absolute(Path("/base")) == text
