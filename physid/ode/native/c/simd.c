/* The runtime, part 3c: VW lanes of a batch in the lanes of vectors, each with steps of its own.
 *
 * Element n of a state is one vector over the lanes. What all lanes do alike, the stages and their products, is done at
 * once; what each decides for itself, by the functions of one lane. A lane that ends makes room for the next one.
 * Included only where the right-hand side is small: field_abreast and field_vjp_abreast take vectors for all numbers.
 */
#ifdef ABREAST
#ifdef __AVX512F__
#pragma GCC push_options
#pragma GCC target("prefer-vector-width=512")
#endif

typedef double WIDE __attribute__((vector_size(VW * sizeof(double)), aligned(sizeof(double)), may_alias));

/* A lane with rows of its own; its number in the batch, negative when there is none. Of the step that is pulled back:
 * its number, of how many stages, whether outputs lie inside. */
typedef struct {
    Lane lane;
    Scratch s;
    int64_t number, step;
    int inner, count;
} Seat;

/* Rows of vectors, and the seats; what outputs put on a step and on the one before it. */
typedef struct {
    Seat seat[VW];
    VREAL *y, *y1, *u, *k, *spare, *rtol, *atol, *p, *c, *ybar, *ubar, *seed, *zero, *pbar, *direct[2];
    WIDE *moment[2];
    void *block;
} Abreast;

/* The steps that are pulled back: start, length, that of the step before where its last stage counts here, whether the
 * last stage is their own; the most stages, whether any has outputs inside, and whether any last stage is put off. */
typedef struct {
    WIDE t, h;
    VREAL tail_h, own;
    int most, inner, defers;
} Back;

static ONCE int take_abreast(Abreast *a, const Task *q, int backward, Pulse *pulse) {
    int64_t rows = q->method.total, degree = q->method.degree, all = (2 * rows + 5) * N + P + C_;
    if (backward) all += (rows + 7) * N + P + 2 * degree * N * (int64_t)(sizeof(WIDE) / sizeof(VREAL));
    memset(a, 0, sizeof *a);
    char *block = a->block = calloc(1, (all + 1) * sizeof(VREAL));
    for (int i = 0; i < VW; i++) {
        a->seat[i].number = -1, a->seat[i].s.pulse = pulse;
        if (!block || !take_scratch(&a->seat[i].s, &q->method, backward ? 0 : q->columns, backward)) return 0;
    }
    VREAL *r = (VREAL *)(((uintptr_t)block + sizeof(VREAL) - 1) & ~(uintptr_t)(sizeof(VREAL) - 1));
    VREAL **single[] = {&a->y, &a->y1, &a->spare, &a->rtol, &a->atol, &a->ybar, &a->seed, &a->zero};
    for (int i = 0; i < (backward ? 8 : 5); i++) *single[i] = r, r += N;
    a->u = r, r += rows * N;
    a->k = r, r += rows * N;
    a->p = r, r += P;
    a->c = r, r += C_;
    if (!backward) return 1;
    a->ubar = r, r += rows * N;
    a->pbar = r, r += P;
    for (int i = 0; i < 2; i++) a->direct[i] = r, r += 2 * N;
    for (int i = 0; i < 2; i++) a->moment[i] = (WIDE *)r + i * degree * N;
    return 1;
}

static ONCE void release_abreast(Abreast *a) {
    for (int i = 0; i < VW; i++) release_scratch(&a->seat[i].s), free_tape(&a->seat[i].s.tape);
    free(a->block);
}

/* `count` numbers into, and out of, place i of as many vectors. */
static inline void put(VREAL *to, int i, const REAL *from, int count) {
    REAL *column = (REAL *)to + i;
    for (int n = 0; n < count; n++) column[(int64_t)n * VW] = from[n];
}

static inline void get(REAL *to, const VREAL *from, int i, int count) {
    const REAL *column = (const REAL *)from + i;
    for (int n = 0; n < count; n++) to[n] = column[(int64_t)n * VW];
}

/* out = base + h sum_j w_j rows_j over rows of vectors. */
static inline void combine_abreast(VREAL *out, const VREAL *base, const VREAL *rows, const double *w, VREAL h, int count) {
    for (int n = 0; n < N; n++) {
        VREAL sum = {0};
        for (int j = 0; j < count; j++) sum += (REAL)w[j] * rows[(int64_t)j * N + n];
        out[n] = base[n] + h * sum;
    }
}

