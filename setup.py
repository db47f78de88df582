"""Packaging of foldbench: ranges here, the exact versions known to work in constraints.txt."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "foldbench/__init__.py").read_text(encoding="utf-8"), re.M
).group(1)

# Without an NVIDIA GPU its build of onnxruntime takes 300 MB for nothing: `make run CPU=1`.
ONNXRUNTIME_GPU = "onnxruntime" if os.environ.get("FOLDBENCH_CPU") else "onnxruntime-gpu"

# onnxruntime-gpu has builds for x86-64 Linux and Windows alone; both kinds import as onnxruntime.
HAS_GPU_BUILD = "platform_machine in 'x86_64 AMD64' and sys_platform != 'darwin'"
NO_GPU_BUILD = "platform_machine not in 'x86_64 AMD64' or sys_platform == 'darwin'"

setup(
    name="foldbench",
    version=VERSION,
    description="Latency and accuracy of PyTorch classifiers: folded, exported, quantized",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The foldbench maintainers",
    keywords=["benchmark", "pytorch", "onnx", "onnxruntime", "openvino", "quantization", "latency"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Testing",
        "Topic :: System :: Benchmark",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["foldbench", "foldbench.*"]),
    package_data={
        "foldbench": ["py.typed"],
        "foldbench.bench.host_files": ["kernels/*.[ch]"],
        "foldbench.configs": ["*.yaml"],
        "foldbench.reports.html": ["templates/*"],
        "foldbench.reports.rows": ["homework.json"],
    },
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "timm>=1.0.20",
        "onnx>=1.20",
        "onnxscript>=0.6",
        f"{ONNXRUNTIME_GPU}>=1.30; {HAS_GPU_BUILD}",
        f"onnxruntime>=1.30; {NO_GPU_BUILD}",
        "numpy>=2.0",
        "scikit-learn>=1.5",
        "scipy>=1.15",
        "psutil>=6.1",
        "click>=8.1",
        "tabulate>=0.9",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "pydantic>=2.10",
        "ruamel.yaml>=0.18",
        "safetensors>=0.5",
        "pillow>=11",
        "platformdirs>=4",
        "filelock>=3.15",
        "rich>=13.7",
        "threadpoolctl>=3.1",
        "cloudpickle>=3.0",
        "nvidia-ml-py>=12.535",
        "matplotlib>=3.9",
    ],
    extras_require={
        "tune": ["optuna>=4.2"],
        "loadgen": ["mlcommons-loadgen>=6.0"],
        "openvino": ["openvino>=2025.2"],
        "ray": ["ray>=2.40"],
        "test": [
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.120",
            "jsonschema>=4.23",
            "build>=1.2",
            "packaging>=24",
            "optuna>=4.2",
            "setuptools>=77",
            "openvino>=2025.2",
            # There are wheels for Linux on x86-64, for macOS and for Windows.
            "mlcommons-loadgen>=6.0; platform_machine != 'aarch64'",
        ],
        "mlflow": [
            "mlflow-skinny>=3.5",
            # What it keeps its own database with, in place of the whole of mlflow.
            "sqlalchemy>=2.0",
            "alembic>=1.10",
            "sqlparse>=0.4",
        ],
        "browser": ["playwright>=1.50"],  # drives a Chromium that is there already
        "lint": ["ruff>=0.9", "mypy>=1.14", "proselint>=0.14"],
    },
    entry_points={"console_scripts": ["bench = foldbench.bench.cli:main"]},
)
