"""Bodies as CUDA C: one kernel each, over all elements of the output."""

from foldbench.bench.compiler.body import Body
from foldbench.bench.compiler.statements import statements
from foldbench.bench.errors import BackendError

MOST_AXES = 8
_PER_THREAD = 4
_TYPES = {"float32": "float", "float16": "Half"}

_PRELUDE = f"""\
#define FB_NAN __int_as_float(0x7fc00000)
#define FB_INFINITY __int_as_float(0x7f800000)
#define FB static __device__ __forceinline__

/* A float16, without a header: its bits, brought to float32 and back by instructions. */
struct Half {{
    unsigned short bits;
    __device__ operator float() const
    {{
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
    }}
}};

FB Half to_half(float x)
{{
    Half y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}}

FB void put(float *y, float x) {{ *y = x; }}
FB void put(Half *y, float x) {{ *y = to_half(x); }}

template <class T> struct alignas({_PER_THREAD} * sizeof(T)) Several {{ T of[{_PER_THREAD}]; }};

/* Of the output, and of each input along its axes; 0: the same all along. */
template <int inputs> struct Layout {{
    long long count;
    int rank;
    long long sizes[{MOST_AXES}];
    long long strides[inputs][{MOST_AXES}];
}};

FB float fb_exp(float x) {{ return expf(x); }}
FB float fb_expm1(float x) {{ return expm1f(x); }}
FB float fb_log(float x) {{ return logf(x); }}
FB float fb_erf(float x) {{ return erff(x); }}
FB float fb_tanh(float x) {{ return tanhf(x); }}
FB float fb_sigmoid(float x) {{ return 1.0f / (1.0f + expf(-x)); }}
FB float fb_softplus(float x) {{ return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x))); }}
FB float fb_half(float x) {{ return to_half(x); }}
FB float fb_min(float a, float b) {{ return a < b || a != a ? a : b; }}
FB float fb_max(float a, float b) {{ return a > b || a != a ? a : b; }}
FB float fb_mish(float x)
{{
    float e = expf(x < 20.0f ? x : 20.0f), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}}
"""


def cuda_source(body: Body) -> str:
    """Return CUDA C++ with a kernel called as `body`: ``(Layout, const T *x0, ..., T *y)``.

    Where all inputs have the output's shape, a thread reads and writes four neighbouring elements
    at a time, of pointers that are aligned to them; else it takes one, and finds its inputs by
    strides. Threads go on by the size of the grid. Raises BackendError for a body with tables or
    lanes.
    """
    if {"code", "table"} & {*body.kinds} or body.lanes:
        raise BackendError(f"tables and lanes are read on a CPU alone: {body.text}")
    kinds = [_TYPES[given.storage] for given in body.inputs]
    parameters = [f"const {kind} *x{place}" for place, kind in enumerate(kinds)]
    values = ", ".join(f"float v{place}" for place in range(len(kinds)))
    result = len(kinds) + len(body.steps) - 1
    parts = [
        _PRELUDE,
        f"/* {body.text} */",
        f"FB float compute({values})\n{{",
        *(f"    {statement}" for statement in statements(body)),
        f"    return v{result};\n}}\n",
        f'extern "C" __global__ void {body.name}(',
        f"    Layout<{len(kinds)}> at, {', '.join(parameters)}, {_TYPES[body.storage]} *y)\n{{",
        "    long long first = blockIdx.x * (long long)blockDim.x + threadIdx.x;",
        "    long long threads = gridDim.x * (long long)blockDim.x;",
        *(_plain(body) if body.is_plain else _by_strides(body)),
        "}\n",
    ]
    return "\n".join(parts)


def _plain(body: Body) -> list[str]:
    """Return the loop over elements that lie alike in all inputs."""
    places = range(len(body.inputs))
    whole = [_TYPES[given.storage] for given in body.inputs]
    result = _TYPES[body.storage]
    read = ", ".join(f"s{place}.of[k]" for place in places)
    single = ", ".join(f"x{place}[i]" for place in places)
    return [
        f"    for (long long g = first; g < at.count / {_PER_THREAD}; g += threads) {{",
        *(
            f"        Several<{kind}> s{place} = ((const Several<{kind}> *)x{place})[g];"
            for place, kind in enumerate(whole)
        ),
        f"        Several<{result}> out;",
        "#pragma unroll",
        f"        for (int k = 0; k < {_PER_THREAD}; k++)",
        f"            put(&out.of[k], compute({read}));",
        f"        ((Several<{result}> *)y)[g] = out;",
        "    }",
        f"    long long i = at.count / {_PER_THREAD} * {_PER_THREAD} + first;",
        "    if (i < at.count)",
        f"        put(&y[i], compute({single}));",
    ]


def _by_strides(body: Body) -> list[str]:
    """Return the loop over elements whose inputs are found by strides."""
    places = range(len(body.inputs))
    read = ", ".join(f"x{place}[o{place}]" for place in places)
    return [
        "    for (long long i = first; i < at.count; i += threads) {",
        f"        long long rest = i, {', '.join(f'o{place} = 0' for place in places)};",
        "        for (int axis = at.rank - 1; axis >= 0; axis--) {",
        "            long long index = rest % at.sizes[axis];",
        "            rest /= at.sizes[axis];",
        *(f"            o{place} += index * at.strides[{place}][axis];" for place in places),
        "        }",
        f"        put(&y[i], compute({read}));",
        "    }",
    ]
