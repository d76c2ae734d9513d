/* The runtime, part 2a: the derivative of the discrete flow, carried along the march (forward sensitivities).
 *
 * Columns: first the N of the initial state, then those of the parameters, whose tangents are dp [P][M].
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

static ONCE void carry_stage(const Task *q, const Lane *l, REAL t, const REAL *u, const REAL *du, REAL *dk, Scratch *s) {
    if (s->pulse->stop) return;
    field_jvp(t, u, l->p, l->c, (int)q->columns, du, q->dp, s->error, dk, s->work);
    goes(s->pulse);
}

/* The derivative of the initial state by itself, and of the first slope. */
static COLD_ONCE void carry_begin(const Task *q, const Lane *l, int64_t lane, Scratch *s) {
    int64_t size = N * q->columns;
    memset(s->ds, 0, size * sizeof(REAL));
    for (int64_t n = 0; n < N; n++) s->ds[n * q->columns + n] = 1;
    memcpy(q->sensitivity + lane * size, s->ds, size * sizeof(REAL));
    carry_stage(q, l, stage_time(l->t, 0, 0, l->low, l->high), s->y, s->ds, s->dk, s);
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

/* Carry the derivative through an accepted step whose stage states lie in s->u. */
static ONCE void carry_step(const Task *q, const Lane *l, int64_t lane, Scratch *s, const Step *step, int width) {
    const Method *m = &q->method;
    int64_t size = N * q->columns;
    REAL w[MOST_STAGES];
    if (q->djump) pass_jump(q, l, lane, s, step->t, s->y, s->ds, l->accepted ? 1 : 0.5);
    for (int i = 0; i < width; i++) {
        if (i == 0 && reuses(q)) continue;
        scaled(w, m->a + (int64_t)i * m->total, step->h, i);
        combine_wide(s->du, s->ds, s->dk, w, i, size);
        REAL t = stage_time(step->t, step->h, m->c[i], l->low, l->high);
        carry_stage(q, l, t, s->u + (int64_t)i * NP, s->du, s->dk + i * size, s);
    }
    scaled(w, m->b, step->h, m->stages);
    combine_wide(s->du, s->ds, s->dk, w, m->stages, size);
    if (step->count) carry_outputs(q, l, lane, s, step, width);
    for (int64_t j = step->first + step->count - 1; q->djump && j >= step->first; j--) {
        double time = l->time[j * q->time_row];
        if (theta_of(time, step->t, step->h) != 1) break;
        pass_jump(q, l, lane, s, time, s->y1, q->sensitivity + (j * q->lanes + lane) * size, 0.5);
    }
    REAL *swap = s->ds;
    s->ds = s->du, s->du = swap;
    if (reuses(q)) memcpy(s->dk, s->dk + (int64_t)(m->stages - 1) * size, size * sizeof(REAL));
}
