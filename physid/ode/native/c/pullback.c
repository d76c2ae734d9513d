/* The runtime, part 3: the cotangent of a lane's outputs pulled back through its accepted steps.
 *
 * With k_i = f(t + c_i h, u_i), u_i = y + h sum_j a_ij k_j, y1 = y + h sum_i b_i k_i, and outputs
 * y + h sum_i B_i(theta) k_i, cotangents run, last stage first,
 *
 *     kbar_i = b_i y1bar + sum_m B_i(theta_m) g_m + sum_{j > i} a_ji ubar_j,    ubar_i = h kbar_i^T df/du
 *     ybar = y1bar + sum_m g_m + sum_i ubar_i
 *
 * The last stage of a first-same-as-last method is the first of the next step and its share is added there. Sums over
 * outputs go through the moments sum_m theta_m^d g_m, so that they do not depend on the number of stages.
 *
 * Source: Zhuang et al. (2020), Adaptive Checkpoint Adjoint Method for Gradient Estimation in Neural ODE, Algorithm 2.
 */

static const REAL *g_row(const Task *q, int64_t lane, int64_t i) { return q->g + (i * q->lanes + lane) * N; }

/* Row of g from column v on, one vector. Beyond the row it may hold what follows, which stays in the padding. */
static inline vec g_vector(const REAL *g, int v, const REAL *end) {
    vec row = {0};
    if (v + VL <= N || g + v + VL <= end) return *(const vec *)(g + v);
    memcpy(&row, g + v, (N % VL) * sizeof(REAL));
    return row;
}

/* Adds the moments sum theta^d g, d = 1 .. degree, of `count` outputs, and sum g; `degree` is a constant where it counts. */
static inline void add_moments(const Task *q, int64_t lane, const int64_t *which, const double *theta, int count,
                               double *moment, REAL *direct, const int degree) {
    const REAL *end = q->g + q->times * q->lanes * N;
    double power[64 * degree];
    for (int j = 0; j < count; j++) {
        double now = 1;
        for (int d = 0; d < degree; d++) power[j * degree + d] = now *= theta[j];
    }
    for (int v = 0; v < NP; v += VL) {
        wide sums[degree];
        vec total = *(vec *)(direct + v);
        for (int d = 0; d < degree; d++) sums[d] = *(wide *)(moment + (int64_t)d * NP + v);
        for (int j = 0; j < count; j++) {
            vec row = g_vector(g_row(q, lane, which[j]), v, end);
            wide term = __builtin_convertvector(row, wide);
            total += row;
            for (int d = 0; d < degree; d++) sums[d] += power[j * degree + d] * term;
        }
        *(vec *)(direct + v) = total;
        for (int d = 0; d < degree; d++) *(wide *)(moment + (int64_t)d * NP + v) = sums[d];
    }
}

/* What the outputs of a step put on its first and its last state (`direct`), and their moments; whether any lies inside. */
static ONCE int moments_of(const Task *q, const Lane *l, int64_t lane, Scratch *s, const Step *step, REAL *direct) {
    const Method *m = &q->method;
    int inner = 0;
    int64_t which[64], i = step->first, stop = step->first + step->count;
    double theta[64];
    memset(direct, 0, 2 * NP * sizeof(REAL));
    if (i < stop) memset(s->moment, 0, (int64_t)m->degree * NP * sizeof(double));
    while (i < stop) {
        int count = 0;
        for (; i < stop && count < 64; i++) {
            double at = theta_of(asked(q, l, i), step->t, step->h);
            if (at == 1) take_row(s->cotangent, g_row(q, lane, i)), add(direct + NP, s->cotangent);
            else which[count] = i, theta[count++] = at, inner |= at != 0;
        }
        if (m->degree == 4) add_moments(q, lane, which, theta, count, s->moment, direct, 4);
        else if (m->degree == 7) add_moments(q, lane, which, theta, count, s->moment, direct, 7);
        else add_moments(q, lane, which, theta, count, s->moment, direct, m->degree);
    }
    return inner;
}

/* The same, and what the moments put on the stages (`seed`). */
static ONCE int seeds_of(const Task *q, const Lane *l, int64_t lane, Scratch *s, const Step *step, REAL *seed,
                         REAL *direct) {
    const Method *m = &q->method;
    int inner = moments_of(q, l, lane, s, step, direct), width = step->dense ? m->total : m->stages;
    for (int j = 0; inner && j < width; j++)
        for (int v = 0; v < NP; v += VL) {
            wide sum = {0};
            for (int d = 0; d < m->degree; d++)
                sum += m->dense[d * m->total + j] * *(const wide *)(s->moment + (int64_t)d * NP + v);
            *(vec *)(seed + (int64_t)j * NP + v) = __builtin_convertvector(sum, vec);
        }
    return inner;
}

