"""The sections of a report that every form shows: what was measured, in tables of text."""

from collections.abc import Sequence

from foldbench.bench import units
from foldbench.bench.analysis.speedups import contenders
from foldbench.bench.records import Beside, Profile, Run
from foldbench.reports.sections.ablation import build_ablation
from foldbench.reports.sections.accuracy import build_accuracy, build_agreement
from foldbench.reports.sections.answer import build_answer
from foldbench.reports.sections.answers import build_answers
from foldbench.reports.sections.capacity import capacity_sections
from foldbench.reports.sections.cold_starts import build_cold_starts
from foldbench.reports.sections.confusion import build_confusion
from foldbench.reports.sections.contenders import build_contenders
from foldbench.reports.sections.details import build_particulars
from foldbench.reports.sections.export import build_export, build_folding
from foldbench.reports.sections.file_to_class import build_file_to_class
from foldbench.reports.sections.latency import build_latency
from foldbench.reports.sections.machines import build_machines
from foldbench.reports.sections.memory import build_memory
from foldbench.reports.sections.networks import build_networks
from foldbench.reports.sections.notes import Notes, take_notes
from foldbench.reports.sections.operators import operator_sections
from foldbench.reports.sections.pauses import build_pauses
from foldbench.reports.sections.provenance import build_provenance
from foldbench.reports.sections.quantization import build_quantization
from foldbench.reports.sections.roofline import build_roofline
from foldbench.reports.sections.scenarios import build_scenarios
from foldbench.reports.sections.streams import build_streams
from foldbench.reports.text.document import Column, Document, ReportSection, left, tabulated
from foldbench.reports.text.labels import Labelled, describe_several, label_runs, labelled_rows


def build(runs: Sequence[Run], beside: Sequence[Beside] = ()) -> Document:
    """Return the report of `runs`, each of which has a model (or, where those repeat, a run) name.

    `beside` is what else is stored of the runs that it names. Raises ValueError when there are
    no runs.
    """
    column, labelled = label_runs(runs)
    return compose(column, labelled, take_notes(labelled), beside)


def compose(
    column: Column, labelled: Labelled, notes: Notes, beside: Sequence[Beside] = ()
) -> Document:
    """Return the report of runs that have their names and notes."""
    sections = (
        build_contenders(column, labelled),
        build_networks(labelled),
        build_accuracy(column, labelled, notes),
        build_agreement(column, labelled, notes),
        build_answers(column, labelled),
        *build_latency(column, labelled, notes),
        *build_pauses(column, labelled),
        *build_cold_starts(column, labelled),
        build_memory(column, labelled),
        *build_streams(column, labelled),
        *capacity_sections(labelled, beside),
        build_file_to_class(column, labelled),
        build_ablation(column, labelled),
        *build_scenarios(column, labelled, notes),
        *build_roofline(column, labelled),
        build_folding(column, labelled, notes),
        build_export(column, labelled),
        build_quantization(column, labelled, notes),
        _not_run(column, labelled),
        ReportSection("Notes", notes=notes.texts, key="notes"),
        *build_confusion(column, labelled),
        *build_particulars(column, labelled),
        *operator_sections(labelled, [one for one in beside if isinstance(one, Profile)]),
        *build_machines(labelled),
        *build_provenance(labelled),
    )
    shown = tuple(s for s in sections if _has_content(s))
    return Document(_title(labelled), shown, build_answer(labelled))


def _has_content(section: ReportSection) -> bool:
    return bool(section.table or section.pairs or section.notes or section.commands)


def _title(labelled: Labelled) -> str:
    if len(labelled) > 1:
        return f"{describe_several(labelled)}: {', '.join(label for label, _ in labelled)}"
    label, run = labelled[0]
    number = run.checkpoint.parameter_count
    parameters = f" ({units.count(number)} parameters)" if number else ""
    return f"{label}{parameters} on {run.checkpoint.data.title}"


def _not_run(column: Column, labelled: Labelled) -> ReportSection:
    def cells(_: str, run: Run) -> list[list[str]]:
        return [
            [
                m.contender,
                m.requested_device,
                "skipped" if m.status == "ok" else m.status,
                m.reason or "no reason was recorded",
            ]
            for m in contenders(run)
            if m.status != "ok" or m.reason
        ]

    columns = (column, left("contender"), left("asked for"), left("status"), left("reason"))
    return ReportSection("Did not run", table=tabulated(columns, labelled_rows(labelled, cells)))
