/* Operators whose bodies are generated: how their inputs lie along the output, and what they tell
 * onnxruntime of themselves. The output has the shape of the first input. */

/* `n` elements of a row of the output; an input that stays along rows has one element there, lanes
 * have a block of them, and a table has all of its entries. */
typedef void (*Row)(const void *const *from, void *to, size_t n);

/* Along a row; a table has an entry for each code. From LANES on: how many channels are in a block. */
enum { STAYS, MOVES, TABLE, LANES, CODES = 256 };

typedef struct {
    const char *name;
    Row row;
    size_t inputs;
    int types[MOST_INPUTS];
    int moves[MOST_INPUTS];
    int type;
    const char *image; /* on a GPU, in place of `row`: a module with a kernel called `name` */
} Body;

/* The output: rows of `inner` elements along its first `outer` axes. Inputs have `strides` there.
 * Its `shape` is what others see, and its sizes are those of the blocks where it lies in blocks. */
typedef struct {
    size_t count, inner, outer, rank, axes;
    int64_t sizes[MOST_DIMENSIONS], shape[MOST_DIMENSIONS];
    int64_t strides[MOST_INPUTS][MOST_DIMENSIONS];
} Layout;

typedef struct {
    Operator base;
    const Body *body;
} Elementwise;

/* The sizes of an input, with ones before them to as many axes as the output has; all are 1 for a
 * table. */
static Status read_sizes(const void *value, const Layout *to, int is_table, int64_t *sizes)
{
    int64_t own[MOST_DIMENSIONS];
    size_t rank = 0, count = 0;
    for (size_t axis = 0; axis < to->rank; axis++)
        sizes[axis] = 1;
    TRY(read_shape(value, own, &rank, &count));
    if (is_table)
        return count == CODES ? NULL : refuse("foldbench: a table has to have 256 entries");
    if (rank > to->rank)
        return refuse("foldbench: an input has more axes than the output");
    for (size_t axis = to->rank - rank; axis < to->rank; axis++) {
        sizes[axis] = own[axis - (to->rank - rank)];
        if (sizes[axis] != to->sizes[axis] && sizes[axis] != 1)
            return refuse("foldbench: an input does not broadcast to the first one");
    }
    return NULL;
}

/* Take axes into the rows from the last one on, as far as all inputs move or stay along them. */
static void join_rows(const Body *body, int64_t sizes[][MOST_DIMENSIONS], Layout *layout)
{
    layout->inner = 1;
    for (layout->outer = layout->rank; layout->outer; layout->outer--) {
        size_t axis = layout->outer - 1;
        for (size_t i = 0; i < body->inputs; i++)
            if (sizes[i][axis] != (body->moves[i] == MOVES ? layout->sizes[axis] : 1))
                return;
        layout->inner *= (size_t)layout->sizes[axis];
    }
}

/* See an output (N, C, H, W) whose channels lie in blocks as (N, blocks, the rest), and its inputs
 * alike: in full, or a number for each channel. */
static Status see_blocks(
    const Body *body, int64_t lanes, int64_t sizes[][MOST_DIMENSIONS], Layout *to)
{
    int64_t channels = to->sizes[1], rest = to->sizes[2] * to->sizes[3];
    if (to->rank != 4 || channels % lanes)
        return refuse("foldbench: the output has to have whole blocks of channels");
    for (size_t i = 0; i < body->inputs; i++) {
        int64_t pixels = body->moves[i] == MOVES ? rest : 1;
        if (sizes[i][1] != channels || sizes[i][2] * sizes[i][3] != pixels)
            return refuse("foldbench: an input has to have all pixels, or one");
        sizes[i][1] = channels / lanes;
        sizes[i][2] = body->moves[i] == MOVES ? rest * lanes : 1;
    }
    to->rank = 3;
    to->sizes[1] = channels / lanes;
    to->sizes[2] = rest * lanes;
    return NULL;
}

