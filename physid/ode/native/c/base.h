/* The runtime of a compiled right-hand side, part 1: what a solve is given, what it keeps, and sums of stages.
 *
 * Behind field and field_vjp in one translation unit, which the compiler sees through, or in a unit of its own that serves
 * every f (ANY_F of field.h); the same numbers to the last bit. Rows of states are padded to NP numbers so that sums of
 * stages run in whole vectors; the padding stays zero.
 */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if !defined(ANY_F) && N <= 2
#define VL 2
#elif !defined(ANY_F) && N <= 4
#define VL 4
#elif defined(__AVX512F__)
#define VL 8
#else
#define VL ((int)(32 / sizeof(REAL))) /* what is wider goes through memory */
#endif
#define NP ((N + VL - 1) / VL * VL)
#define COUNTED (N <= 2 ? 2 : N <= 4 ? 4 : (N + 7) / 8 * 8) /* what a row counts as, however it is padded */
#define MOST_STAGES 24
#define ONCE __attribute__((noinline))
#if !defined(ANY_F) && N <= 6
#define HOT inline /* a call would cost as much as what it does */
#else
#define HOT ONCE
#endif
/* Small code, for what is called under a condition that seldom holds. To a compiler, code from which a cold function is
 * surely called is cold too, and so is whatever only cold code calls: what runs once in every solve is ONCE. */
#define COLD_ONCE __attribute__((noinline, cold))