static double dot(const REAL *a, const REAL *b) {
    double sum = 0;
    for (int n = 0; n < N; n++) sum += (double)a[n] * b[n];
    return sum;
}

/* The stages of step w: where they were kept, or by evaluating them again. */
static ONCE void stages_of(Task *q, Lane *l, Scratch *s, Shelf *shelf, const Tape *tape, int64_t w, const REAL **u,
                           const REAL **k) {
    const Step *step = tape->step + w;
    const Method *m = &q->method;
    int64_t rows = (int64_t)m->total * NP;
    if (tape->stage_room > 0 && (tape->k || !q->tbar)) {
        *u = tape->u + w * rows, *k = tape->k ? tape->k + w * rows : 0;
        return;
    }
    int width = step->dense ? m->total : m->stages;
    if (shelf->held) rebuild(q, l, s, shelf, tape, w);
    else take_row(s->y, tape->y + w * N);
    enter_step(q, l, step->t, step->t + step->h);
    run_stages(q, l, s, step->t, step->h, 0, width);
    *u = s->u, *k = s->k;
}

/* Cotangents of the asked times: outputs through the dense output, step ends where they move. */
static COLD_ONCE void move_times(const Task *q, const Lane *l, int64_t lane, Scratch *s, const Tape *tape, int64_t w,
                       const REAL *k, double hbar, double tbar, Follow *follow, double kept) {
    const Method *m = &q->method;
    const Step *step = tape->step + w;
    double *out = q->tbar + lane;
    if (step->count) dense_poly(m, s->poly, k, 1.0, step->dense ? m->total : m->stages);
    for (int64_t i = step->first; i < step->first + step->count; i++) {
        double theta = theta_of(asked(q, l, i), step->t, step->h), power = 1, rate = 0;
        const REAL *g = g_row(q, lane, i);
        for (int d = 0; d < m->degree; d++, power *= theta) {
            double sum = 0;
            for (int n = 0; n < N; n++) sum += g[n] * s->poly[(int64_t)d * NP + n];
            rate += (d + 1) * power * sum;
        }
        out[i * q->lanes] += rate, hbar -= theta * rate, tbar -= rate;
    }
    if (q->keep_choices) {
        end_follow(q, l, lane, step, tape->choice + w, follow, hbar, tbar, kept);
        return;
    }
    int64_t begin = w ? tape->step[w - 1].end : 0;
    if (begin >= 0) out[begin * q->lanes] += tbar - hbar;
    if (step->end >= 0) out[step->end * q->lanes] += hbar;
}

/* The cotangent of the jump at t in the state y, if one is there: `weight` of that of the state from there on, and half
 * of that of the outputs at t, the last ones of the step before. */
static COLD_ONCE void pull_jump(Task *q, const Lane *l, int64_t lane, Scratch *s, double t, const REAL *y,
                                const Step *before, double weight) {
    int64_t jump = sides_of_jump(q, l, t, y, s->y1, s->error, s->work);
    if (jump < 0) return;
    for (int n = 0; n < N; n++) s->error[n] = s->y1[n] - s->error[n];
    double sum = weight * dot(s->ybar, s->error);
    for (int64_t i = before ? before->first + before->count - 1 : -1; i >= 1 && asked(q, l, i) == t; i--)
        sum += 0.5 * dot(g_row(q, lane, i), s->error);
    q->jbar[jump * q->lanes + lane] += sum;
    memset(s->error, 0, NP * sizeof(REAL));
}

