/* The runtime, part 2a: the derivative of the discrete flow, carried along the march (forward sensitivities).
 *
 * Columns: first the N of the initial state, then those of the parameters, whose tangents are dp [P][M]; or, as probes,
 * any directions of both, which begin at ds [L][N][M]. Where the march is controlled by them, they are carried through
 * every attempt whose state is good, and the attempt is judged by the largest error; else through accepted steps alone.
 * Source: Hairer, Norsett and Wanner (1993), I.14, applied to the discrete map.
 */

/* out = base + sum_j w_j rows_j over blocks of N * M numbers. */
static ONCE void combine_wide(REAL *out, const REAL *base, const REAL *restrict rows, const REAL *w, int count,
                         int64_t size) {
    if (out != base) memcpy(out, base, size * sizeof(REAL));
    for (int j = 0; j < count; j++) {
        if (w[j] == 0) continue;
        const REAL *restrict row = rows + j * size;
        for (int64_t i = 0; i < size; i++) out[i] += w[j] * row[i]; /* out is no row */
    }
}

static ONCE void carry_stage(const Task *q, Lane *l, int64_t lane, REAL t, const REAL *u, const REAL *du, REAL *dk,
                             Scratch *s) {
    if (s->pulse->stop) return;
    const REAL *dp = q->dp ? q->dp + lane * q->dp_stride : 0;
    field_jvp(t, u, l->p, l->c, (int)q->columns, du, dp, s->error, dk, s->work);
    l->pushed++;
    goes(s->pulse);
}

/* The derivative of the initial state, by itself or as probes begin, and of the first slope. */
static COLD_ONCE void carry_begin(const Task *q, Lane *l, int64_t lane, Scratch *s) {
    int64_t size = N * q->columns;
    if (q->ds) {
        memcpy(s->ds, q->ds + lane * size, size * sizeof(REAL));
    } else {
        memset(s->ds, 0, size * sizeof(REAL));
        for (int64_t n = 0; n < N; n++) s->ds[n * q->columns + n] = 1;
    }
    if (q->sensitivity) memcpy(q->sensitivity + lane * size, s->ds, size * sizeof(REAL));
    carry_stage(q, l, lane, stage_time(l->t, 0, 0, l->low, l->high), s->y, s->ds, s->dk, s);
}

/* The derivative inside of a step as a polynomial in theta, and the derivatives at the outputs there. */
static ONCE void carry_outputs(const Task *q, const Lane *l, int64_t lane, Scratch *s, const Step *step, int width) {
    const Method *m = &q->method;
    int64_t size = N * q->columns;
    REAL w[MOST_STAGES];
    for (int d = 0; d < m->degree; d++) {
        REAL *row = s->dpoly + d * size;
        scaled(w, m->dense + d * m->total, step->h, width);
        for (int64_t i = 0; i < size; i++) row[i] = w[0] * s->dk[i];
        combine_wide(row, row, s->dk + size, w + 1, width - 1, size);
    }
    for (int64_t j = step->first; j < step->first + step->count; j++) {
        REAL *restrict out = q->sensitivity + (j * q->lanes + lane) * size;
        double exact = theta_of(l->time[j * q->time_row], step->t, step->h);
        if (exact == 1 || exact == 0) {
            memcpy(out, exact == 1 ? s->du : s->ds, size * sizeof(REAL));
            continue;
        }
        REAL theta = (REAL)exact;
        int64_t i = 0;
        for (; i + VL <= size; i += VL) {
            vec sum = {0};
            for (int d = m->degree - 1; d >= 0; d--) sum = sum * theta + *(const vec *)(s->dpoly + d * size + i);
            *(vec *)(out + i) = *(const vec *)(s->ds + i) + theta * sum;
        }
        for (; i < size; i++) {
            REAL sum = 0;
            for (int d = m->degree - 1; d >= 0; d--) sum = sum * theta + s->dpoly[d * size + i];
            out[i] = s->ds[i] + theta * sum;
        }
    }
}

/* `weight` of what a jump at t in the state y, if one is there, adds to the derivative: dy = (f- - f+) dtau. */
static COLD_ONCE void pass_jump(const Task *q, const Lane *l, int64_t lane, Scratch *s, double t, const REAL *y, REAL *dy,
                                double weight) {
    int64_t jump = sides_of_jump(q, l, t, y, s->cotangent, s->error, s->work);
    if (jump < 0) return;
    const double *moves = q->djump + (jump * q->lanes + lane) * q->columns;
    for (int n = 0; n < N; n++)
        for (int64_t j = 0; j < q->columns; j++)
            dy[n * q->columns + j] += (s->cotangent[n] - s->error[n]) * (REAL)(weight * moves[j]);
}

/* The derivative at the start of a step, with the jump that lies there; once, however many attempts it takes. */
static inline void enter_carry(const Task *q, Lane *l, int64_t lane, Scratch *s) {
    if (!q->djump || l->jumped > l->accepted) return;
    pass_jump(q, l, lane, s, l->t, s->y, s->ds, l->accepted ? 1 : 0.5);
    l->jumped = l->accepted + 1;
}