/* Read the inputs of `body` and how they lie. */
static Status lay_out(const Body *body, void *context, Layout *layout, const void **from)
{
    int64_t sizes[MOST_INPUTS][MOST_DIMENSIONS], lanes = 0;
    for (size_t i = 0; i < body->inputs; i++) {
        const void *value = NULL;
        TRY(read_input(context, i, &value, &from[i]));
        if (i == 0)
            TRY(read_shape(value, layout->sizes, &layout->rank, &layout->count));
        TRY(read_sizes(value, layout, body->moves[i] == TABLE, sizes[i]));
        if (body->moves[i] > LANES)
            lanes = body->moves[i];
    }
    memcpy(layout->shape, layout->sizes, sizeof layout->sizes);
    layout->axes = layout->rank;
    if (lanes)
        TRY(see_blocks(body, lanes, sizes, layout));
    join_rows(body, sizes, layout);
    for (size_t i = 0; i < body->inputs; i++) {
        int64_t stride = body->moves[i] > LANES ? lanes : 1;
        for (size_t axis = layout->rank; axis-- > 0;) {
            layout->strides[i][axis] = sizes[i][axis] == 1 ? 0 : stride;
            stride *= sizes[i][axis];
        }
    }
    return NULL;
}

/* Make the output: of the shape of the first input. */
static Status make_output(void *context, const Layout *layout, void **data)
{
    void *y = NULL;
    TRY(CALL(KERNEL_CONTEXT_GET_OUTPUT,
             Status(*)(void *, size_t, const int64_t *, size_t, void **))(
        context, 0, layout->shape, layout->axes, &y));
    return CALL(GET_TENSOR_MUTABLE_DATA, Status(*)(void *, void **))(y, data);
}

static Status create(const Operator *op, Api api, const void *info, void **kernel)
{
    (void)api, (void)info;
    *kernel = (void *)op; /* it needs nothing else, and must not be NULL */
    return NULL;
}

/* onnxruntime has convolutions in NHWC only if it knows shapes. */
static Status infer_shape(const Operator *op, void *context)
{
    void *info = NULL;
    (void)op;
    TRY(CALL(SHAPE_GET_INPUT, Status(*)(const void *, size_t, void **))(context, 0, &info));
    return CALL(SHAPE_SET_OUTPUT, Status(*)(const void *, size_t, const void *))(
        context, 0, info);
}

static const Body *body_of(const Operator *op) { return ((const Elementwise *)op)->body; }
static void destroy(void *kernel) { (void)kernel; }
static const char *body_name(const Operator *op) { return body_of(op)->name; }
static int body_input(const Operator *op, size_t i) { return body_of(op)->types[i]; }
static int body_output(const Operator *op, size_t i) { return (void)i, body_of(op)->type; }
static size_t body_inputs(const Operator *op) { return body_of(op)->inputs; }
static size_t one(const Operator *op) { return (void)op, 1; }
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

#define OPERATOR(on, named, type, inputs, gives, computes)                                \
    {                                                                                    \
        .version = API_VERSION, .name = named, .provider = on, .input_type = type,       \
        .input_count = inputs, .output_type = gives, .output_count = one,                \
        .destroy = destroy, .input_kind = kind, .output_kind = kind,                     \
        .input_memory = memory, .variadic = {first, first, first, first},                \
        .create_v2 = create, .compute_v2 = computes, .infer_shape = infer_shape,         \
        .first_opset = first, .last_opset = last, .may_be_in_place = may_be_in_place,    \
        .release_in_place = release_in_place,                                            \
    }

/* Fill in `made`, one operator for each of `count` bodies, and add them to `domain`. */
static Status add_bodies(
    const Operator *like, const Body *bodies, size_t count, Elementwise *made, void *domain)
{
    for (size_t i = 0; i < count; i++) {
        made[i].base = *like;
        made[i].body = &bodies[i];
        if (bodies[i].type != bodies[i].types[0])
            made[i].base.may_be_in_place = NULL, made[i].base.release_in_place = NULL;
        TRY(CALL(CUSTOM_OP_DOMAIN_ADD, Status(*)(void *, const Operator *))(
            domain, &made[i].base));
    }
    return NULL;
}