/* The times of a stage in all lanes, within their bounds. */
static inline VREAL times_abreast(const Abreast *a, WIDE t, WIDE h, double c) {
    VREAL at = __builtin_convertvector(c * h + t, VREAL);
    for (int i = 0; i < VW; i++) {
        const Lane *l = &a->seat[i].lane;
        at[i] = at[i] < l->low ? l->low : at[i] > l->high ? l->high : at[i];
    }
    return at;
}

static void settle_down(Abreast *a, const Task *q, int i) {
    const Lane *l = &a->seat[i].lane;
    put(a->p, i, l->p, P), put(a->c, i, l->c, C_);
}

/* The error ratios of an attempt, as error_ratio gives them for one lane. */
static ONCE void ratios_abreast(const Task *q, const Abreast *a, VREAL h, double *ratio) {
    const Method *m = &q->method;
    const double least = sizeof(REAL) == 8 ? 1e-60 : 1e-30;
    for (int which = 0; which <= m->has_error3; which++) {
        WIDE best;
        for (int i = 0; i < VW; i++) best[i] = -1;
        int64_t n = 0;
        for (int64_t part = 0; part < q->parts; part++) {
            WIDE sums[4] = {{0}};
            int64_t start = n, stop = n + q->sizes[part], whole = start + (stop - start) / 4 * 4;
            for (; n < stop; n++) {
                VREAL error = {0}, most;
                for (int j = 0; j < m->stages; j++)
                    error += (REAL)(which ? m->error3 : m->error)[j] * a->k[(int64_t)j * N + n];
                error *= h;
                for (int i = 0; i < VW; i++) {
                    REAL x = a->y[n][i], z = a->y1[n][i];
                    x = x < 0 ? -x : x, z = z < 0 ? -z : z;
                    most[i] = x > z ? x : z;
                }
                error /= most * a->rtol[n] + a->atol[n];
                sums[n < whole ? (n - start) % 4 : 0] += __builtin_convertvector(error * error, WIDE);
            }
            WIDE mean = (sums[0] + sums[1] + sums[2] + sums[3]) / (double)q->sizes[part];
            for (int i = 0; i < VW; i++) {
                double root = sqrt(mean[i] < least ? least : mean[i]);
                if (root > best[i] || root != root) best[i] = root;
            }
        }
        for (int i = 0; i < VW; i++)
            ratio[i] = which ? ratio[i] * ratio[i] / sqrt(ratio[i] * ratio[i] + 0.01 * best[i] * best[i]) : best[i];
    }
}

/* The stages of an attempt of every lane, from its start t and by its length h; the error ratios. */
static ONCE void attempt_abreast(const Task *q, Abreast *a, WIDE t, WIDE length, double *ratio) {
    const Method *m = &q->method;
    VREAL h = __builtin_convertvector(length, VREAL);
    int stale = 0;
    for (int i = 0; i < VW; i++) stale |= a->seat[i].number >= 0 && !a->seat[i].lane.fresh;
    if (stale) {
        field_abreast(times_abreast(a, t, length, m->c[0]), a->y, a->p, a->c, a->spare);
        for (int i = 0; i < VW; i++) {
            Lane *l = &a->seat[i].lane;
            if (a->seat[i].number < 0 || l->fresh) continue;
            for (int n = 0; n < N; n++) a->k[n][i] = a->spare[n][i];
            l->fresh = 1, l->evaluations++;
        }
    }
    for (int j = 1; j < m->stages; j++) {
        VREAL *u = a->u + (int64_t)j * N;
        combine_abreast(u, a->y, a->k, m->a + (int64_t)j * m->total, h, j);
        field_abreast(times_abreast(a, t, length, m->c[j]), u, a->p, a->c, a->k + (int64_t)j * N);
    }
    for (int i = 0; i < VW; i++) a->seat[i].lane.evaluations += m->stages - 1;
    if (m->fsal) memcpy(a->y1, a->u + (int64_t)(m->stages - 1) * N, N * sizeof(VREAL));
    else combine_abreast(a->y1, a->y, a->k, m->b, h, m->stages);
    if (!q->fixed && m->has_error) {
        ratios_abreast(q, a, h, ratio);
        return;
    }
    for (int i = 0; i < VW; i++) {
        ratio[i] = 0;
        for (int n = 0; n < N; n++)
            if (!isfinite(a->y1[n][i])) ratio[i] = NAN;
    }
}