typedef REAL vec __attribute__((vector_size(VL * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

typedef double wide __attribute__((vector_size(VL * sizeof(double)), aligned(sizeof(double)), may_alias));

enum { SUCCESS, NOT_A_NUMBER, BLOW_UP, STEP_TOO_SMALL, MAX_STEPS, TIME_LIMIT, HALTED };

/* Why all work has stopped: a signal's handler raised an exception, a deadline is over, a flag was raised. */
enum { RAISED = 1, LATE, FLAGGED };

/* A Runge-Kutta method; `a` [total][total], its transpose `at`, `dense` [degree][total]. */
typedef struct {
    int32_t stages, total, degree, fsal, has_error, has_error3;
    double exponent;
    const double *c, *a, *at, *b, *error, *error3, *dense;
} Method;

/* An accepted step: start, length, outputs inside [first, first + count), the asked time its end moves with (or -1). */
typedef struct {
    double t, h;
    int32_t first, count, end, dense;
} Step;

/* How an accepted step's length came about, for gradients that follow it: the error ratio and the two before it, the
 * factor proposed after it; which branches were taken. Not used where an attempt was rejected. */
typedef struct {
    double ratio, before[2], factor;
    uint8_t cut, keep, free, limited;
} Choice;

/* The accepted steps of a lane; `y` [count][N] (nothing where there are more than most_states) and, where they are kept, stage states and slopes [count][total][NP]. */
typedef struct {
    int64_t count, room, state_room, stage_room;
    Step *step;
    REAL *y, *u, *k;
    Choice *choice;
} Tape;

/* How a lane ended: the numbers of its steps, the time it reached, its status. */
typedef struct {
    int64_t accepted, rejected, evaluations, pushed;
    double reached;
    int32_t status, stiff;
} Report;

/* What C asks of the interpreter: its lock, taken and given back; to handle signals; what was raised then. */
typedef struct {
    int32_t (*hold)(void);
    void (*release)(int32_t);
    int32_t (*check)(void);
    void (*take)(void **, void **, void **);
} Ear;

/* One solve: settings, inputs, outputs; mirrored by runtime.py. Strides count numbers. A march ends by a status when the
 * monotonic clock shows `until`; everything ends, with nothing to show, when it shows `late` (0: never). */
typedef struct {
    Method method;
    double safety, shrink, grow, power0, power1, power2;
    double min_step, max_step, first_step, until, late;
    int64_t max_steps, parts, tolerance_stride;
    const int64_t *sizes;
    const REAL *rtol, *atol;
    int32_t fixed, remembers, direction, moving_stops, keep_states, keep_stages, keep_slopes;
    int32_t keep_choices, threads, halted, controlled, spare;
    int64_t lanes, times, stops, jumps, columns, stage_bytes, most_states;
    const REAL *y0, *p, *c, *dp, *ds, *size;
    int64_t dp_stride, size_stride, p_stride, c_stride, time_row, time_lane, stop_row, stop_lane, jump_row, jump_lane;
    const double *time, *stop, *jump, *clear; /* clear: how far stage times stay away from each jump, or 0 */
    const double *djump; /* of jumps that move: derivatives [J][L][columns] */
    REAL *y, *sensitivity, *tangent, *culprit, *final;
    Report *report;
    Tape *tape;
    const REAL *g;
    REAL *ybar, *pbar;
    double *tbar, *jbar; /* of the asked times [T][L], of the jumps [J][L] */
    const REAL *target, *weight;
    double total;
    int64_t vjps, replayed, checkpoint_bytes, kept_bytes;
    const Ear *ear;
    const int32_t *flag;
    void *raised[3];
} Task;

/* A thread's attention: when it looked at the clock and asked the interpreter last, evaluations up to the next look and
 * between looks; `stop` is the status of lanes that are cut off. */
typedef struct {
    Task *task;
    double looked, heard;
    int64_t left, every;
    int backward, hears, stop;
} Pulse;

/* What one thread works with: rows of stages and whatever forward, backward and sensitivities need beside them. */
typedef struct {
    REAL *u, *k, *y, *y1, *error, *square, *rtol, *atol, *zero, *ubar, *kbar, *ybar, *cotangent, *work;
    double *moment, *poly;
    REAL *seed[2], *direct[2];
    REAL *ds, *du, *dk, *dpoly, *de;
    double *columns; /* [3][columns]: error ratios of tangents, and sums on the way there */
    void *block;
    Pulse *pulse;
    Tape tape; /* in a batch: the arrays that every lane of a thread fills anew */
} Scratch;

/* A lane in progress. */
typedef struct {
    const REAL *p, *c;
    const double *time, *stop, *jump, *clear;
    double t, h, end, ratio[3];
    double tried; /* the length of the last attempt; h is what is wanted of the next, stops or not */
    REAL low, high, first, last; /* bounds of the stage times: of this step, of the interval */
    int64_t pointer, next, accepted, rejected, evaluations, pushed;
    int64_t jumped; /* the number of the step, from 1, at whose start a jump was added to the derivative */
    int fresh, after_rejection, status, stiff;
    Tape tape;
} Lane;

/* k = f and dk [N][m] = df/dy dy + df/dp dp of m columns dy [N][m], dp [P][m] or none. It lies in a library of its own,
 * which is there before a solve with columns begins. */
typedef void Tangents(REAL t, const REAL *y, const REAL *p, const REAL *c, int m, const REAL *dy, const REAL *dp, REAL *k,
                      REAL *dk, REAL *work);
static Tangents *field_jvp;

static ONCE double clock_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

/* out = base + h sum_j w_j rows_j over padded rows. */
static HOT void combine(REAL *out, const REAL *base, const REAL *rows, const double *w, double h, int count) {
    for (int v = 0; v < NP; v += VL) {
        vec sum = {0};
        for (int j = 0; j < count; j++) sum += (REAL)w[j] * *(const vec *)(rows + (int64_t)j * NP + v);
        *(vec *)(out + v) = *(const vec *)(base + v) + (REAL)h * sum;
    }
}

static inline void add(REAL *out, const REAL *row) {
    for (int v = 0; v < NP; v += VL) *(vec *)(out + v) += *(const vec *)(row + v);
}

/* h times a row of coefficients, in the state's precision. */
static inline void scaled(REAL *w, const double *row, double h, int count) {
    for (int j = 0; j < count; j++) w[j] = (REAL)(h * row[j]);
}

static inline void take_row(REAL *padded, const REAL *row) { memcpy(padded, row, N * sizeof(REAL)); }

static ONCE int all_finite(const REAL *row) {
    for (int n = 0; n < N; n++)
        if (!isfinite(row[n])) return 0;
    return 1;
}

static inline REAL next_to(REAL x, REAL towards) {
    return sizeof(REAL) == 4 ? (REAL)nextafterf((float)x, (float)towards) : (REAL)nextafter(x, towards);
}

/* A time rounded to REAL upwards or downwards. */
static ONCE REAL inward(double time, int up) {
    REAL found = (REAL)time;
    if (up ? (double)found < time : (double)found > time) found = next_to(found, up ? INFINITY : -INFINITY);
    return found;
}

/* Bounds of the stage times: the interval's ends, rounded inwards. */
static ONCE void bounds(double start, double end, Lane *l) {
    l->low = l->first = inward(start < end ? start : end, 1), l->high = l->last = inward(start < end ? end : start, 0);
}

/* A lane that is yet to begin. */
static inline Lane lane_of(const Task *q, int64_t lane) {
    return (Lane){
        .p = q->p + lane * q->p_stride, .c = q->c + lane * q->c_stride, .time = q->time + lane * q->time_lane,
        .jump = q->jump ? q->jump + lane * q->jump_lane : 0, .clear = q->clear ? q->clear + lane * q->jump_lane : 0,
    };
}

/* The first of a lane's jumps that is no earlier than a time; the last one where all are. */
static ONCE int64_t jump_from(const Task *q, const Lane *l, double time) {
    int64_t low = 0, high = q->jumps - 1;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (l->jump[middle * q->jump_row] < time) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The jump that a time is, up to the round-off of a sum; -1 when it is none. */
static COLD_ONCE int64_t jump_at(const Task *q, const Lane *l, double time) {
    int64_t after = jump_from(q, l, time), before = after ? after - 1 : 0;
    double high = l->jump[after * q->jump_row], low = l->jump[before * q->jump_row];
    int earlier = fabs(time - low) < fabs(time - high);
    double near = earlier ? low : high;
    int found = fabs(near - time) <= 4 * 2.220446049250313e-16 * fmax(fabs(near), fabs(time));
    return found ? (earlier ? before : after) : -1;
}

/* The stage times of the step [t, end] stay clear of a jump at either end, so that f is smooth in it. */
static COLD_ONCE void keep_clear(const Task *q, Lane *l, double t, double end) {
    int64_t after = jump_at(q, l, t < end ? t : end), before = jump_at(q, l, t < end ? end : t);
    l->low = l->first, l->high = l->last;
    if (after >= 0) {
        double jump = l->jump[after * q->jump_row];
        REAL away = inward(jump + (l->clear ? l->clear[after * q->jump_row] : 0), 1);
        l->low = next_to(inward(jump, 1), INFINITY);
        if (away > l->low) l->low = away;
    }
    if (before >= 0) {
        double jump = l->jump[before * q->jump_row];
        REAL away = inward(jump - (l->clear ? l->clear[before * q->jump_row] : 0), 0);
        l->high = next_to(inward(jump, 0), -INFINITY);
        if (away < l->high) l->high = away;
    }
}

/* f before and after the jump at exactly t in the state y, along the solve; the jump, or -1 where there is none. */
static COLD_ONCE int64_t sides_of_jump(const Task *q, const Lane *l, double t, const REAL *y, REAL *before, REAL *after,
                                       REAL *work) {
    int64_t jump = jump_from(q, l, t);
    if (l->jump[jump * q->jump_row] != t) return -1;
    double clear = fmax(l->clear ? l->clear[jump * q->jump_row] : 0, (sizeof(REAL) == 8 ? 2.3e-16 : 1.2e-7) * fabs(t));
    field((REAL)(t - q->direction * clear), y, l->p, l->c, before, work);
    field((REAL)(t + q->direction * clear), y, l->p, l->c, after, work);
    return jump;
}

static inline void enter_step(const Task *q, Lane *l, double t, double end) {
    if (q->jumps) keep_clear(q, l, t, end);
}

/* Whether the last slope of a step is the first one of the next. */
static inline int reuses(const Task *q) { return q->method.fsal && !q->jumps; }

static double theta_of(double time, double t, double h) { return (time - t) / (h == 0 ? 1.0 : h); }

static inline REAL stage_time(double t, double h, double c, REAL low, REAL high) {
    REAL at = (REAL)(c * h + t);
    return at < low ? low : at > high ? high : at;
}

static ONCE void release_scratch(Scratch *s) { free(s->block); }

/* Memory of one thread in one block, zeroed; returns 0 when there is none. */
static ONCE int take_scratch(Scratch *s, const Method *m, int64_t columns, int backward) {
    int64_t rows = m->total, work = WORK;
    if (columns > 0 && WORK_JVP(columns) > work) work = WORK_JVP(columns);
    int64_t wide = columns > 0 ? (int64_t)N * columns : 0;
    int64_t row_count = 2 * rows + 9 + (backward ? 2 * rows + 2 * (rows + 1) + 2 : 0);
    int64_t reals = row_count * NP + work + wide * (3 + rows + m->degree) + 64;
    int64_t doubles = 2 * (int64_t)m->degree * NP + 8 + 3 * columns;
    char *block = s->block = calloc(1, reals * sizeof(REAL) + doubles * sizeof(double) + 256);
    if (!block) return 0;
    double *d = (double *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
    s->moment = d, s->poly = d + (int64_t)m->degree * NP, s->columns = d + 2 * (int64_t)m->degree * NP + 8;
    REAL *r = (REAL *)(((uintptr_t)(d + doubles) + 63) & ~(uintptr_t)63);
    REAL **single[] = {&s->y, &s->y1, &s->error, &s->square, &s->rtol, &s->atol, &s->zero, &s->cotangent, &s->ybar};
    for (size_t i = 0; i < sizeof(single) / sizeof(*single); i++) *single[i] = r, r += NP;
    s->u = r, r += rows * NP;
    s->k = r, r += rows * NP;
    if (backward) {
        s->ubar = r, r += rows * NP;
        s->kbar = r, r += rows * NP;
        for (int i = 0; i < 2; i++) s->seed[i] = r, r += rows * NP;
        for (int i = 0; i < 2; i++) s->direct[i] = r, r += 2 * NP;
    }
    s->ds = r, r += wide;
    s->du = r, r += wide;
    s->dk = r, r += wide * rows;
    s->dpoly = r, r += wide * m->degree;
    s->de = r, r += wide;
    s->work = r;
    return 1;
}
