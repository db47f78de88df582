/* What is needed of onnxruntime's C interface, and what operators on a CPU and on a GPU share.
 *
 * The interface only ever grows at its end, so the few of its functions that are needed are named
 * here by their places, without its header, which does not come with its Python package.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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
    KERNEL_CONTEXT_GET_GPU_COMPUTE_STREAM = 193,
    SHAPE_GET_INPUT = 268,
    SHAPE_SET_OUTPUT = 270,
    KERNEL_CONTEXT_PARALLEL_FOR = 274,
};

enum { FLOAT32 = 1, UINT8 = 2, FLOAT16 = 10, REQUIRED = 0, DEFAULT_MEMORY = 0, FAILED = 1,
       INVALID_ARGUMENT = 2 };
enum { MOST_DIMENSIONS = 16, MOST_INPUTS = 16 };

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