/* Let the lane of seat i judge its attempt, and put its next first state in place; 0 when memory ran out. */
static ONCE int settle_abreast(const Task *q, Abreast *a, int i, double ratio, double h, double end, int cut) {
    const Method *m = &q->method;
    Seat *seat = &a->seat[i];
    Scratch *s = &seat->s;
    Lane *l = &seat->lane;
    int64_t accepted = l->accepted, last = m->stages - 1;
    int judged = accepted % 1000 == 998 || accepted + l->rejected + 1 >= q->max_steps || q->until > 0;
    int all = judged || q->columns || keeps_stages(q);
    int inner = l->next < q->times && q->direction * (asked(q, l, l->next) - end) < 0;
    get(s->y1, a->y1, i, N);
    for (int64_t j = all || inner ? 0 : last; j < m->stages; j++) get(s->k + j * NP, a->k + j * N, i, N);
    for (int64_t j = all ? 1 : m->stages; j < m->stages; j++) get(s->u + j * NP, a->u + j * N, i, N);
    if (q->controlled) ratio = carry_ratio(q, l, seat->number, s, h, ratio);
    if (s->pulse->stop) return 1;
    if (!settle(q, l, seat->number, s, ratio, h, end, cut)) return 0;
    if (l->accepted > accepted) put(a->y, i, s->y, N), put(a->k, i, s->k, N);
    return 1;
}

/* Give the free seats to the next lanes; returns how many are taken, negative when memory ran out. */
static ONCE int seat_lanes(Task *q, Abreast *a, int64_t *next, struct Chunk **chunks) {
    int taken = 0;
    for (int i = 0; i < VW; i++) {
        Seat *seat = &a->seat[i];
        Scratch *s = &seat->s;
        while (seat->number < 0 && __atomic_load_n(next, __ATOMIC_RELAXED) < q->lanes) {
            int64_t lane = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
            if (lane >= q->lanes) break;
            begin_lane(q, &seat->lane, lane, s);
            if (!goes_on(q, &seat->lane, s)) {
                if (!end_lane(q, &seat->lane, lane, s, chunks)) return -1;
                continue;
            }
            seat->number = lane;
            settle_down(a, q, i);
            put(a->y, i, s->y, N), put(a->k, i, s->k, N), put(a->rtol, i, s->rtol, N), put(a->atol, i, s->atol, N);
        }
        taken += seat->number >= 0;
    }
    return taken;
}

/* March lanes of a batch until none is left; 0 when memory ran out. */
static ONCE int march_abreast(Task *q, int64_t *next, struct Chunk **chunks, Pulse *pulse) {
    Abreast a;
    int fine = take_abreast(&a, q, 0, pulse), taken = 0;
    while (fine && (taken = seat_lanes(q, &a, next, chunks)) > 0) {
        WIDE t = {0}, h = {0};
        double end[VW], ratio[VW];
        int cut[VW];
        for (int i = 0; i < VW; i++) {
            Lane *l = &a.seat[i].lane;
            double length;
            if (a.seat[i].number < 0) continue;
            cut[i] = next_attempt(q, l, &length, end + i);
            enter_step(q, l, l->t, end[i]);
            t[i] = l->t, h[i] = length;
        }
        attempt_abreast(q, &a, t, h, ratio);
        goes(pulse);
        for (int i = 0; i < VW && fine; i++) {
            Seat *seat = &a.seat[i];
            if (seat->number < 0) continue;
            fine = settle_abreast(q, &a, i, ratio[i], h[i], end[i], cut[i]);
            if (!fine || goes_on(q, &seat->lane, &seat->s)) continue;
            fine = end_lane(q, &seat->lane, seat->number, &seat->s, chunks);
            seat->number = -1;
        }
    }
    release_abreast(&a);
    return fine && !taken;
}

/* Whether a task's lanes are pulled back abreast; those that move times or follow the choice of steps are not. */
static inline int pulls_abreast(const Task *q) { return !q->tbar && !q->jbar && !q->keep_choices; }

