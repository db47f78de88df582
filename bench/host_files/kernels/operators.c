/* Operators of onnxruntime that go over memory once, in the domain foldbench:
 *
 *   Mish(x float32) -> float32            onnxruntime's own operators take six passes on a CPU
 *   Lookup(x uint8, table uint8[256])     table[x]: what any chain of element-wise operators between
 *          -> uint8                       two tensors in 8 bits amounts to
 *
 * Elements are treated alike, so that their order (NCHW, NHWC, channels in blocks) does not matter.
 *
 * onnxruntime's C interface only ever grows at its end, so the few of its functions that are needed
 * are named here by their places, without its header, which does not come with its Python package.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512VBMI__
#include <immintrin.h>
#endif

#define API_VERSION 18

enum { /* places in struct OrtApi */
    CREATE_STATUS = 0,
    CREATE_CUSTOM_OP_DOMAIN = 26,
    CUSTOM_OP_DOMAIN_ADD = 27,
    ADD_CUSTOM_OP_DOMAIN = 28,
    GET_TENSOR_MUTABLE_DATA = 51,
    GET_DIMENSIONS_COUNT = 61,
    GET_DIMENSIONS = 62,
    GET_TENSOR_TYPE_AND_SHAPE = 65,
    KERNEL_CONTEXT_GET_INPUT = 90,
    KERNEL_CONTEXT_GET_OUTPUT = 91,
    RELEASE_TENSOR_TYPE_AND_SHAPE_INFO = 99,
    SHAPE_GET_INPUT = 268,
    SHAPE_SET_OUTPUT = 270,
    KERNEL_CONTEXT_PARALLEL_FOR = 274,
};

enum { FLOAT32 = 1, UINT8 = 2, REQUIRED = 0, DEFAULT_MEMORY = 0, MOST_DIMENSIONS = 16,
       INVALID_ARGUMENT = 2 };
enum { CODES = 256, CHUNK = 8192, CODES_CHUNK = 32768 }; /* elements that a thread takes at a time */

typedef void *Status; /* NULL: no error; others are the caller's */
typedef const void *const *Api;
typedef struct {
    Api (*get_api)(uint32_t version);
    const char *(*get_version)(void);
} ApiBase;

static Api API; /* the same for all operators, from when they are registered */

/* struct OrtCustomOp as of API_VERSION */
typedef struct Operator Operator;
struct Operator {
    uint32_t version;
    void *(*create)(const Operator *, Api, const void *info);
    const char *(*name)(const Operator *);
    const char *(*provider)(const Operator *);
    int (*input_type)(const Operator *, size_t);
    size_t (*input_count)(const Operator *);
    int (*output_type)(const Operator *, size_t);
    size_t (*output_count)(const Operator *);
    void (*compute)(void *kernel, void *context);
    void (*destroy)(void *kernel);
    int (*input_kind)(const Operator *, size_t);
    int (*output_kind)(const Operator *, size_t);
    int (*input_memory)(const Operator *, size_t);
    int (*variadic[4])(const Operator *);
    Status (*create_v2)(const Operator *, Api, const void *info, void **kernel);
    Status (*compute_v2)(void *kernel, void *context);
    Status (*infer_shape)(const Operator *, void *context);
    int (*first_opset)(const Operator *);
    int (*last_opset)(const Operator *);
    size_t (*may_be_in_place)(int **inputs, int **outputs);
    void (*release_in_place)(int *inputs, int *outputs);
    size_t (*aliases)(int **inputs, int **outputs);
    void (*release_aliases)(int *inputs, int *outputs);
};

/* mish(x) = x n / (n + 2), n = e (e + 2), e = exp(x): x tanh(ln(1 + e)) with tanh(ln u) =
 * (u^2 - 1) / (u^2 + 1). From x = 20 on the quotient is 1 in float32, below -88 it is 0.
 * exp as in Cephes (S. Moshier, expf): 2^k times a polynomial in what is left of x. */
