"""The frozen records that flow through foldbench, each naming its parent's sha256.

Checkpoint -> Artifact -> Measurement -> Run. Seconds, bytes and images are stored raw and
unrounded; statistics are functions over them, and rounding happens in `reports` alone. A value that
does not exist is None, never 0. A row that could not run is a Measurement with a reason.
Schema history (`SCHEMA_VERSION` is in every file; others are refused): 1, the first.
"""

from foldbench.bench.records.artifact import Agreement as Agreement
from foldbench.bench.records.artifact import Artifact as Artifact
from foldbench.bench.records.artifact import Fold as Fold
from foldbench.bench.records.artifact import FoldReport as FoldReport
from foldbench.bench.records.artifact import Parity as Parity
from foldbench.bench.records.artifact import ParityCase as ParityCase
from foldbench.bench.records.artifact import ParityReference as ParityReference
from foldbench.bench.records.artifact import PassReport as PassReport
from foldbench.bench.records.artifact import Skip as Skip
from foldbench.bench.records.base import GIVEN as GIVEN
from foldbench.bench.records.base import PLAIN as PLAIN
from foldbench.bench.records.base import SCHEMA_VERSION as SCHEMA_VERSION
from foldbench.bench.records.base import Folder as Folder
from foldbench.bench.records.base import Protocol as Protocol
from foldbench.bench.records.base import Record as Record
from foldbench.bench.records.base import Role as Role
from foldbench.bench.records.base import Status as Status
from foldbench.bench.records.base import Target as Target
from foldbench.bench.records.base import Variant as Variant
from foldbench.bench.records.checkpoint import Checkpoint as Checkpoint
from foldbench.bench.records.checkpoint import Epoch as Epoch
from foldbench.bench.records.images import DataInfo as DataInfo
from foldbench.bench.records.images import Interpolation as Interpolation
from foldbench.bench.records.images import Preprocessing as Preprocessing
from foldbench.bench.records.images import Resize as Resize
from foldbench.bench.records.images import Sha256 as Sha256
from foldbench.bench.records.machine import CopyRate as CopyRate
from foldbench.bench.records.machine import MatmulRate as MatmulRate
from foldbench.bench.records.machine import PeakThroughput as PeakThroughput
from foldbench.bench.records.machine import Traffic as Traffic
from foldbench.bench.records.operators import ContenderProfile as ContenderProfile
from foldbench.bench.records.operators import Profile as Profile
from foldbench.bench.records.quantization import Closeness as Closeness
from foldbench.bench.records.quantization import Method as Method
from foldbench.bench.records.quantization import NodeChoice as NodeChoice
from foldbench.bench.records.quantization import QuantizationReport as QuantizationReport
from foldbench.bench.records.quantization import Quantize as Quantize
from foldbench.bench.records.quantization import RangeTrial as RangeTrial
from foldbench.bench.records.run import AblationStep as AblationStep
from foldbench.bench.records.run import Accuracy as Accuracy
from foldbench.bench.records.run import InputProbe as InputProbe
from foldbench.bench.records.run import Measurement as Measurement
from foldbench.bench.records.run import Run as Run
from foldbench.bench.records.samples import Driven as Driven
from foldbench.bench.records.samples import Ended as Ended
from foldbench.bench.records.samples import Event as Event
from foldbench.bench.records.samples import Failed as Failed
from foldbench.bench.records.samples import Line as Line
from foldbench.bench.records.samples import Opening as Opening
from foldbench.bench.records.samples import Row as Row
from foldbench.bench.records.samples import Session as Session
from foldbench.bench.records.samples import Shortened as Shortened
from foldbench.bench.records.samples import Timed as Timed
from foldbench.bench.records.samples import Warmed as Warmed
from foldbench.bench.records.search import Hyperparameters as Hyperparameters
from foldbench.bench.records.search import Search as Search
from foldbench.bench.records.search import SearchTrial as SearchTrial
from foldbench.bench.records.search import TrialStatus as TrialStatus
from foldbench.bench.records.source import Source as Source
from foldbench.bench.records.source import WeightsOrigin as WeightsOrigin
from foldbench.bench.records.timing import Shortage as Shortage
from foldbench.bench.records.timing import StopReason as StopReason
from foldbench.bench.records.timing import Timing as Timing
from foldbench.bench.records.transfer import Candidate as Candidate
from foldbench.bench.records.transfer import Transfer as Transfer
from foldbench.bench.samples.scenarios import Latencies as Latencies
from foldbench.bench.samples.scenarios import Scenario as Scenario
from foldbench.bench.samples.scenarios import ScenarioResult as ScenarioResult
from foldbench.bench.samples.scenarios import ScenarioSettings as ScenarioSettings
from foldbench.bench.samples.scenarios import Validity as Validity
from foldbench.bench.samples.timing import Block as Block
from foldbench.bench.samples.timing import Boundary as Boundary
from foldbench.bench.samples.timing import Clocks as Clocks
from foldbench.bench.samples.timing import Device as Device
from foldbench.bench.samples.timing import OperatorTime as OperatorTime
from foldbench.bench.samples.timing import Pair as Pair
from foldbench.bench.samples.timing import Tactic as Tactic
from foldbench.bench.samples.timing import Tuning as Tuning
