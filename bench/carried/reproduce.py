"""Run model.onnx in the onnxruntime that is installed: time it, and compare its answers.

pip install numpy onnxruntime==VERSION
python reproduce.py [--profile]
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

THREADS = 1
HERE = Path(__file__).parent


def main() -> None:
    """Print what it took and how far the answers are from expected.npy, once a version."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.enable_profiling = "--profile" in sys.argv
    options.profile_file_prefix = str(HERE / "profile")
    path, providers = str(HERE / "model.onnx"), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    name, x = session.get_inputs()[0].name, np.load(HERE / "input.npy")
    times: list[float] = []
    end = time.perf_counter() + 2
    while time.perf_counter() < end and not (options.enable_profiling and len(times) == 40):
        began = time.perf_counter()
        answers = session.run(None, {name: x})[0]
        times.append(time.perf_counter() - began)
    difference = np.abs(answers - np.load(HERE / "expected.npy")).max()
    version, median_ms = onnxruntime.__version__, 1000 * np.median(times)
    if options.enable_profiling:
        Path(session.end_profiling()).rename(HERE / f"profile-{version}.json")
    sys.stdout.write(f"{version}: {median_ms:.3f} ms, largest difference {difference:.3g}\n")


if __name__ == "__main__":
    main()