/* Ask for what will be read of a step, early enough: a batch's tapes do not fit into the nearer caches. */
static inline void expect(const Tape *tape, int64_t step) {
    __builtin_prefetch(tape->step + (step ? step - 1 : 0)), __builtin_prefetch(tape->y + step * N);
}

/* The outputs of a step, as moments and at its ends, into the rows `to` of seat i; whether any lies inside. */
static ONCE int load_outputs(const Task *q, Abreast *a, int i, const Step *step, int to) {
    Seat *seat = &a->seat[i];
    REAL *direct = seat->s.direct[0];
    int inner = moments_of(q, &seat->lane, seat->number, &seat->s, step, direct);
    put(a->direct[to], i, direct, N), put(a->direct[to] + N, i, direct + NP, N);
    for (int d = 0; d < q->method.degree; d++)
        for (int n = 0; n < N; n++) a->moment[to][d * N + n][i] = inner ? seat->s.moment[(int64_t)d * NP + n] : 0;
    return inner;
}

/* Give the free seats to the next lanes whose states were kept; the others are pulled back at once, alone. */
static ONCE int seat_tapes(Task *q, Abreast *a, int64_t *next, int now) {
    int taken = 0;
    for (int i = 0; i < VW; i++) {
        Seat *seat = &a->seat[i];
        while (seat->number < 0 && __atomic_load_n(next, __ATOMIC_RELAXED) < q->lanes) {
            int64_t lane = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
            if (lane >= q->lanes) break;
            const Tape *tape = q->tape + lane, *later = lane + VW < q->lanes ? tape + VW : tape;
            if (!tape->y) {
                if (!pull_lane(q, lane, &seat->s)) return -1;
                continue;
            }
            for (int64_t step = later->count - 1; later->y && step >= 0 && step > later->count - 4; step--) expect(later, step);
            Lane *l = &seat->lane;
            *l = lane_of(q, lane);
            bounds(asked(q, l, 0), asked(q, l, q->times - 1), l);
            seat->number = lane, seat->step = tape->count - 1;
            seat->inner = load_outputs(q, a, i, tape->step + seat->step, now);
            settle_down(a, q, i);
            for (int n = 0; n < N; n++) a->ybar[n][i] = 0;
            for (int j = 0; j < P; j++) a->pbar[j][i] = 0;
        }
        taken += seat->number >= 0;
    }
    return taken;
}

/* The step that seat i pulls back, and the outputs of the one before it, whose last stage is this one's first. */
static ONCE void load_step(const Task *q, Abreast *a, int i, int now, Back *b) {
    const Method *m = &q->method;
    Seat *seat = &a->seat[i];
    const Tape *tape = q->tape + seat->number;
    const Step *step = tape->step + seat->step, *former = step - 1;
    int last = seat->step == tape->count - 1;
    seat->count = step->dense ? m->total : m->stages;
    if (reuses(q) && !step->dense && (!last || !seat->inner)) seat->count = m->stages - 1;
    b->own[i] = seat->count >= m->stages, b->tail_h[i] = 0, b->t[i] = step->t, b->h[i] = step->h;
    b->inner |= seat->inner, b->most = seat->count > b->most ? seat->count : b->most;
    put(a->y, i, tape->y + seat->step * N, N);
    enter_step(q, &seat->lane, step->t, step->t + step->h);
    seat->inner = 0;
    if (!seat->step) return;
    if (seat->step > 2) expect(tape, seat->step - 3);
    seat->inner = load_outputs(q, a, i, former, !now);
    if (seat->inner && reuses(q) && !former->dense) b->tail_h[i] = (REAL)former->h, b->defers = 1;
}

/* The stage states of the steps again; a step that had no such stage gets its first state there. */
static ONCE void stages_abreast(const Task *q, Abreast *a, const Back *b) {
    const Method *m = &q->method;
    VREAL h = __builtin_convertvector(b->h, VREAL);
    memcpy(a->u, a->y, N * sizeof(VREAL));
    for (int j = 0; j < b->most; j++) {
        VREAL *u = a->u + (int64_t)j * N;
        if (j) combine_abreast(u, a->y, a->k, m->a + (int64_t)j * m->total, h, j);
        for (int i = 0; j >= m->stages && i < VW; i++)
            for (int n = 0; a->seat[i].count <= j && n < N; n++) u[n][i] = a->y[n][i];
        if (j + 1 < b->most) field_abreast(times_abreast(a, b->t, b->h, m->c[j]), u, a->p, a->c, a->k + (int64_t)j * N);
    }
}

