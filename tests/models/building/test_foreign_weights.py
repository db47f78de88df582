"""Weights of other people's training, fitted to a network by names and shapes."""

import copy
import hashlib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm
from torch.nn.utils import spectral_norm as old_spectral_norm
from torchvision.ops import FrozenBatchNorm2d

from foldbench.bench.errors import CheckpointError
from foldbench.models.building.checkpoint import encode_weights
from foldbench.models.building.foreign_weights import (
    FittedWeights,
    fit_classes,
    fit_tensors,
    fit_weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


class Net(nn.Module):
    def __init__(self, classes: int = 4, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 6, 3), norm(6)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU())
        self.fc = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block(self.bn(self.conv(x)).relu()).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


class Positions(nn.Module):
    """A buffer that older versions kept in the state."""

    def __init__(self, persistent: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("index", torch.arange(4), persistent=persistent)
        self.register_buffer("scale", torch.linspace(0, 1, 4), persistent=persistent)


class Renamed(nn.Module):
    """Its own code takes files of an older version."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Linear(4, 4), nn.Linear(4, 4)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("weight", "bias"):
            if f"{prefix}linear.{name}" in state_dict:
                state_dict[f"{prefix}fc.{name}"] = state_dict.pop(f"{prefix}linear.{name}")
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.calls = nn.Linear(2, 2), 0

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


def trained(build: Callable[[], nn.Module] = Net, seed: int = 0) -> nn.Module:
    """Return a network none of whose tensors has its first values."""
    torch.manual_seed(seed)
    network = build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
        for name, buffer in network.named_buffers():
            if buffer.is_floating_point() and "running" in name:
                buffer.uniform_(0.5, 2)
    return network


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., FittedWeights]:
    def save_and_fit(content: Any, module: nn.Module | None = None, **options: Any) -> Any:
        path = tmp_path / "w.pt"
        torch.save(content, path)
        module = module or trained(seed=1)
        before = {n: copy.deepcopy(v) for n, v in module.state_dict().items()}
        try:
            fitted = fit_weights(module, path, **options)
        finally:
            assert_same(module.state_dict(), before)
        assert all("\n" not in note for note in fitted.notes)
        module.load_state_dict(fitted.state)
        return fitted

    return save_and_fit


def assert_same(state: dict[str, Any], expected: dict[str, Any]) -> None:
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(state[name], value) if isinstance(value, Tensor) else None
        assert state[name] == value if same is None else same, name


def refuse(fit: Callable[..., FittedWeights], content: Any, *words: str, **options: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        fit(content, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    for word in words:
        assert word in str(caught.value)


KEYS = (
    "state_dict", "model", "model_state_dict", "ema", "ema_state_dict", "state_dict_ema", "net",
    "params", "module", "whatever",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "a.b.")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_nested_dictionaries_are_resolved(key: str, prefix: str, fit: Any) -> None:
    state = trained().state_dict()
    optimizer = torch.optim.AdamW(trained().parameters()).state_dict()
    fitted = fit({key: prefixed(state, prefix), "optimizer": optimizer, "epoch": 3, "best": 0.9})
    assert_same(fitted.state, state)
    assert fitted.key == key
    assert fitted.stripped == ((prefix,) if prefix else ())
    assert len(fitted.notes) == 1
    assert repr(key) in fitted.notes[0]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off(prefix: str, fit: Any) -> None:
    state = trained().state_dict()
    fitted = fit(prefixed(state, prefix))
    assert_same(fitted.state, state)
    assert fitted.key is None
    assert set("".join(fitted.stripped).split(".")) == set(prefix.split("."))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    keys=st.lists(st.sampled_from([*KEYS, "state", "weights"]), max_size=3),
    prefix=st.lists(st.sampled_from(["module", "_orig_mod", "model", "fc", "conv"]), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    counters=st.booleans(),
    wrapped=st.booleans(),
)
def test_whatever_wraps_the_state_the_network_gets_it_back(
    keys: list[str], prefix: list[str], dtype: torch.dtype, counters: bool, wrapped: bool,
    tmp_path: Path,
) -> None:  # fmt: skip
    state = trained().state_dict()
    stored = {n: v.to(dtype) if v.is_floating_point() else v for n, v in state.items()}
    content: Any = prefixed(
        {
            name.replace("block.", "block._orig_mod.") if wrapped else name: value
            for name, value in stored.items()
            if counters or "num_batches" not in name
        },
        "".join(f"{part}." for part in prefix),
    )
    for key in keys:
        content = {"epoch": 1, key: content, "optimizer": {"state": {0: {"step": 3}}}}
    torch.save(content, tmp_path / "w.bin")
    fitted = fit_weights(trained(seed=1), tmp_path / "w.bin")
    expected = {n: v.to(state[n].dtype) for n, v in stored.items()}
    assert_same(fitted.state, expected)
    assert fitted.key == (".".join(reversed(keys)) or None)
    narrow = dtype in (torch.float16, torch.bfloat16)
    assert fitted.widened_from == (str(dtype).removeprefix("torch.") if narrow else None)
    assert any("narrowed from float64" in note for note in fitted.notes) == (dtype == torch.float64)


def test_safetensors_are_read_with_their_shared_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(encode_weights(trained(Tied)))
    fitted = fit_weights(trained(Tied, 1), path)
    assert_same(fitted.state, trained(Tied).state_dict())
    assert fitted.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert fitted.notes == ()


def test_a_network_in_a_wrapper_takes_the_bare_weights(fit: Any) -> None:
    wrapper = nn.ModuleDict({"model": trained(seed=1)})
    state = trained().state_dict()
    fitted = fit(state, wrapper)
    assert_same(fitted.state, prefixed(state, "model."))
    assert "model." in fitted.notes[0]


def test_a_lightning_checkpoint_is_resolved(fit: Any) -> None:
    state = trained().state_dict()
    fitted = fit(
        {
            "epoch": 9, "global_step": 100, "pytorch-lightning_version": "2.5", "loops": {},
            "state_dict": prefixed(state, "model."), "lr_schedulers": [{"last_epoch": 3}],
            "optimizer_states": [torch.optim.Adam(trained().parameters()).state_dict()],
            "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1, "classes": 4},
        }
    )  # fmt: skip
    assert_same(fitted.state, state)
    assert (fitted.key, fitted.stripped) == ("state_dict", ("model.",))


def test_an_averaged_model_is_resolved(fit: Any) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(trained())
    fitted = fit({"ema": averaged.state_dict()})
    assert_same(fitted.state, trained().state_dict())
    assert (fitted.key, fitted.stripped) == ("ema", ("module.",))


def test_data_parallel_within_the_network_is_resolved(fit: Any) -> None:
    network = trained()
    state = network.state_dict()
    network.block = nn.DataParallel(network.block)
    assert_same(fit(network.state_dict()).state, state)


def test_several_ways_with_other_values_are_for_the_user_to_choose(fit: Any) -> None:
    model, ema = trained().state_dict(), trained(seed=5).state_dict()
    both = {"model": prefixed(model, "module."), "ema": prefixed(ema, "module.")}
    refuse(fit, both, "'model'", "'ema'", "--weights-key model", "--weights-key ema")
    assert_same(fit(both, key="ema").state, ema)
    assert_same(fit(both, key="model").state, model)
    assert_same(fit({"model": model, "ema": copy.deepcopy(model)}).state, model)


def test_several_prefixes_are_for_the_user_to_choose(fit: Any) -> None:
    model, ema = trained().state_dict(), trained(seed=5).state_dict()
    content = {"state_dict": {**prefixed(model, "model."), **prefixed(ema, "ema_model.")}}
    refuse(fit, content, "left over", "--strip-prefix model.", "--strip-prefix ema_model.")
    for prefix in ("ema_model.", "ema_model"):
        fitted = fit(content, strip_prefix=prefix)
        assert_same(fitted.state, ema)
    assert any("skipped 11 tensors" in note for note in fitted.notes)


def test_tensors_beside_the_network_are_left_to_the_user(fit: Any) -> None:
    content = {**prefixed(trained().state_dict(), "model."), "criterion.weight": torch.ones(2)}
    refuse(fit, content, "1 tensor (criterion.weight) left over", "--strip-prefix model.")
    assert_same(fit(content, strip_prefix="model.").state, trained().state_dict())
    refuse(fit, content, "--strip-prefix nett.", "model., criterion.", strip_prefix="nett.")


def test_an_unknown_key_is_told_with_the_known_ones(fit: Any) -> None:
    content = {"model": trained().state_dict(), "epoch": 3}
    refuse(fit, content, "--weights-key emma", "known: model", key="emma")
    refuse(fit, {"epoch": 3, "args": {}}, "no tensors by name", "epoch, args")
    refuse(fit, {}, "no tensors by name")


def test_a_deeper_dictionary_is_named_with_dots(fit: Any) -> None:
    content = {"ema": {"module": trained().state_dict()}, "net": trained(seed=5).state_dict()}
    assert fit(content, key="ema").key == "ema.module"
    assert fit(content, key="ema.module").key == "ema.module"


@pytest.mark.parametrize("wide", [torch.float16, torch.bfloat16])
def test_narrow_weights_are_widened(wide: torch.dtype, fit: Any) -> None:
    state = {n: v.to(wide) for n, v in trained().state_dict().items()}
    fitted = fit(state)
    assert all(v.dtype == torch.float32 for n, v in fitted.state.items() if "num_b" not in n)
    assert fitted.state["bn.num_batches_tracked"].dtype == torch.int64
    name = str(wide).removeprefix("torch.")
    assert fitted.widened_from == name
    assert fitted.notes == (f"10 tensors widened from {name} to float32",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.to(torch.int8), "int8"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "quantized"),
        (lambda v: v.to_sparse(), "sparse"),
        (lambda v: v.to("meta"), "without values"),
        (lambda v: v.to(torch.complex64), "complex64"),
        (lambda v: v.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda v: v.double() * 1e300, "beyond float32"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_values_that_the_network_cannot_compute_with_are_refused(
    change: Callable[[Tensor], Tensor], words: str, fit: Any
) -> None:
    state = trained().state_dict()
    refuse(fit, {**state, "fc.weight": change(state["fc.weight"])}, "fc.weight", words)


def test_weights_that_are_not_finite_are_told(fit: Any) -> None:
    state = trained().state_dict()
    state["fc.bias"][0] = float("nan")
    assert "not finite: fc.bias" in fit(state, trained(seed=1)).notes[0]


def test_shared_tensors_need_one_of_their_names(fit: Any) -> None:
    state = trained(Tied).state_dict()
    for kept in (("first.weight",), ("second.weight",), ("first.weight", "second.weight")):
        content = {n: v for n, v in state.items() if n in kept or "bias" in n}
        assert_same(fit(content, trained(Tied, 1)).state, state)
    state["second.weight"] = state["second.weight"] + 1
    refuse(fit, state, "first.weight and second.weight", module=trained(Tied, 1))


NORMS = {
    "weight_norm": (weight_norm, parametrizations.weight_norm),
    "spectral_norm": (old_spectral_norm, parametrizations.spectral_norm),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize(("saved", "own"), [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_parametrizations_of_both_styles_are_one(kind: str, saved: int, own: int, fit: Any) -> None:
    def build(style: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        network = Net()
        NORMS[kind][style](network.conv)
        NORMS[kind][style](network.fc)
        return network

    theirs, mine = build(saved, 0), build(own, 1)
    fit(prefixed(theirs.state_dict(), "module."), mine)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(mine.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_a_file_with_weight_norm_is_told_to_a_network_without(fit: Any) -> None:
    network = Net()
    weight_norm(network.fc)
    refuse(fit, network.state_dict(), "fc.weight_g", "weight_norm")


@pytest.mark.parametrize("norm", [nn.SyncBatchNorm, FrozenBatchNorm2d])
def test_other_batchnorms_are_batchnorms(norm: type[nn.Module], fit: Any) -> None:
    theirs = trained(lambda: Net(norm=norm)).state_dict()
    fitted = fit(theirs)
    assert all(torch.equal(fitted.state[name], value) for name, value in theirs.items())
    fit(trained().state_dict(), Net(norm=norm))


def test_buffers_that_the_network_makes_itself_may_be_in_the_file(fit: Any) -> None:
    kept = trained(lambda: Positions(persistent=True)).state_dict()
    fitted = fit(prefixed(kept, "module."), trained(Positions, 1))
    assert fitted.state.keys() == {"fc.weight", "fc.bias"}
    refuse(
        fit, {**kept, "scale": kept["scale"] + 1}, "persistent=True", module=trained(Positions, 1)
    )
    refuse(fit, trained(Positions).state_dict(), "missing", module=Positions(persistent=True))


def test_counters_of_operations_are_skipped_and_told(fit: Any) -> None:
    state = trained().state_dict()
    fitted = fit({**state, "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)})
    assert_same(fitted.state, state)
    assert "total_ops" in fitted.notes[0]


def test_the_networks_own_loading_code_is_asked(fit: Any) -> None:
    state = {n.replace("fc.", "linear."): v for n, v in trained(Renamed).state_dict().items()}
    fitted = fit({"model": prefixed(state, "module.")}, trained(Renamed, 1))
    assert_same(fitted.state, trained(Renamed).state_dict())
    assert any("own loading code" in note for note in fitted.notes)
    refuse(fit, {"other.weight": torch.ones(4)}, "missing", module=trained(Renamed, 1))


def test_extra_state_is_handed_on(fit: Any) -> None:
    theirs = Counting()
    theirs.calls = 7
    mine = Counting()
    fit(theirs.state_dict(), mine)
    assert mine.calls == 7
    refuse(fit, {"fc.weight": torch.ones(2, 2), "fc.bias": torch.ones(2)}, "_extra_state",
           module=Counting())  # fmt: skip
    fitted = fit({**trained().state_dict(), "fc._extra_state": {"scale": 2}})
    assert "fc._extra_state" in fitted.notes[0]


def test_what_does_not_fit_is_listed(fit: Any) -> None:
    state = trained().state_dict()
    refuse(fit, trained(lambda: Net(7)).state_dict(), "fc has 7 classes", "--classes 7")
    lacking = {n: v for n, v in state.items() if not n.startswith("conv")}
    refuse(fit, {**lacking, "head.weight": torch.ones(3)},
           "2 tensors (conv.weight, conv.bias) of the network missing",
           "1 tensor (head.weight) left over")  # fmt: skip
    refuse(fit, {"conv.weight": torch.ones(6, 3, 5, 5)}, "6x3x5x5, not 6x3x3x3")
    refuse(fit, {**state, "fc.bias": torch.tensor(1.0)}, "fc.bias is one number, not 4")
    other = {f"layer.{i}.weight": torch.ones(2) for i in range(40)}
    refuse(fit, other, "and 37 more", "another network", "'layer.0.weight'", "'conv.weight'")


def test_a_dictionary_that_holds_itself_is_read_once(fit: Any) -> None:
    content: dict[str, Any] = {"model": trained().state_dict()}
    content["model"]["self"] = content
    assert fit(content).key == "model"


def test_weights_of_a_lazy_network_wait_for_its_shapes(fit: Any) -> None:
    with pytest.raises(CheckpointError, match="shape before"):
        fit_tensors(nn.Sequential(nn.LazyLinear(3)), {"0.weight": torch.ones(3, 3)}, Path("w.pt"))


@pytest.mark.parametrize("classes", [4, 5, 1, 1200])
def test_the_number_of_classes_follows_from_the_head(classes: int, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    state = prefixed(Net(classes).state_dict(), "module.")
    torch.save({"state_dict": state}, path)
    assert fit_classes(Net, path, default=4) == classes


def test_a_head_that_grows_in_steps_is_understood(tmp_path: Path) -> None:
    def build(classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 2 * classes + 1), nn.Linear(2 * classes + 1, classes))

    path = tmp_path / "w.pt"
    torch.save(build(7).state_dict(), path)
    assert fit_classes(build, path, default=10) == 7
    torch.save(nn.Sequential(nn.Linear(3, 14), nn.Linear(14, 7)).state_dict(), path)
    with pytest.raises(CheckpointError, match="another shape"):
        fit_classes(build, path, default=10)


def test_no_number_or_several_numbers_of_classes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"stem": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="missing"):
        fit_classes(Net, path, default=4)
    torch.save({"model": Net(5).state_dict(), "ema": Net(7).state_dict()}, path)
    with pytest.raises(CheckpointError, match="5, 7 classes.*--weights-key model"):
        fit_classes(Net, path, default=4)
    assert fit_classes(Net, path, key="ema", default=4) == 7
    torch.save({"model": Net(5).state_dict(), "ema": Net(5).state_dict()}, path)
    assert fit_classes(Net, path, default=4) == 5


def test_no_tensor_is_shared_with_another_fit(tmp_path: Path) -> None:
    save_file(trained().state_dict(), tmp_path / "w.safetensors")
    first = fit_weights(Net(), tmp_path / "w.safetensors")
    first.state["fc.bias"].zero_()
    assert_same(fit_weights(Net(), tmp_path / "w.safetensors").state, trained().state_dict())


def test_other_classes_in_the_file_are_refused(fit: Any) -> None:
    refuse(fit, {"state_dict": trained().state_dict(), "args": Namespace(lr=1)}, "torch.load(")
