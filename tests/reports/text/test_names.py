"""Names for people: one for each id, and no two ids share one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.reports.text.names import name_of, name_parts, spoken


@pytest.mark.parametrize(
    ("contender", "name"),
    [
        ("torch/unfolded/cpu", "PyTorch eager"),
        ("torch/folded/cpu", "PyTorch eager, folded"),
        ("torch:channels_last/unfolded/cpu", "PyTorch eager, channels-last"),
        ("torch_compile:freeze/folded/cuda", "torch.compile, frozen weights, folded, CUDA"),
        ("ort/unfolded/cpu", "ONNX Runtime, not folded"),
        ("ort/folded.host/cpu", "ONNX Runtime, folded, this CPU only"),
        ("ort/int8_tables.host/cpu", "ONNX Runtime, INT8, lookup tables, this CPU only"),
        ("ort:micro=16/int8/cpu 1 thread", "ONNX Runtime, micro-batches of 16, INT8, 1 thread"),
        ("ort/bare+fuse_mish/cpu", "ONNX Runtime, folded, + fuse_mish"),
        ("torch/unfolded/cpu again", "PyTorch eager, A/A control"),
        ("mine/folded/npu", "mine, folded, npu"),
        ("logits", "logits"),
    ],
)
def test_a_contender_has_a_name_that_people_read(contender: str, name: str) -> None:
    assert name_of(contender) == name


def test_in_a_sentence_what_belongs_to_the_runtime_is_in_brackets() -> None:
    assert spoken("ort/int8.host/cpu") == "ONNX Runtime (INT8, this CPU only)"
    assert spoken("torch/unfolded/cpu") == "PyTorch eager"


BACKENDS = ["torch", "torch_compile", "ort", "openvino", "ort:tuned", "ort:micro=8", "torch:bf16"]
VARIANTS = ["unfolded", "folded", "plain", "given", "int8", "int8_tables", "float16"]
STEPS = ["bare", "bare+one", "bare+one+two", "given+one"]
PLACES = ["cpu", "cuda", "cpu 1 thread", "cpu 2 threads", "cpu again"]
ids = st.builds(
    "{}/{}/{}".format,
    st.sampled_from(BACKENDS),
    st.sampled_from(STEPS)
    | st.builds(str.__add__, st.sampled_from(VARIANTS), st.sampled_from(["", ".host", ".cuda"])),
    st.sampled_from(PLACES),
)


@given(ids, ids)
def test_two_contenders_never_share_a_name(a: str, b: str) -> None:
    assert (name_of(a) == name_of(b)) == (a == b)


@given(st.text(max_size=40))
def test_whatever_is_written_has_a_name(text: str) -> None:
    assert name_parts(text)
    assert name_of(text) or not text
