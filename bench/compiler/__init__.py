"""A small compiler for chains of element-wise operators: one body, evaluated or written as source.

`body` is the intermediate form, `evaluation` its meaning in float64; `c_source` and `cuda_source`
write it as C for a CPU and as CUDA C, which `nvrtc` compiles for the GPU that `driver` describes.
Nothing here knows ONNX.
"""
