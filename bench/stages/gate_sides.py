"""What BASE and HEAD of a gate are: a run, an .onnx file, a configuration at a git revision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foldbench.bench.config.backend_spec import load_backend, parse_spec
from foldbench.bench.config.own_network import source_config, with_known_input
from foldbench.bench.config.schema import Config
from foldbench.bench.errors import ConfigError, RunError, UnknownNameError, listed
from foldbench.bench.measure.contenders import ContenderSpec, Subject, contenders_of
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import Preprocessing
from foldbench.bench.stages.add_onnx import onnx_preprocessing
from foldbench.bench.stages.gate_revision import export_revision, is_revision
from foldbench.bench.store.directory import Paths, RunDirectory
from foldbench.bench.store.files import file_sha256
from foldbench.bench.store.finding import find_run
from foldbench.bench.workers.isolated import run_isolated

GIVEN = "given"
FORMS = "a run, the folder of one, a file.onnx or REVISION:CONFIG"
_ABOUT_NETWORK = ("model.", "data={")
"""Overrides that say how a file is read; a run has that from when it was made."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Side:
    """One of both networks, and the file of it that is timed."""

    given: str
    """As the command names it."""
    spec: ContenderSpec
    folder: Path
    preprocessing: Preprocessing
    classes: int
    class_names: tuple[str, ...]
    """Empty for a file that does not say them."""
    config: Config
    is_run: bool
    is_scale_known: bool = True
    """Whether mean and std are said by the file, the run or the command."""
    random_weights: bool = False
    class_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadFile:
    """An .onnx file as foldbench runs it; what is of the given one is said so."""

    path: Path
    given_sha256: str
    given_bytes: int
    preprocessing: Preprocessing | None
    """None where the file leaves the size of images open."""
    is_scale_known: bool
    classes: int
    class_names: tuple[str, ...]
    fixed_batch: int | None
    notes: tuple[str, ...]


def find_sides(
    names: Sequence[str],
    overrides: Sequence[str],
    paths: Paths,
    folder: Path,
    listener: ProgressListener,
    chosen: tuple[str | None, str | None] = (None, None),
) -> list[Side]:
    """Return what each of `names` is, with files of it that can be timed.

    `folder` takes what is made on the way; `chosen` are backend and variant, where the command says
    them. Raises BenchError for what is not there or does not run.
    """
    files = [name for name in names if _is_file(name)]
    for name in files:
        if not Path(name).is_file():
            raise UnknownNameError(f"{name}: there is no such file (allowed: {FORMS})")
    if len(files) == len(names) and chosen[1] not in (None, GIVEN):
        raise ConfigError(f"files have no variants to choose from: leave out --variant {chosen[1]}")
    read = dict(zip(files, _read_files(files, overrides, folder), strict=True)) if files else {}
    about_run = [o for o in overrides if not (files and o.startswith(_ABOUT_NETWORK))]
    sides = []
    for number, name in enumerate(names):
        if name in read:
            for note in read[name].notes:
                listener.note(note)
            sides.append(_of_file(name, read[name], overrides, chosen))
            continue
        run, comparison, is_revision_of = _find(
            name, about_run, paths, folder / f"{number}", listener
        )
        side = _of_run(name, run, about_run, chosen, is_revision_of)
        if comparison is not None:
            _require_measured(side, run, comparison)
        sides.append(side)
    return [_with_scale_of(side, sides) for side in sides]


def _with_scale_of(side: Side, sides: Sequence[Side]) -> Side:
    """Return a file that does not say how its pixels are scaled with the scale of the run."""
    runs = [one for one in sides if one.is_run]
    if side.is_run or side.is_scale_known or not runs:
        return side
    theirs, own = runs[0].preprocessing, side.preprocessing
    if theirs.input_shape[0] != own.input_shape[0]:
        return side
    scaled = own.model_copy(update={"mean": theirs.mean, "std": theirs.std})
    return replace(side, preprocessing=scaled)


def _is_file(name: str) -> bool:
    return name.lower().endswith(".onnx") and not is_revision(name)


def _read_files(files: Sequence[str], overrides: Sequence[str], folder: Path) -> list[ReadFile]:
    config = source_config(files[0], overrides).config
    asked = None
    if "image_size" in config.data.model_fields_set:
        size = config.data.image_size
        sides = (size, size) if isinstance(size, int) else size
        asked = (config.data.channels, *sides)
    paths = [Path(name).absolute() for name in dict.fromkeys(files)]
    found = run_isolated(read_files, paths, folder, config.model.output, asked)
    by_path = dict(zip(paths, found, strict=True))
    return [by_path[Path(name).absolute()] for name in files]


def read_files(
    paths: Sequence[Path], folder: Path, output: str | None, asked: Shape | None
) -> list[ReadFile]:
    """Write the files into `folder` as foldbench runs them; return what they are.

    `output` names the logits, `asked` is (C, H, W) where the command says it. Raises ExportError.
    Called in a process of its own: a damaged file may take its process along.
    """
    from foldbench.exporters.onnx_adopt import adopt_onnx

    found = []
    for number, path in enumerate(paths):
        preprocessing, is_known = onnx_preprocessing(path, output)
        shape = asked or (preprocessing.input_shape if preprocessing else None)
        made = adopt_onnx(path, folder, name=f"file{number}", output=output, input_shape=shape)
        names = made.facts.described.classes
        given = [path, *made.facts.external]
        found.append(
            ReadFile(
                path=made.path,
                given_sha256=made.given_sha256,
                given_bytes=sum(file.stat().st_size for file in given),
                preprocessing=preprocessing,
                is_scale_known=is_known,
                classes=made.classes,
                class_names=names if names and len(names) == made.classes else (),
                fixed_batch=made.fixed_batch,
                notes=tuple(f"{path.name}: {note}" for note in made.notes),
            )
        )
    return found


