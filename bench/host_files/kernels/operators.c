/* Operators of onnxruntime on a CPU, in the domain foldbench; each goes over memory once:
 *
 *   Elementwise_*, Broadcast_*            bodies that were generated for one file
 *   Lookup(x uint8, table uint8[256])     table[x]: what any chain of element-wise operators between
 *          -> uint8                       two tensors in 8 bits amounts to
 *
 * Before it in the same source: onnxruntime.h, arithmetic.h, elementwise.h, and the bodies' functions
 * and table BODIES, which ends in an empty entry.
 */

#ifdef __AVX512VBMI__
#include <immintrin.h>
#endif

enum { CODES = 256, CHUNK = 8192, CODES_CHUNK = 32768 }; /* elements that a thread takes at a time */
enum { BODY_COUNT = sizeof BODIES / sizeof *BODIES - 1 };

static size_t bytes(int type) { return type == FLOAT16 ? 2 : type == UINT8 ? 1 : 4; }

typedef struct {
    const Body *body;
    Layout layout;
    const char *from[MOST_INPUTS];
    char *to;
} Work;

/* Where the inputs of a row begin, in elements. */
typedef struct {
    int64_t index[MOST_DIMENSIONS];
    int64_t offset[MOST_INPUTS];
} Place;

static void find_row(const Work *work, size_t row, Place *place)
{
    memset(place, 0, sizeof *place);
    for (size_t axis = work->layout.outer; axis-- > 0;) {
        place->index[axis] = (int64_t)row % work->layout.sizes[axis];
        row /= (size_t)work->layout.sizes[axis];
        for (size_t i = 0; i < work->body->inputs; i++)
            place->offset[i] += place->index[axis] * work->layout.strides[i][axis];
    }
}

static void next_row(const Work *work, Place *place)
{
    for (size_t axis = work->layout.outer; axis-- > 0;) {
        int ends = ++place->index[axis] == work->layout.sizes[axis];
        int64_t steps = ends ? 1 - place->index[axis] : 1;
        for (size_t i = 0; i < work->body->inputs; i++)
            place->offset[i] += steps * work->layout.strides[i][axis];
        if (!ends)
            return;
        place->index[axis] = 0;
    }
}

static void run_rows(void *data, size_t chunk)
{
    const Work *work = data;
    const Body *body = work->body;
    size_t inner = work->layout.inner, start = chunk * CHUNK, end = start + CHUNK;
    if (end > work->layout.count)
        end = work->layout.count;
    Place place;
    find_row(work, start / inner, &place);
    for (size_t skip = start % inner; start < end; skip = 0) {
        const void *from[MOST_INPUTS];
        size_t n = inner - skip < end - start ? inner - skip : end - start;
        for (size_t i = 0; i < body->inputs; i++) {
            size_t element = (size_t)place.offset[i] + (body->moves[i] ? skip : 0);
            from[i] = work->from[i] + element * bytes(body->types[i]);
        }
        body->row(from, work->to + start * bytes(body->type), n);
        start += n;
        next_row(work, &place);
    }
}

static Status in_parallel(void *context, void (*run)(void *, size_t), size_t chunks, void *work)
{
    if (chunks <= 1) {
        if (chunks)
            run(work, 0);
        return NULL;
    }
    return CALL(KERNEL_CONTEXT_PARALLEL_FOR,
                Status(*)(const void *, void (*)(void *, size_t), size_t, size_t, void *))(
        context, run, chunks, 0, work);
}

static Status compute_body(void *kernel, void *context)
{
    Work work = {.body = body_of(kernel)};
    TRY(lay_out(work.body, context, &work.layout, (const void **)work.from));
    TRY(make_output(context, work.layout.sizes, work.layout.rank, (void **)&work.to));
    return in_parallel(context, run_rows, (work.layout.count + CHUNK - 1) / CHUNK, &work);
}

typedef struct {
    const uint8_t *x, *table;
    uint8_t *y;
    size_t count;
} Codes;

static void run_lookup(void *data, size_t chunk)
{
    const Codes *work = data;
    const uint8_t *from = work->x, *table = work->table;
    uint8_t *to = work->y;
    size_t i = chunk * CODES_CHUNK, end = i + CODES_CHUNK;
    if (end > work->count)
        end = work->count;
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

static Status compute_lookup(void *kernel, void *context)
{
    const void *x = NULL, *table = NULL;
    int64_t sizes[MOST_DIMENSIONS];
    size_t rank = 0, count = 0;
    Codes work = {0};
    (void)kernel;
    TRY(read_input(context, 1, &table, (const void **)&work.table));
    TRY(read_shape(table, sizes, &rank, &count));
    if (count != CODES)
        return refuse("foldbench.Lookup: its table has to have 256 entries");
    TRY(read_input(context, 0, &x, (const void **)&work.x));
    TRY(read_shape(x, sizes, &rank, &work.count));
    TRY(make_output(context, sizes, rank, (void **)&work.y));
    return in_parallel(context, run_lookup, (work.count + CODES_CHUNK - 1) / CODES_CHUNK, &work);
}

static const char *name_lookup(const Operator *op) { return (void)op, "Lookup"; }
static const char *provider(const Operator *op) { return (void)op, NULL; }
static int uint8(const Operator *op, size_t i) { return (void)op, (void)i, UINT8; }
static size_t two(const Operator *op) { return (void)op, 2; }

static const Operator LOOKUP = OPERATOR(provider, name_lookup, uint8, two, uint8, compute_lookup);
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
        TRY(CALL(CUSTOM_OP_DOMAIN_ADD, Status(*)(void *, const Operator *))(fresh, &LOOKUP));
        TRY(add_bodies(&LIKE, BODIES, BODY_COUNT, MADE, fresh));
        domain = fresh;
    }
    return CALL(ADD_CUSTOM_OP_DOMAIN, Status(*)(void *, void *))(options, domain);
}
