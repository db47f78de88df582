/* Operators of onnxruntime on a CPU, in the domain foldbench: bodies that were generated for one
 * file, each of which goes over memory once.
 *
 * Before it in the same source: onnxruntime.h, arithmetic.h, elementwise.h, and the bodies' functions
 * and table BODIES, which ends in an empty entry.
 */

enum { CHUNK_BYTES = 32768 }; /* of the output, that a thread takes at a time */
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
    size_t inner = work->layout.inner, elements = CHUNK_BYTES / bytes(body->type);
    size_t start = chunk * elements, end = start + elements;
    if (end > work->layout.count)
        end = work->layout.count;
    Place place;
    find_row(work, start / inner, &place);
    for (size_t skip = start % inner; start < end; skip = 0) {
        const void *from[MOST_INPUTS];
        size_t n = inner - skip < end - start ? inner - skip : end - start;
        for (size_t i = 0; i < body->inputs; i++) {
            size_t element = (size_t)place.offset[i] + (body->moves[i] == MOVES ? skip : 0);
            from[i] = work->from[i] + element * bytes(body->types[i]);
        }
        body->row(from, work->to + start * bytes(body->type), n);
        start += n;
        next_row(work, &place);
    }
}

static Status compute_body(void *kernel, void *context)
{
    Work work = {.body = body_of(kernel)};
    TRY(lay_out(work.body, context, &work.layout, (const void **)work.from));
    TRY(make_output(context, &work.layout, (void **)&work.to));
    size_t size = work.layout.count * bytes(work.body->type);
    size_t chunks = (size + CHUNK_BYTES - 1) / CHUNK_BYTES;
    if (chunks > 1)
        return CALL(KERNEL_CONTEXT_PARALLEL_FOR,
                    Status(*)(const void *, void (*)(void *, size_t), size_t, size_t, void *))(
            context, run_rows, chunks, 0, &work);
    if (chunks)
        run_rows(&work, 0);
    return NULL;
}

static const char *provider(const Operator *op) { return (void)op, NULL; }
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
