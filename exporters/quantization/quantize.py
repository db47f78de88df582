"""A file in lower precision, made from one in float32 and held against it on training images."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

import foldbench
from foldbench.bench import units
from foldbench.bench.compiler.body import LOOKUP
from foldbench.bench.errors import ExportError, one_line, root_cause
from foldbench.bench.host_files import custom_operators
from foldbench.bench.host_files.marks import PRECISION
from foldbench.bench.progress import ProgressListener
from foldbench.bench.records import (
    Artifact,
    Closeness,
    QuantizationReport,
    Quantize,
    Target,
)
from foldbench.bench.store.files import artifact_path, file_sha256, json_sha256, write_with
from foldbench.exporters.onnx_store import IN_ONE_FILE_BYTES, read_onnx, total_bytes
from foldbench.exporters.origins import host_origins, library_versions, sources_sha256
from foldbench.exporters.quantization.calibration import CalibrationSet
from foldbench.exporters.quantization.choice import QuantizationChoice, QuantizationSearch
from foldbench.exporters.quantization.graph import infer_shapes, make_quantizable
from foldbench.exporters.quantization.score import ClosenessScorer, keeps_budget
from foldbench.exporters.quantization.tables import write_tables

_VARIANT = "foldbench.variant"


@dataclass(frozen=True)
class QuantizeOptions:
    """What to lower the precision to."""

    quantize: Quantize
    max_drop_points: float
    """Percentage points that may be lost on the validation set."""
    target: Target = "cpu"

    @property
    def precision(self) -> str:
        """What most of the file computes in."""
        return self.quantize.partition("_")[0]


def hash_quantization(
    source: Artifact, calibration_set: CalibrationSet, options: QuantizeOptions
) -> str:
    """Return the sha256 of everything that a file in lower precision follows from."""
    return json_sha256(
        {
            "source": source.sha256,
            "images": calibration_set.sha256(),
            "calibration_images": len(calibration_set.calibration),
            "options": asdict(options),
            "host": host_origins() if options.target == "host" else None,
            "sources": sources_sha256(),
            "versions": library_versions(),
        }
    )


@dataclass(frozen=True)
class Quantizer:
    """Makes files in lower precision from the artifacts in `folder`."""

    folder: Path
    config_name: str
    calibration_set: CalibrationSet
    threads: int
    listener: ProgressListener

    def to_int8(self, source: Artifact, options: QuantizeOptions) -> Artifact:
        """Return `source`, which is in float32, with as many nodes in int8 as the budget allows.

        A file that exceeds the budget is written, and its record says so. Raises ExportError when
        nothing can be quantized or onnxruntime cannot run what comes out.
        """
        started = time.perf_counter()
        images = self.calibration_set.in_batches_of(source.fixed_batch)
        scorer = ClosenessScorer(self._load_float32(source), images.validation, self.threads)
        model = infer_shapes(make_quantizable(self._load_float32(source)))
        found = QuantizationSearch(
            model, images.calibration, scorer, options.max_drop_points, self.listener
        ).choose()
        path = self._write(found.model, source, options)
        closeness = scorer.score(onnx.load(path))
        report = self._report(source, options, closeness, found)
        return self._record(source, options, path, report, started)

    def to_tables(self, source: Artifact, int8: Artifact, options: QuantizeOptions) -> Artifact:
        """Return `int8`, which was made from `source`, with chains of operators as tables.

        Raises ExportError when there is no such chain, and for the target ``host`` BackendError
        without a C compiler.
        """
        started = time.perf_counter()
        made = int8.quantization
        if made is None or made.source_sha256 != source.sha256:
            raise ValueError(f"{int8.path} was not made from {source.path}")
        images = self.calibration_set.in_batches_of(source.fixed_batch)
        scorer = ClosenessScorer(self._load(source), images.validation, self.threads)
        custom_operator = options.target == "host"
        if custom_operator:
            custom_operators.library([LOOKUP])
        model, tables = write_tables(self._load(int8), custom_operator)
        if tables == 0:
            raise ExportError(
                f"no element-wise operators lie between int8 tensors in {int8.path}, so that there "
                "is nothing to write as tables: use --quantize int8"
            )
        path = self._write(model, source, options)
        closeness = scorer.score(onnx.load(path))
        report = made.model_copy(
            update={
                "source_variant": int8.variant,
                "source_sha256": int8.sha256,
                "tables": tables,
                **_verdict(closeness, options),
            }
        )
        return self._record(source, options, path, report, started)

    def to_float16(self, source: Artifact, options: QuantizeOptions) -> Artifact:
        """Return `source`, which is in float32, computing in float16; it takes and gives float32.

        Raises ExportError when onnxruntime's converter or runtime cannot.
        """
        from onnxruntime.quantization.onnx_model import ONNXModel
        from onnxruntime.transformers.float16 import convert_float_to_float16

        started = time.perf_counter()
        images = self.calibration_set.in_batches_of(source.fixed_batch)
        model = self._load_float32(source)
        scorer = ClosenessScorer(model, images.validation, self.threads)
        try:
            converted = convert_float_to_float16(infer_shapes(model), keep_io_types=True)
        except Exception as error:  # whatever the converter trips over
            raise ExportError(
                f"it cannot be converted to float16: {one_line(root_cause(error))}"
            ) from error
        ONNXModel(converted).topological_sort()  # the converter appends its casts
        path = self._write(converted, source, options)
        closeness = scorer.score(onnx.load(path))
        report = self._report(source, options, closeness, None)
        return self._record(source, options, path, report, started)

    def _load(self, artifact: Artifact) -> onnx.ModelProto:
        return onnx.load(self.folder / artifact.path)

    def _load_float32(self, source: Artifact) -> onnx.ModelProto:
        """Return the model of `source`; ExportError unless it is in float32, in one file."""
        if source.precision != "float32":
            raise ExportError(
                f"{source.path} is in {source.precision} already, so that there is no precision to "
                "lower: leave --quantize out"
            )
        if total_bytes(read_onnx(self.folder / source.path)) > IN_ONE_FILE_BYTES:
            raise ExportError(
                f"{source.path} has {units.size(source.size_bytes)}, and onnxruntime's tools lower "
                "the precision of files below 2 GiB alone: leave --quantize out"
            )
        return self._load(source)

    def _write(self, model: onnx.ModelProto, source: Artifact, options: QuantizeOptions) -> Path:
        """Write the checked model with its variant and precision in its metadata."""
        variant = _name(options)
        model.producer_name, model.producer_version = "foldbench", foldbench.__version__
        kept = [p for p in model.metadata_props if p.key not in (PRECISION, _VARIANT)]
        facts = {p.key: p.value for p in kept}
        facts |= {PRECISION: options.precision, _VARIANT: variant}
        del model.metadata_props[:], model.graph.value_info[:]
        for key, value in facts.items():
            model.metadata_props.add(key=key, value=value)
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # shape inference raises a kind of its own
            raise ExportError(
                f"onnx.checker refuses the {variant} graph: {one_line(root_cause(error))}"
            ) from error
        path = artifact_path(self.folder, self.config_name, variant)
        write_with(path, lambda temporary: onnx.save(model, temporary))
        return path

    def _report(
        self,
        source: Artifact,
        options: QuantizeOptions,
        closeness: Closeness,
        found: QuantizationChoice | None,
    ) -> QuantizationReport:
        return QuantizationReport(
            source_variant=source.variant,
            source_sha256=source.sha256,
            calibration_images=len(self.calibration_set.calibration) if found else 0,
            images_sha256=self.calibration_set.sha256(),
            untrained_images=self.calibration_set.untrained,
            calibration_share=self.calibration_set.share,
            method=found.method if found else None,
            trials=found.trials if found else (),
            nodes=found.nodes if found else (),
            tables=0,
            max_drop_points=options.max_drop_points,
            **_verdict(closeness, options),
        )

    def _record(
        self,
        source: Artifact,
        options: QuantizeOptions,
        path: Path,
        report: QuantizationReport,
        started: float,
    ) -> Artifact:
        model = onnx.load(path)
        return source.model_copy(
            update={
                "inputs_sha256": hash_quantization(source, self.calibration_set, options),
                "variant": _name(options),
                "target": options.target,
                "path": path.relative_to(self.folder).as_posix(),
                "sha256": file_sha256(path),
                "size_bytes": path.stat().st_size,
                "opset": next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
                "node_count": len(model.graph.node),
                "precision": options.precision,
                "quantization": report,
                "export_s": time.perf_counter() - started,
            }
        )


def _name(options: QuantizeOptions) -> str:
    """Return the variant of what is made, such as ``int8`` or ``float16.cuda``."""
    target = options.target
    return options.quantize if target == "cpu" else f"{options.quantize}.{target}"


def _verdict(closeness: Closeness, options: QuantizeOptions) -> dict[str, Any]:
    """Return the fields of a report that say whether the budget is kept."""
    kept = keeps_budget(closeness, options.max_drop_points)
    reason = (
        f"accuracy is {units.percent(closeness.drop_points() / 100)} percentage points lower "
        "than in float32 "
        f"({closeness.correct_after} instead of {closeness.correct_before} of {closeness.images} "
        f"images are right), allowed are {units.plain(options.max_drop_points)}"
    )
    return {
        "closeness": closeness,
        "within_budget": kept,
        "reason": None if kept else reason,
    }