/* Pull s->ybar, the cotangent of the end of step w, back to its start; `tail` is the share of the step before. */
static ONCE void pull_step(Task *q, Lane *l, int64_t lane, Scratch *s, Shelf *shelf, const Tape *tape, int64_t w,
                           REAL *seed, REAL *direct, int inner, const REAL *tail, double tail_h, Follow *follow) {
    const Method *m = &q->method;
    const Step *step = tape->step + w;
    const REAL *u, *k;
    REAL moment = 0, *pbar = q->pbar + lane * P;
    double hbar = 0, tbar = 0, kept = 0, ratio = 0;
    int last = w == tape->count - 1, count = step->dense ? m->total : m->stages;
    if (reuses(q) && !step->dense && (!last || !inner) && !q->keep_choices) count = m->stages - 1;
    stages_of(q, l, s, shelf, tape, w, &u, &k);
    enter_step(q, l, step->t, step->t + step->h);
    if (q->keep_choices) {
        hbar = begin_follow(q, tape->choice + w, step->h, follow, &ratio, &kept);
        if (!inner) memset(seed, 0, (int64_t)m->total * NP * sizeof(REAL)), inner = 1;
        if (ratio != 0) spread_ratio(q, s, k, u, step->h, ratio, seed, direct);
    }
    add(s->ybar, direct + NP);
    for (int i = count - 1; i >= 0 && !s->pulse->stop; i--) {
        REAL *kbar = s->kbar + (int64_t)i * NP, *ubar = s->ubar + (int64_t)i * NP;
        combine(kbar, inner ? seed + (int64_t)i * NP : s->zero, ubar + NP, m->at + i * m->total + i + 1, 1, count - 1 - i);
        REAL b = i < m->stages ? (REAL)m->b[i] : 0, h = (REAL)step->h;
        for (int n = 0; n < NP; n++) kbar[n] += b * s->ybar[n], s->cotangent[n] = h * kbar[n];
        if (i == 0 && tail)
            for (int n = 0; n < NP; n++) s->cotangent[n] += (REAL)tail_h * tail[n];
        memset(ubar, 0, NP * sizeof(REAL));
        moment = 0;
        REAL t = stage_time(step->t, step->h, m->c[i], l->low, l->high);
        field_vjp(t, u + (int64_t)i * NP, l->p, l->c, s->cotangent, ubar, pbar, &moment, s->work);
        goes(s->pulse);
        if (q->tbar) hbar += dot(kbar, k + (int64_t)i * NP) + m->c[i] * moment, tbar += moment;
    }
    __atomic_fetch_add(&q->vjps, count, __ATOMIC_RELAXED);
    if (q->tbar && inner && count < m->stages)
        hbar += dot(seed + (int64_t)count * NP, k + (int64_t)count * NP);
    if (q->tbar) move_times(q, l, lane, s, tape, w, k, hbar, tbar, follow, kept);
    add(s->ybar, direct);
    for (int i = 0; i < count; i++) add(s->ybar, s->ubar + (int64_t)i * NP);
    if (q->jbar) pull_jump(q, l, lane, s, step->t, u, w ? tape->step + w - 1 : 0, w ? 1 : 0.5);
}

/* Cotangents of y0, of the parameters and of the times of one lane; 0 when memory ran out. */
static ONCE int pull_lane(Task *q, int64_t lane, Scratch *s) {
    const Tape *tape = q->tape + lane;
    Shelf shelf;
    if (!take_shelf(&shelf, q, tape, lane)) return release_shelf(&shelf), 0;
    Lane lane_state = lane_of(q, lane), *l = &lane_state;
    bounds(asked(q, l, 0), asked(q, l, q->times - 1), l);
    memset(s->ybar, 0, NP * sizeof(REAL));
    for (int n = 0; n < NP; n++) s->atol[n] = n < N ? q->atol[lane * q->tolerance_stride + n] : 1;
    take_row(s->rtol, q->rtol + lane * q->tolerance_stride);
    Follow follow = {0, 0, {0, 0}};
    l->end = asked(q, l, q->times - 1), l->stop = q->stop + lane * q->stop_lane;
    int64_t w = tape->count - 1;
    if (q->jbar && w >= 0) pull_jump(q, l, lane, s, l->end, q->final + lane * N, tape->step + w, 0);
    int inner = w >= 0 ? seeds_of(q, l, lane, s, tape->step + w, s->seed[w & 1], s->direct[w & 1]) : 0;
    for (; w >= 0 && !s->pulse->stop; w--) {
        int before = 0, now = w & 1;
        if (w) before = seeds_of(q, l, lane, s, tape->step + w - 1, s->seed[!now], s->direct[!now]);
        int defers = before && !q->keep_choices && reuses(q) && !tape->step[w - 1].dense;
        const REAL *tail = defers ? s->seed[!now] + (int64_t)(q->method.stages - 1) * NP : 0;
        pull_step(q, l, lane, s, &shelf, tape, w, s->seed[now], s->direct[now], inner, tail,
                  defers ? tape->step[w - 1].h : 0, &follow);
        inner = before;
    }
    if (q->keep_choices) q->tbar[lane] += follow.t;
    const REAL *g = g_row(q, lane, 0);
    for (int n = 0; n < N; n++) q->ybar[lane * N + n] = s->ybar[n] + g[n];
    __atomic_fetch_add(&q->replayed, l->evaluations, __ATOMIC_RELAXED);
    release_shelf(&shelf);
    return 1;
}