/* The derivatives of the stages [from, to) of a step, whose states lie in s->u, and then of its end. */
static ONCE void carry_stages(const Task *q, Lane *l, int64_t lane, Scratch *s, double start, double h, int from, int to) {
    const Method *m = &q->method;
    int64_t size = N * q->columns;
    REAL w[MOST_STAGES];
    for (int i = from; i < to; i++) {
        if (i == 0 && reuses(q)) continue;
        scaled(w, m->a + (int64_t)i * m->total, h, i);
        combine_wide(s->du, s->ds, s->dk, w, i, size);
        REAL t = stage_time(start, h, m->c[i], l->low, l->high);
        carry_stage(q, l, lane, t, s->u + (int64_t)i * NP, s->du, s->dk + i * size, s);
    }
    scaled(w, m->b, h, m->stages);
    combine_wide(s->du, s->ds, s->dk, w, m->stages, size);
}

/* The error of every column by the weights `row`, as measure gives that of a state, into s->columns. */
static ONCE void carry_measure(const Task *q, int64_t lane, Scratch *s, const double *row, double h) {
    const Method *m = &q->method;
    const int64_t columns = q->columns, size = N * columns;
    const REAL *weight = q->size ? q->size + lane * q->size_stride : 0;
    double *restrict best = s->columns, *restrict sums = best + columns, least = sizeof(REAL) == 8 ? 1e-60 : 1e-30;
    REAL w[MOST_STAGES];
    scaled(w, row, h, m->stages);
    memset(s->de, 0, size * sizeof(REAL));
    combine_wide(s->de, s->de, s->dk, w, m->stages, size);
    for (int64_t j = 0; j < columns; j++) best[j] = 0;
    int64_t n = 0;
    for (int64_t part = 0; part < q->parts; part++) {
        const int64_t stop = n + q->sizes[part];
        for (int64_t j = 0; j < columns; j++) sums[j] = 0;
        for (; n < stop; n++) {
            const REAL rtol = s->rtol[n], atol = s->atol[n];
            const REAL *restrict e = s->de + n * columns, *restrict x = s->ds + n * columns, *restrict z = s->du + n * columns;
            for (int64_t j = 0; j < columns; j++) {
                REAL a = x[j] < 0 ? -x[j] : x[j], b = z[j] < 0 ? -z[j] : z[j], g = weight ? weight[j] : 1;
                REAL ratio = e[j] * (g / ((a > b ? a : b) * g * rtol + atol));
                sums[j] += (double)(ratio * ratio);
            }
        }
        for (int64_t j = 0; j < columns; j++) {
            double mean = sums[j] / (double)q->sizes[part], root = sqrt(mean < least ? least : mean);
            if (root > best[j] || root != root) best[j] = root;
        }
    }
}

/* The largest error ratio of the state, `ratio`, and of the tangents, which are carried through the attempt where its
 * state is good. One that is not finite has no part in it: its derivative does not exist. */
static ONCE double carry_ratio(const Task *q, Lane *l, int64_t lane, Scratch *s, double h, double ratio) {
    const Method *m = &q->method;
    if (!isfinite(ratio) || (ratio > 1 && !(q->min_step > 0 && fabs(h) <= q->min_step))) return ratio;
    enter_carry(q, l, lane, s);
    carry_stages(q, l, lane, s, l->t, h, 0, m->stages);
    double worst = 0, *first = s->columns + 2 * q->columns;
    for (int which = 0; which <= m->has_error3; which++) {
        carry_measure(q, lane, s, which ? m->error3 : m->error, h);
        if (!which && m->has_error3) {
            memcpy(first, s->columns, q->columns * sizeof(double));
            continue;
        }
        for (int64_t j = 0; j < q->columns; j++) {
            double one = s->columns[j];
            if (m->has_error3) {
                double a = first[j];
                one = a * a / sqrt(a * a + 0.01 * one * one);
            }
            if (isfinite(one) && one > worst) worst = one;
        }
    }
    return worst > ratio ? worst : ratio;
}

/* Carry the derivative through an accepted step whose stage states lie in s->u. */
static ONCE void carry_step(const Task *q, Lane *l, int64_t lane, Scratch *s, const Step *step, int width) {
    const Method *m = &q->method;
    int64_t size = N * q->columns;
    int done = q->controlled ? m->stages : 0;
    enter_carry(q, l, lane, s);
    if (width > done) carry_stages(q, l, lane, s, step->t, step->h, done, width);
    if (step->count && q->sensitivity) carry_outputs(q, l, lane, s, step, width);
    for (int64_t j = step->first + step->count - 1; q->djump && j >= step->first; j--) {
        double time = l->time[j * q->time_row];
        if (theta_of(time, step->t, step->h) != 1) break;
        pass_jump(q, l, lane, s, time, s->y1, q->sensitivity + (j * q->lanes + lane) * size, 0.5);
    }
    REAL *swap = s->ds;
    s->ds = s->du, s->du = swap;
    if (reuses(q)) memcpy(s->dk, s->dk + (int64_t)(m->stages - 1) * size, size * sizeof(REAL));
}
