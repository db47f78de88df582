"""Run model.onnx in the onnxruntime that is installed: time it, and compare its answers.

pip install numpy onnxruntime==VERSION
python reproduce.py [--profile]
"""

import os
import sys
import time

import numpy as np
import onnxruntime

os.chdir(os.path.dirname(os.path.abspath(__file__)))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.enable_profiling = "--profile" in sys.argv
providers = ["CPUExecutionProvider"]
session = onnxruntime.InferenceSession("model.onnx", options, providers=providers)
inputs = {session.get_inputs()[0].name: np.load("input.npy")}
times_ms: list[float] = []
while sum(times_ms) < 2000 and not (options.enable_profiling and len(times_ms) == 40):
    began = time.perf_counter()
    answers = session.run(None, inputs)[0]
    times_ms.append(1000 * (time.perf_counter() - began))
if options.enable_profiling:
    os.rename(session.end_profiling(), f"profile-{onnxruntime.__version__}.json")
difference = np.abs(answers - np.load("expected.npy")).max()
told = f"{np.median(times_ms):.3f} ms, largest difference {difference:.3g}"
sys.stdout.write(f"{onnxruntime.__version__}: {told}\n")