def _of_file(
    name: str, file: ReadFile, overrides: Sequence[str], chosen: tuple[str | None, str | None]
) -> Side:
    loaded, _ = with_known_input(
        source_config(name, overrides), file.preprocessing, file.is_scale_known
    )
    config = loaded.config
    backend = str(parse_spec(chosen[0] or config.gate.backend))
    module = load_backend(parse_spec(backend))
    if module.FORMAT != "onnx":
        raise ConfigError(f"{name}: {backend} runs torch modules, not .onnx files: --backend ort")
    data = config.data
    height, width = (data.image_size,) * 2 if isinstance(data.image_size, int) else data.image_size
    shape = (data.channels, height, width)
    return Side(
        given=name,
        spec=ContenderSpec(
            backend=backend,
            variant=GIVEN,
            device="cpu",
            path=file.path,
            source_sha256=file.given_sha256,
            size_bytes=file.given_bytes,
            fixed_batch=file.fixed_batch,
        ),
        folder=file.path.parent,
        preprocessing=Preprocessing(
            input_shape=shape, mean=data.mean, std=data.std, resize=data.resize
        ),
        classes=file.classes,
        class_names=file.class_names,
        config=config,
        is_run=False,
        is_scale_known=file.is_scale_known or _says_scale(overrides),
    )


def _says_scale(overrides: Sequence[str]) -> bool:
    return any(text.startswith(("data.mean=", "data.std=")) for text in overrides)


def _find(
    name: str, overrides: Sequence[str], paths: Paths, folder: Path, listener: ProgressListener
) -> tuple[RunDirectory, int | None, bool]:
    """Return the run, the number of its comparison where one is named, and if it is a revision's.

    A run goes before a revision: names of runs may hold a colon.
    """
    try:
        run, number = find_run(paths.runs, name)
    except UnknownNameError as error:
        if ":" not in name:
            raise UnknownNameError(f"{error}; allowed: {FORMS}") from None
        return export_revision(name, overrides, paths, folder, listener), None, True
    return run, number, False


def _of_run(
    name: str,
    run: RunDirectory,
    overrides: Sequence[str],
    chosen: tuple[str | None, str | None],
    is_of_revision: bool,
) -> Side:
    from foldbench.bench.stages.settings import settings_of  # loads torch

    checkpoint = run.checkpoint()
    config = settings_of(run, checkpoint, overrides)
    backend, variant = chosen[0] or config.gate.backend, chosen[1] or config.gate.variant
    if is_of_revision and load_backend(parse_spec(backend)).FORMAT != "onnx":
        raise ConfigError(
            f"{name}: {backend} would run this version's code, not the revision's: --backend ort"
        )
    subject = Subject(run.path, checkpoint, run.artifacts())
    return Side(
        given=name,
        spec=_choose(name, list(contenders_of(subject, backend, "cpu")), backend, variant),
        folder=run.path,
        preprocessing=checkpoint.preprocessing,
        classes=len(checkpoint.classes),
        class_names=checkpoint.classes,
        config=config,
        is_run=True,
        random_weights=checkpoint.random_weights,
        class_ids=checkpoint.class_ids,
    )


def _choose(
    name: str, specs: Sequence[ContenderSpec], backend: str, variant: str | None
) -> ContenderSpec:
    """Return the file to time: `variant`, or the folded one, or the only one."""
    runnable = [spec for spec in specs if spec.status == "ok"]
    if not runnable:
        reason = next((spec.reason for spec in specs if spec.reason), "nothing is exported")
        raise RunError(f"{name} has nothing that {backend} runs: {reason}")
    by_variant = {spec.variant: spec for spec in runnable}
    if variant is not None and variant not in by_variant:
        raise ConfigError(
            f"{name} has no {backend}/{variant} (--variant; allowed: {listed(by_variant)})"
        )
    wanted = variant or ("folded" if "folded" in by_variant else None)
    if wanted is None and len(by_variant) > 1:
        raise ConfigError(
            f"{name} has several files: choose one of {listed(by_variant)} (--variant)"
        )
    return by_variant[wanted] if wanted else runnable[0]


def _require_measured(side: Side, run: RunDirectory, number: int) -> None:
    """Raise RunError unless the file is still the one that the comparison measured."""
    record = run.read_comparison(run.comparison(number))
    measured = {m.contender: m.source_sha256 for m in record.measurements}.get(side.spec.name)
    path = side.spec.path
    if measured is not None and path is not None and file_sha256(path) == measured:
        return
    raise RunError(
        f"{side.given}: {side.spec.name} was not measured in it, or was exported again since: keep "
        "the .onnx file of a comparison that later versions are to be held against"
    )
