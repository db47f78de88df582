"""Time by module: whose an operator's time is, how rows are summed, what is said of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldbench.bench.analysis.explaining import (
    Difference,
    Far,
    Grows,
    PutIn,
    by_module,
    findings,
    rolled_up,
    roofline_share,
)
from foldbench.bench.analysis.origins import GraphNode, Origin, trace_origins
from foldbench.bench.records import ContenderProfile, OperatorTime
from foldbench.bench.records.explanation import (
    ContenderModules,
    Explanation,
    ModuleFacts,
    ModuleTime,
)
from foldbench.reports.commands.explain import render_explanation
from foldbench.reports.formats.terminal import render_terminal
from foldbench.reports.sections.explain import build_explanation

FILE = [
    GraphNode("n1", "Conv", ("x", "w"), ("conv",)),
    GraphNode("n2", "Sigmoid", ("conv",), ("gate",)),
    GraphNode("n3", "Mul", ("conv", "gate"), ("swish",)),
    GraphNode("n4", "Conv", ("swish", "v"), ("second",)),
    GraphNode("n5", "Add", ("swish", "second"), ("sum",)),
]
OWNERS = {
    "conv": ("conv1",),
    "gate": ("act",),
    "swish": ("act",),
    "second": ("conv2",),
    "sum": ("",),
}


def node(operator: str, inputs: str, outputs: str, name: str = "") -> GraphNode:
    return GraphNode(name, operator, tuple(inputs.split()), tuple(outputs.split()))


def test_a_fused_node_stands_for_the_modules_behind_it_up_to_values_that_are_kept() -> None:
    fused = [node("FusedConv", "x w", "swish"), node("FusedConv", "swish v", "sum")]
    first, second = trace_origins(FILE, OWNERS, fused)
    assert set(first.modules) == {"act", "conv1"}
    assert set(second.modules) == {"", "conv2"}


def test_what_a_runtime_puts_in_belongs_to_the_module_that_it_is_put_in_for() -> None:
    after = [
        node("ReorderInput", "x", "blocked"),
        node("Conv", "blocked r", "blocked_2", "conv_nchwc"),
        node("ReorderOutput", "blocked_2", "conv"),
        *FILE[1:],
    ]
    origins = trace_origins(FILE, OWNERS, after)
    assert [o.is_put_in for o in origins[:3]] == [True, False, True]
    assert [o.modules for o in origins[:3]] == [("conv1",)] * 3


def test_parts_of_a_function_belong_to_what_they_lead_to() -> None:
    after = [*FILE[:1], node("Softplus", "conv", "inner"), node("Mul", "conv inner", "swish")]
    assert [o.modules for o in trace_origins(FILE, OWNERS, after)][1] == ("act",)


def test_a_node_that_leads_nowhere_has_no_module() -> None:
    assert trace_origins(FILE, OWNERS, [node("Shape", "x", "unknown")]) == [Origin(())]


def test_the_graph_itself_comes_out_by_the_modules_that_it_has() -> None:
    assert [o.modules for o in trace_origins(FILE, OWNERS, FILE)] == list(OWNERS.values())


def profiled(*times: tuple[str, float]) -> ContenderProfile:
    operators = tuple(
        OperatorTime(operator="Conv", node=name, placed_on="CPU", time_s=time_s, calls=1)
        for name, time_s in times
    )
    return ContenderProfile(
        contender="ort/folded/cpu",
        backend="ort",
        variant="folded",
        device="cpu",
        batch_size=1,
        status="ok",
        operators=operators,
    )


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=8))
def test_the_modules_and_what_is_unattributed_add_up_to_all_operators(times) -> None:
    known = {"a": Origin(("m.one", "m.act")), "b": Origin(("m.two",), True), "c": Origin(("n",))}
    found = by_module(
        profiled(*times), lambda one: known.get(one.node or "", Origin(())), {"m.one": 5}
    )
    rows = sum(row.time_s for row in found.modules)
    assert rows + found.unattributed_s == pytest.approx(found.total_s)
    assert found.total_s == pytest.approx(sum(time_s for _, time_s in times))
    assert sum(row.put_in for row in found.modules) == sum(name == "b" for name, _ in times)


def test_a_fused_operator_counts_for_the_module_with_the_most_operations() -> None:
    found = by_module(profiled(("x", 1.0)), lambda _: Origin(("act", "conv")), {"conv": 9})
    assert [(row.module, row.fused) for row in found.modules] == [("conv", ("act",))]


def contender(name: str, times: dict[str, float], **put_in: float) -> ContenderModules:
    rows = tuple(
        ModuleTime(module=module, time_s=time_s, put_in=1, put_in_s=put_in.get(module, 0.0))
        for module, time_s in times.items()
    )
    return ContenderModules(contender=name, status="ok", total_s=sum(times.values()), modules=rows)


def explained(*contenders: ContenderModules, errors: dict[str, float | None]) -> Explanation:
    return Explanation(
        name="net-001",
        created="2026-01-01T00:00:00+00:00",
        threads=2,
        batch_size=1,
        by_node=False,
        modules=tuple(
            ModuleFacts(module=name, flops=1000, size_bytes=100, error=error)
            for name, error in errors.items()
        ),
        contenders=contenders,
        flops_per_s=1e6,
        bytes_per_s=1e6,
    )


def test_the_roofline_is_the_larger_of_what_operations_and_bytes_need() -> None:
    found = explained(errors={"a": None})
    facts = ModuleFacts(module="a", flops=1000, size_bytes=4000)
    assert roofline_share(found, facts, 8e-3) == pytest.approx(0.5)
    assert roofline_share(found, facts, None) is None


def test_at_most_three_findings_are_said_and_an_error_that_grows_comes_first() -> None:
    torch = contender("torch/folded/cpu", {"a": 1.0, "b": 0.1})
    ort = contender("ort/int8/cpu", {"a": 0.1, "b": 1.0}, b=0.5)
    found = findings(explained(torch, ort, errors={"a": 1e-6, "b": 2e-3}))
    assert [type(one) for one in found] == [Grows, PutIn, Far]
    assert isinstance(found[0], Grows)
    assert (found[0].module, found[0].before) == ("b", 1e-6)
    assert isinstance(found[1], PutIn)
    assert found[1].most_at == "b"
    (said,) = list(findings(explained(torch, torch, errors={"a": 1e-6})))
    assert isinstance(said, Far)
    assert said.module == "a"
    (quiet,) = findings(explained(torch, ort, errors={}))[1:]
    assert isinstance(quiet, Difference)
    assert quiet.module in ("a", "b")


def test_an_error_as_large_everywhere_grows_nowhere() -> None:
    assert findings(explained(errors={"a": 2e-4, "b": 3e-4}))[0].module == "a"
    assert findings(explained(errors={"a": 5e-5, "b": 2e-4})) == []


def test_rows_are_summed_by_block_until_they_fit_and_keep_their_sums() -> None:
    names = [f"layer{i}.{j}.conv{k}" for i in range(3) for j in range(4) for k in range(4)]
    torch = contender("torch/folded/cpu", dict.fromkeys(names, 1.0))
    found = rolled_up(explained(torch, errors=dict.fromkeys(names, 1e-6)), rows=12)
    assert [one.module for one in found.modules][:2] == ["layer0.0", "layer0.1"]
    assert len(found.modules) == 12
    assert {one.flops for one in found.modules} == {4000}
    assert {row.time_s for row in found.contenders[0].modules} == {4.0}


def test_a_page_shows_every_module_and_the_terminal_what_fits() -> None:
    names = [f"layer{i}.conv{k}" for i in range(9) for k in range(9)]
    torch = contender("torch/folded/cpu", dict.fromkeys(names, 1e-3))
    found = explained(torch, errors=dict.fromkeys(names, 1e-6))
    terminal = render_terminal(build_explanation(found))
    assert len(terminal.splitlines()) < 40
    assert "layer8 " in terminal
    for as_page in (False, True):
        assert all(name in render_explanation(found, as_page) for name in names)