/* What outputs inside of the steps put on stage j. */
static inline void seed_abreast(const Method *m, const WIDE *moment, int j, VREAL *seed) {
    for (int n = 0; n < N; n++) {
        WIDE sum = {0};
        for (int d = 0; d < m->degree; d++) sum += m->dense[d * m->total + j] * moment[d * N + n];
        seed[n] = __builtin_convertvector(sum, VREAL);
    }
}

/* Pull one step of every lane back. */
static ONCE void pull_steps(const Task *q, Abreast *a, int now, const Back *b) {
    const Method *m = &q->method;
    VREAL h = __builtin_convertvector(b->h, VREAL), gt = {0}, *bar = a->spare;
    const VREAL one = SPLAT(1);
    stages_abreast(q, a, b);
    for (int n = 0; n < N; n++) a->ybar[n] += a->direct[now][N + n];
    for (int j = b->most - 1; j >= 0; j--) {
        VREAL *ubar = a->ubar + (int64_t)j * N;
        REAL weight = j < m->stages ? (REAL)m->b[j] : 0;
        if (b->inner) seed_abreast(m, a->moment[now], j, a->seed);
        if (b->inner && j == m->stages - 1)
            for (int n = 0; n < N; n++) a->seed[n] *= b->own; /* where it is not deferred to the step behind */
        combine_abreast(bar, b->inner ? a->seed : a->zero, ubar + N, m->at + j * m->total + j + 1, one, b->most - 1 - j);
        for (int n = 0; n < N; n++) bar[n] = h * (bar[n] + weight * a->ybar[n]), ubar[n] = (VREAL){0};
        if (!j && b->defers) {
            seed_abreast(m, a->moment[!now], m->stages - 1, a->seed);
            for (int n = 0; n < N; n++) bar[n] += b->tail_h * a->seed[n];
        }
        field_vjp_abreast(times_abreast(a, b->t, b->h, m->c[j]), a->u + (int64_t)j * N, a->p, a->c, bar, ubar, a->pbar, &gt);
    }
    for (int n = 0; n < N; n++) {
        a->ybar[n] += a->direct[now][n];
        for (int j = 0; j < b->most; j++) a->ybar[n] += a->ubar[(int64_t)j * N + n];
    }
}

/* The cotangents of a lane that is back at its start. */
static ONCE void leave_seat(Task *q, Abreast *a, int i) {
    Seat *seat = &a->seat[i];
    const REAL *g = g_row(q, seat->number, 0);
    REAL *pbar = q->pbar + seat->number * P, *ybar = q->ybar + seat->number * N;
    for (int n = 0; n < N; n++) ybar[n] = a->ybar[n][i] + g[n];
    for (int j = 0; j < P; j++) pbar[j] += a->pbar[j][i];
    seat->number = -1;
}

/* Pull lanes of a batch back until none is left; 0 when memory ran out. */
static ONCE int pull_abreast(Task *q, int64_t *next, Pulse *pulse) {
    Abreast a;
    int fine = take_abreast(&a, q, 1, pulse), taken = 0;
    int64_t products = 0, replayed = 0;
    for (int now = 0; fine && (taken = seat_tapes(q, &a, next, now)) > 0; now = !now) {
        Back b = {.most = 0};
        for (int i = 0; i < VW; i++) {
            if (a.seat[i].number < 0) continue;
            load_step(q, &a, i, now, &b);
            products += a.seat[i].count, replayed += a.seat[i].count - 1;
        }
        pull_steps(q, &a, now, &b);
        if (!goes(pulse)) break;
        for (int i = 0; i < VW; i++)
            if (a.seat[i].number >= 0 && !a.seat[i].step--) leave_seat(q, &a, i);
    }
    __atomic_fetch_add(&q->vjps, products, __ATOMIC_RELAXED);
    __atomic_fetch_add(&q->replayed, replayed, __ATOMIC_RELAXED);
    release_abreast(&a);
    return fine && (!taken || pulse->stop);
}

#ifdef __AVX512F__
#pragma GCC pop_options
#endif
#endif