static inline float mish(float x)
{
    float t = x < 20.0f ? x : 20.0f;
    t = t > -88.0f ? t : -88.0f;
    float shifted = t * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to whole numbers */
    float k = shifted - 12582912.0f;
    float r = t - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t exponent = ((int32_t)k + 127) << 23;
    float power;
    memcpy(&power, &exponent, sizeof power);
    float e = p * power;
    float n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

/* Elements from `start` on, until `end`. */
typedef void (*Loop)(const void *x, void *y, const void *more, size_t start, size_t end);

static void run_mish(const void *x, void *y, const void *more, size_t start, size_t end)
{
    const float *restrict from = x;
    float *to = y;
    (void)more;
    for (size_t i = start; i < end; i++)
        to[i] = mish(from[i]);
}

static void run_lookup(const void *x, void *y, const void *more, size_t start, size_t end)
{
    const uint8_t *from = x, *table = more;
    uint8_t *to = y;
    size_t i = start;
#ifdef __AVX512VBMI__
    __m512i a = _mm512_loadu_si512(table), b = _mm512_loadu_si512(table + 64);
    __m512i c = _mm512_loadu_si512(table + 128), d = _mm512_loadu_si512(table + 192);
    for (; i + 64 <= end; i += 64) {
        __m512i codes = _mm512_loadu_si512(from + i);
        __m512i lower = _mm512_permutex2var_epi8(a, codes, b);
        __m512i upper = _mm512_permutex2var_epi8(c, codes, d);
        __mmask64 high = _mm512_movepi8_mask(codes);
        _mm512_storeu_si512(to + i, _mm512_mask_blend_epi8(high, lower, upper));
    }
#endif
    for (; i < end; i++)
        to[i] = table[from[i]];
}

typedef struct {
    Loop loop;
    const void *x;
    void *y;
    const void *more;
    size_t count, chunk;
} Work;

static void run_chunk(void *data, size_t index)
{
    const Work *work = data;
    size_t start = index * work->chunk, end = start + work->chunk;
    work->loop(work->x, work->y, work->more, start, end < work->count ? end : work->count);
}

#define CALL(place, type) ((type)(uintptr_t)API[place])
#define TRY(call)                  \
    do {                           \
        Status status = (call);    \
        if (status) return status; \
    } while (0)

static Status refuse(const char *why)
{
    return CALL(CREATE_STATUS, Status(*)(int, const char *))(INVALID_ARGUMENT, why);
}

static Status read_shape(const void *value, int64_t *sizes, size_t *rank, size_t *count)
{
    void *info = NULL;
    TRY(CALL(GET_TENSOR_TYPE_AND_SHAPE, Status(*)(const void *, void **))(value, &info));
    Status status = CALL(GET_DIMENSIONS_COUNT, Status(*)(const void *, size_t *))(info, rank);
    if (!status && *rank > MOST_DIMENSIONS)
        status = refuse("foldbench: more than 16 dimensions");
    if (!status)
        status = CALL(GET_DIMENSIONS, Status(*)(const void *, int64_t *, size_t))(
            info, sizes, *rank);
    CALL(RELEASE_TENSOR_TYPE_AND_SHAPE_INFO, void (*)(void *))(info);
    *count = 1;
    for (size_t i = 0; !status && i < *rank; i++)
        *count *= (size_t)sizes[i];
    return status;
}

static Status read_input(void *context, size_t index, const void **value, const void **data)
{
    TRY(CALL(KERNEL_CONTEXT_GET_INPUT, Status(*)(const void *, size_t, const void **))(
        context, index, value));
    return CALL(GET_TENSOR_MUTABLE_DATA, Status(*)(const void *, const void **))(*value, data);
}

static Status run(void *context, Work *work)
{
    const void *x = NULL;
    void *y = NULL;
    int64_t sizes[MOST_DIMENSIONS];
    size_t rank = 0;
    TRY(read_input(context, 0, &x, &work->x));
    TRY(read_shape(x, sizes, &rank, &work->count));
    TRY(CALL(KERNEL_CONTEXT_GET_OUTPUT,
             Status(*)(void *, size_t, const int64_t *, size_t, void **))(
        context, 0, sizes, rank, &y));
    TRY(CALL(GET_TENSOR_MUTABLE_DATA, Status(*)(void *, void **))(y, &work->y));
    size_t chunks = (work->count + work->chunk - 1) / work->chunk;
    if (chunks <= 1) {
        run_chunk(work, 0);
        return NULL;
    }
    return CALL(KERNEL_CONTEXT_PARALLEL_FOR,
                Status(*)(const void *, void (*)(void *, size_t), size_t, size_t, void *))(
        context, run_chunk, chunks, 0, work);
}

static Status compute_mish(void *kernel, void *context)
{
    Work work = {.loop = run_mish, .chunk = CHUNK};
    (void)kernel;
    return run(context, &work);
}

static Status compute_lookup(void *kernel, void *context)
{
    const void *table = NULL;
    int64_t sizes[MOST_DIMENSIONS];
    size_t rank = 0, count = 0;
    Work work = {.loop = run_lookup, .chunk = CODES_CHUNK};
    (void)kernel;
    TRY(read_input(context, 1, &table, &work.more));
    TRY(read_shape(table, sizes, &rank, &count));
    if (count != CODES)
        return refuse("foldbench.Lookup: its table has to have 256 entries");
    return run(context, &work);
}

static Status create(const Operator *op, Api api, const void *info, void **kernel)
{
    (void)op, (void)api, (void)info;
    *kernel = (void *)&API; /* they need nothing, and it must not be NULL */
    return NULL;
}

/* The output is shaped as the first input is; onnxruntime has convolutions in NHWC only if it knows. */
static Status infer_shape(const Operator *op, void *context)
{
    void *info = NULL;
    (void)op;
    TRY(CALL(SHAPE_GET_INPUT, Status(*)(const void *, size_t, void **))(context, 0, &info));
    return CALL(SHAPE_SET_OUTPUT, Status(*)(const void *, size_t, const void *))(
        context, 0, info);
}

static void destroy(void *kernel) { (void)kernel; }
static const char *name_mish(const Operator *op) { return (void)op, "Mish"; }
static const char *name_lookup(const Operator *op) { return (void)op, "Lookup"; }
static const char *provider(const Operator *op) { return (void)op, NULL; }
static int float32(const Operator *op, size_t i) { return (void)op, (void)i, FLOAT32; }
static int uint8(const Operator *op, size_t i) { return (void)op, (void)i, UINT8; }
static size_t one(const Operator *op) { return (void)op, 1; }
static size_t two(const Operator *op) { return (void)op, 2; }
static int kind(const Operator *op, size_t i) { return (void)op, (void)i, REQUIRED; }
static int memory(const Operator *op, size_t i) { return (void)op, (void)i, DEFAULT_MEMORY; }
static int first(const Operator *op) { return (void)op, 1; }
static int last(const Operator *op) { return (void)op, INT32_MAX; }

static size_t may_be_in_place(int **inputs, int **outputs)
{
    *inputs = calloc(1, sizeof(int));
    *outputs = calloc(1, sizeof(int));
    return *inputs && *outputs ? 1 : 0;
}

static void release_in_place(int *inputs, int *outputs)
{
    free(inputs);
    free(outputs);
}

#define OPERATOR(named, type, inputs, computes)                                             \
    {                                                                                      \
        .version = API_VERSION, .name = named, .provider = provider, .input_type = type,   \
        .input_count = inputs, .output_type = type, .output_count = one,                   \
        .destroy = destroy, .input_kind = kind, .output_kind = kind,                       \
        .input_memory = memory, .variadic = {first, first, first, first},                  \
        .create_v2 = create, .compute_v2 = computes, .infer_shape = infer_shape,           \
        .first_opset = first, .last_opset = last, .may_be_in_place = may_be_in_place,      \
        .release_in_place = release_in_place,                                              \
    }

static const Operator OPERATORS[] = {
    OPERATOR(name_mish, float32, one, compute_mish),
    OPERATOR(name_lookup, uint8, two, compute_lookup),
};

/* What onnxruntime looks for in a library of operators. */
Status RegisterCustomOps(void *options, const ApiBase *base)
{
    static void *domain; /* has to live as long as any session */
    API = base->get_api(API_VERSION);
    if (!domain) {
        void *fresh = NULL;
        TRY(CALL(CREATE_CUSTOM_OP_DOMAIN, Status(*)(const char *, void **))("foldbench", &fresh));
        for (size_t i = 0; i < sizeof OPERATORS / sizeof *OPERATORS; i++)
            TRY(CALL(CUSTOM_OP_DOMAIN_ADD, Status(*)(void *, const Operator *))(
                fresh, &OPERATORS[i]));
        domain = fresh;
    }
    return CALL(ADD_CUSTOM_OP_DOMAIN, Status(*)(void *, void *))(options, domain);
}
