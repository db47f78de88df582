/* Operators of onnxruntime on an NVIDIA GPU: kernels in modules that NVRTC made, launched through
 * the driver's interface on the stream that onnxruntime gives, so that they are recorded in a CUDA
 * graph with all others. Without a driver, the first launch says so.
 *
 * Before it in the same source: onnxruntime.h, elementwise.h, and the table BODIES, which ends in an
 * empty entry, with the modules.
 */

#include <dlfcn.h>
#include <stdio.h>

enum { BODY_COUNT = sizeof BODIES / sizeof *BODIES - 1 };
enum { THREADS = 256, MOST_BLOCKS = 1 << 20, PER_THREAD = 4, MOST_AXES = 8 };

/* What kernels take first: Layout of bench/compiler/cuda_source.py, as many strides as inputs. */
typedef struct {
    long long count;
    int rank;
    long long sizes[MOST_AXES];
    long long strides[MOST_INPUTS][MOST_AXES];
} Along;

typedef struct {
    int (*load)(void **module, const void *image);
    int (*find)(void **function, void *module, const char *name);
    int (*launch)(void *function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                  unsigned shared, void *stream, void **parameters, void **extra);
} Driver;

static Status failed(const char *what, int code)
{
    char why[160];
    snprintf(why, sizeof why, "foldbench: the CUDA driver failed to %s: error %d", what, code);
    return CALL(CREATE_STATUS, Status(*)(int, const char *))(FAILED, why);
}

static Status open_driver(Driver *driver)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return refuse("foldbench: there is no CUDA driver (libcuda.so.1)");
    *(void **)&driver->load = dlsym(library, "cuModuleLoadData");
    *(void **)&driver->find = dlsym(library, "cuModuleGetFunction");
    *(void **)&driver->launch = dlsym(library, "cuLaunchKernel");
    if (!driver->load || !driver->find || !driver->launch)
        return refuse("foldbench: the CUDA driver lacks a function");
    return NULL;
}

/* The kernel of a body, loaded when it is first run: of the context that is current then. */
static Status find_kernel(const Driver *driver, const Body *body, void **kernel)
{
    static void *kernels[BODY_COUNT + 1];
    void **place = &kernels[body - BODIES], *module = NULL;
    *kernel = __atomic_load_n(place, __ATOMIC_ACQUIRE);
    if (*kernel)
        return NULL;
    int code = driver->load(&module, body->image);
    if (code)
        return failed("load a module", code);
    code = driver->find(kernel, module, body->name);
    if (code)
        return failed("find a kernel", code);
    __atomic_store_n(place, *kernel, __ATOMIC_RELEASE);
    return NULL;
}

/* Bring the layout into the form of kernels: the axes of the rows, and the rows as one more. */
static Status describe(const Body *body, const Layout *layout, Along *along)
{
    if (layout->outer + 1 > MOST_AXES)
        return refuse("foldbench: more than 8 axes");
    along->count = (long long)layout->count;
    along->rank = (int)layout->outer + 1;
    for (size_t axis = 0; axis < layout->outer; axis++) {
        along->sizes[axis] = layout->sizes[axis];
        for (size_t i = 0; i < body->inputs; i++)
            along->strides[i][axis] = layout->strides[i][axis];
    }
    along->sizes[layout->outer] = (long long)layout->inner;
    for (size_t i = 0; i < body->inputs; i++)
        along->strides[i][layout->outer] = body->moves[i] == MOVES;
    return NULL;
}

static Status compute_body(void *op, void *context)
{
    static Driver driver; /* threads that open it at the same time write the same */
    const Body *body = body_of(op);
    const void *from[MOST_INPUTS];
    void *to = NULL, *stream = NULL, *kernel = NULL, *parameters[MOST_INPUTS + 2];
    Layout layout;
    Along along;
    TRY(lay_out(body, context, &layout, from));
    TRY(make_output(context, &layout, &to));
    if (!layout.count)
        return NULL;
    TRY(describe(body, &layout, &along));
    if (!driver.launch)
        TRY(open_driver(&driver));
    TRY(find_kernel(&driver, body, &kernel));
    TRY(CALL(KERNEL_CONTEXT_GET_GPU_COMPUTE_STREAM, Status(*)(const void *, void **))(
        context, &stream));
    parameters[0] = &along;
    for (size_t i = 0; i < body->inputs; i++)
        parameters[1 + i] = (void *)&from[i];
    parameters[1 + body->inputs] = &to;
    size_t each = THREADS * (layout.outer ? 1 : PER_THREAD);
    size_t blocks = (layout.count + each - 1) / each;
    int code = driver.launch(kernel, blocks < MOST_BLOCKS ? (unsigned)blocks : MOST_BLOCKS, 1, 1,
                             THREADS, 1, 1, 0, stream, parameters, NULL);
    return code ? failed("launch a kernel", code) : NULL;
}

#ifndef PROVIDER
#define PROVIDER "CUDAExecutionProvider"
#endif
static const char *provider(const Operator *op) { return (void)op, PROVIDER; }
static const Operator LIKE =
    OPERATOR(provider, body_name, body_input, body_inputs, body_output, compute_body);
static Elementwise MADE[BODY_COUNT + 1];

/* What onnxruntime looks for in a library of operators. */
Status RegisterCustomOps(void *options, const ApiBase *base)
{
    static void *domain; /* has to live as long as any session */
    API = base->get_api(API_VERSION);
    if (!domain) {
        void *fresh = NULL;
        TRY(CALL(CREATE_CUSTOM_OP_DOMAIN, Status(*)(const char *, void **))("foldbench", &fresh));
        TRY(add_bodies(&LIKE, BODIES, BODY_COUNT, MADE, fresh));
        domain = fresh;
    }
    return CALL(ADD_CUSTOM_OP_DOMAIN, Status(*)(void *, void *))(options, domain);
}
