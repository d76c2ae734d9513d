/* The runtime, part 2: the forward loop of one lane; the same decisions as the eager march.
 *
 * Sources: Soederlind (2003) for the controller; Hairer, Norsett and Wanner (1993), II.4 for the first step.
 */

static double asked(const Task *q, const Lane *l, int64_t i) { return l->time[i * q->time_row]; }
static double stop_at(const Task *q, const Lane *l, int64_t i) { return l->stop[i * q->stop_row]; }

static HOT void evaluate(Lane *l, REAL t, const REAL *u, REAL *k, Scratch *s) {
    if (s->pulse->stop) return; /* what is left of a step that nobody will look at */
    field(t, u, l->p, l->c, k, s->work);
    l->evaluations++;
    goes(s->pulse);
}

/* The root mean square of scaled errors, the largest over the parts of a tuple; not-a-number stays. */
static HOT double size_of(const Task *q, const REAL *square) {
    double best = -1, least = sizeof(REAL) == 8 ? 1e-60 : 1e-30;
    int64_t n = 0;
    for (int64_t part = 0; part < q->parts; part++) {
        double sums[4] = {0, 0, 0, 0};
        int64_t stop = n + q->sizes[part], i = n;
        for (; i + 4 <= stop; i += 4)
            for (int j = 0; j < 4; j++) sums[j] += square[i + j];
        for (; i < stop; i++) sums[0] += square[i];
        double mean = (sums[0] + sums[1] + sums[2] + sums[3]) / (double)q->sizes[part];
        double root = sqrt(mean < least ? least : mean);
        if (root > best || root != root) best = root;
        n = stop;
    }
    return best;
}

static HOT double measure(const Task *q, Scratch *s, const REAL *value, const REAL *y, const REAL *y1) {
    for (int n = 0; n < NP; n++) {
        REAL a = y[n] < 0 ? -y[n] : y[n], b = y1[n] < 0 ? -y1[n] : y1[n];
        REAL ratio = value[n] / ((a > b ? a : b) * s->rtol[n] + s->atol[n]);
        s->square[n] = ratio * ratio;
    }
    return size_of(q, s->square);
}

static double number_or(double value, double other) { return value != value ? other : value; }

/* The signed first step. */
static COLD_ONCE double first_guess(const Task *q, Lane *l, Scratch *s) {
    double span = fabs(l->end - l->t), d0 = measure(q, s, s->y, s->y, s->y), d1 = measure(q, s, s->k, s->y, s->y);
    double trial = d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / (d1 < 1e-300 ? 1e-300 : d1);
    trial = fmin(number_or(trial, 1e-6), span);
    const double one = 1;
    combine(s->y1, s->y, s->k, &one, q->direction * trial, 1);
    evaluate(l, stage_time(l->t, q->direction * trial, 1.0, l->low, l->high), s->y1, s->error, s);
    for (int n = 0; n < NP; n++) s->error[n] -= s->k[n];
    double d2 = measure(q, s, s->error, s->y, s->y) / (trial < 1e-300 ? 1e-300 : trial);
    double steepest = d1 > d2 || d1 != d1 ? d1 : d2;
    double guess = steepest <= 1e-15 ? fmax(trial * 1e-3, 1e-6)
                                     : pow(0.01 / (steepest < 1e-300 ? 1e-300 : steepest), q->method.exponent);
    double h = fmin(fmin(100 * trial, number_or(guess, 1e-6)), span);
    return q->direction * (span > 0 ? h : 1.0);
}

/* Whether h times the dominant eigenvalue lies on the border of stability, seen in the last two stages. */
static COLD_ONCE int looks_stiff(const Task *q, const Scratch *s, double h) {
    int last = q->method.stages - 1;
    if (!q->method.fsal || q->method.stages < 6) return 0;
    double slopes = 0, states = 0;
    const REAL *k = s->k + (int64_t)last * NP, *u = s->u + (int64_t)last * NP;
    for (int n = 0; n < N; n++) {
        double dk = h * (k[n] - k[n - NP]), du = u[n] - u[n - NP];
        slopes += dk * dk, states += du * du;
    }
    return sqrt(slopes) > 3.25 * fmax(sqrt(states), 1e-300);
}

static COLD_ONCE void fail(const Task *q, Lane *l, int64_t lane, int status, const REAL *culprit) {
    l->status = status;
    if (culprit && q->culprit) memcpy(q->culprit + lane * N, culprit, N * sizeof(REAL));
}

/* The stages [from, to) of a step. */
static ONCE void run_stages(const Task *q, Lane *l, Scratch *s, double t, double h, int from, int to) {
    for (int i = from; i < to; i++) {
        REAL *u = s->u + (int64_t)i * NP;
        combine(u, s->y, s->k, q->method.a + (int64_t)i * q->method.total, h, i);
        evaluate(l, stage_time(t, h, q->method.c[i], l->low, l->high), u, s->k + (int64_t)i * NP, s);
    }
}

/* The state inside of a step as a polynomial in theta: coefficient d [NP] is sum_s dense_sd h k_s, in double. */
static HOT void dense_poly(const Method *m, double *poly, const REAL *k, double h, int width) {
    for (int d = 0; d < m->degree; d++)
        for (int v = 0; v < NP; v += VL) {
            wide sum = {0};
            for (int i = 0; i < width; i++)
                sum += m->dense[d * m->total + i] * __builtin_convertvector(*(const vec *)(k + (int64_t)i * NP + v), wide);
            *(wide *)(poly + (int64_t)d * NP + v) = h * sum;
        }
}

static void read_inside(const Method *m, const double *poly, const REAL *y, double theta, REAL *out) {
    for (int v = 0; v < NP; v += VL) {
        wide sum = *(const wide *)(poly + (int64_t)(m->degree - 1) * NP + v);
        for (int d = m->degree - 2; d >= 0; d--) sum = sum * theta + *(const wide *)(poly + (int64_t)d * NP + v);
        wide y_there = __builtin_convertvector(*(const vec *)(y + v), wide);
        *(vec *)(out + v) = __builtin_convertvector(y_there + theta * sum, vec);
    }
}

/* The asked times up to `end`, from `next` on; `inner` says whether one lies strictly inside. */
static HOT int64_t outputs_until(const Task *q, const Lane *l, double end, int *inner) {
    int64_t stop = l->next;
    *inner = 0;
    while (stop < q->times && q->direction * (asked(q, l, stop) - end) <= 0) {
        double time = asked(q, l, stop++);
        *inner |= q->direction * (time - l->t) > 0 && time != end;
    }
    return stop;
}

static HOT void write_outputs(const Task *q, const Lane *l, int64_t lane, Scratch *s, double h, int64_t stop, int inner,
                          int width) {
    if (inner) dense_poly(&q->method, s->poly, s->k, h, width);
    for (int64_t i = l->next; i < stop; i++) {
        double theta = theta_of(asked(q, l, i), l->t, h);
        const REAL *row = theta == 1 ? s->y1 : s->y;
        if (theta != 1 && theta != 0) read_inside(&q->method, s->poly, s->y, theta, s->error), row = s->error;
        memcpy(q->y + (i * q->lanes + lane) * N, row, N * sizeof(REAL));
    }
}

/* Room for `more` numbers of a growing array: an eighth more than is there, so that little is kept in vain. */
static COLD_ONCE int grow(void **array, int64_t room, size_t bytes) {
    void *bigger = realloc(*array, room * bytes);
    if (!bigger) return 0;
    *array = bigger;
    return 1;
}

/* Keep the state at the start of a step; where there are too many, none: they are rebuilt from the first (revolve.c). */
static ONCE int keep_state(const Task *q, Tape *tape, const REAL *y) {
    if (q->most_states && tape->count >= q->most_states) {
        free(tape->y), tape->y = 0, tape->state_room = 0;
        return 1;
    }
    if (tape->count == tape->state_room) {
        int64_t room = tape->room;
        if (q->most_states && room > q->most_states) room = q->most_states;
        if (!grow((void **)&tape->y, room, N * sizeof(REAL))) return 0;
        tape->state_room = room;
    }
    memcpy(tape->y + tape->count * N, y, N * sizeof(REAL));
    return 1;
}

/* Whether the stages of accepted steps are kept. Lanes abreast evaluate them again for less than it takes to read them. */
static inline int keeps_stages(const Task *q) {
#ifdef ABREAST
    if (SIDE_BY_SIDE) return q->keep_stages && q->keep_slopes;
#endif
    return q->keep_stages;
}

static ONCE int keep_step(const Task *q, Lane *l, Scratch *s, Step step) {
    Tape *tape = &l->tape;
    const Method *m = &q->method;
    if (tape->count == tape->room) {
        int64_t room = tape->room + (tape->room < 64 ? 8 : tape->room / 8);
        if (!grow((void **)&tape->step, room, sizeof(Step))) return 0;
        if (q->keep_choices && !grow((void **)&tape->choice, room, sizeof(Choice))) return 0;
        tape->room = room;
    }
    if (q->keep_states && !keep_state(q, tape, s->y)) return 0;
    int64_t rows = (int64_t)m->total * NP;
    if (keeps_stages(q) && tape->stage_room >= 0) {
        if (tape->count == tape->stage_room) {
            int64_t room = 2 * tape->stage_room + 32;
            if (room * m->total * COUNTED * (int64_t)sizeof(REAL) * (1 + !!q->keep_slopes) > q->stage_bytes) {
                free(tape->u), free(tape->k);
                tape->u = tape->k = 0, tape->stage_room = -1; /* too much: the backward pass will replay */
            } else {
                if (!grow((void **)&tape->u, room, rows * sizeof(REAL))) return 0;
                if (q->keep_slopes && !grow((void **)&tape->k, room, rows * sizeof(REAL))) return 0;
                tape->stage_room = room;
            }
        }
        if (tape->stage_room > 0) {
            int64_t used = (step.dense ? m->total : m->stages) * (int64_t)NP;
            memcpy(tape->u + tape->count * rows, s->u, used * sizeof(REAL));
            if (q->keep_slopes) memcpy(tape->k + tape->count * rows, s->k, used * sizeof(REAL));
        }
    }
    tape->step[tape->count++] = step;
    return 1;
}

static void pass_stops(const Task *q, Lane *l, double end) {
    double stop = stop_at(q, l, l->pointer);
    if (end != stop) return;
    while (l->pointer < q->stops - 1 && stop_at(q, l, l->pointer) == stop) l->pointer++;
}

static ONCE int accept(const Task *q, Lane *l, int64_t lane, Scratch *s, double h, double end) {
    const Method *m = &q->method;
    int inner, width = m->stages;
    int64_t stop = outputs_until(q, l, end, &inner);
    int dense = inner && m->total > m->stages;
    if (dense) run_stages(q, l, s, l->t, h, m->stages, m->total), width = m->total;
    if (s->pulse->stop) return 1;
    write_outputs(q, l, lane, s, h, stop, inner, width);
    int at_end = stop > 0 && asked(q, l, stop - 1) == end && (q->moving_stops || stop == q->times);
    Step step = {l->t, h, (int32_t)l->next, (int32_t)(stop - l->next), at_end ? (int32_t)(stop - 1) : -1, dense};
    if (!keep_step(q, l, s, step)) return 0;
    if (q->columns) carry_step(q, l, lane, s, &step, width);
    if (s->pulse->stop) return l->tape.count--, 1; /* its outputs are left blank */
    l->next = stop;
    pass_stops(q, l, end);
    l->t = end;
    memcpy(s->y, s->y1, NP * sizeof(REAL));
    memcpy(s->u, s->y, NP * sizeof(REAL));
    l->fresh = reuses(q);
    if (l->fresh) memcpy(s->k, s->k + (int64_t)(m->stages - 1) * NP, NP * sizeof(REAL));
    l->accepted++;
    return 1;
}

/* A rejected attempt: count it, and end the lane where the step cannot shrink. */
static COLD_ONCE void reject(const Task *q, Lane *l, int64_t lane, Scratch *s, double h, int finite) {
    l->rejected++;
    double resolution = fmax(16 * 2.220446049250313e-16 * fmax(fabs(l->t), fabs(l->t + h)), 1e-300);
    if (fabs(h) > resolution && !q->fixed) return;
    double largest = 0, first = 0;
    int infinite = 0;
    for (int n = 0; n < N; n++) {
        largest = fmax(largest, fabs((double)s->y[n]));
        first = fmax(first, fabs((double)q->y0[lane * N + n]));
        infinite |= isinf(s->y1[n]) != 0;
    }
    if (largest > 1e8 * (1 + first) || (infinite && q->fixed)) {
        fail(q, l, lane, BLOW_UP, 0);
    } else if (!finite) {
        const REAL *k = s->k + (int64_t)(q->method.stages - 1) * NP;
        for (int n = 0; n < N; n++) s->error[n] = isfinite(k[n]) ? s->y1[n] : k[n];
        fail(q, l, lane, NOT_A_NUMBER, s->error);
    } else {
        fail(q, l, lane, STEP_TOO_SMALL, 0);
    }
}

static double clamped(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

/* Keep what the accepted step's proposal depends on. */
static ONCE void note_choice(const Task *q, const Lane *l, double ratio, double factor, int cut, int keep) {
    Choice *c = l->tape.choice + l->tape.count - 1;
    double free = q->safety * pow(ratio < 1e-12 ? 1e-12 : ratio, q->power0);
    if (q->power1 != 0) free *= pow(l->ratio[0] < 1e-12 ? 1e-12 : l->ratio[0], q->power1);
    if (q->power2 != 0) free *= pow(l->ratio[1] < 1e-12 ? 1e-12 : l->ratio[1], q->power2);
    c->ratio = ratio, c->before[0] = l->ratio[0], c->before[1] = l->ratio[1], c->factor = factor;
    c->cut = cut, c->keep = keep, c->free = free == factor;
    c->limited = fabs(l->h) < q->min_step || fabs(l->h) > q->max_step;
}

static HOT void propose(const Task *q, Lane *l, double ratio, int finite, int good, double h, int cut) {
    l->tried = h;
    if (q->fixed) return;
    double floor = 1e-12, now = finite ? ratio : 1e4;
    double factor = q->safety * pow(now < floor ? floor : now, q->power0);
    if (q->power1 != 0) factor *= pow(l->ratio[0] < floor ? floor : l->ratio[0], q->power1);
    if (q->power2 != 0) factor *= pow(l->ratio[1] < floor ? floor : l->ratio[1], q->power2);
    factor = finite ? clamped(factor, q->shrink, q->grow) : 0.1;
    if ((!good || l->after_rejection) && factor > 1) factor = 1;
    double proposal = factor * h;
    int keep = good && cut && fabs(proposal) < fabs(l->h);
    if (q->keep_choices && good) note_choice(q, l, now, factor, cut, keep);
    if (!keep) l->h = proposal;
    if (q->remembers && good) l->ratio[2] = l->ratio[1], l->ratio[1] = l->ratio[0], l->ratio[0] = now;
    l->after_rejection = !good;
}

static HOT double error_ratio(const Task *q, Scratch *s, double h) {
    const Method *m = &q->method;
    if (q->fixed || !m->has_error) return all_finite(s->y1) ? 0.0 : NAN;
    combine(s->error, s->zero, s->k, m->error, h, m->stages);
    double ratio = measure(q, s, s->error, s->y, s->y1);
    if (!m->has_error3) return ratio;
    combine(s->error, s->zero, s->k, m->error3, h, m->stages);
    double other = measure(q, s, s->error, s->y, s->y1);
    return ratio * ratio / sqrt(ratio * ratio + 0.01 * other * other);
}

/* The next attempt: its length and end; returns whether the end of the interval, or a stop before it, cut it. */
static HOT int next_attempt(const Task *q, const Lane *l, double *h, double *end) {
    double stop = stop_at(q, l, l->pointer), length = q->direction * clamped(fabs(l->h), q->min_step, q->max_step);
    int cut = q->direction * (l->t + 1.01 * length - stop) >= 0;
    *end = q->fixed || cut ? stop : l->t + length, *h = *end - l->t;
    return cut;
}

/* Accept the attempt whose stages lie in s, or reject it, and propose the next; 0 when memory ran out. */
static HOT int settle(const Task *q, Lane *l, int64_t lane, Scratch *s, double ratio, double h, double end, int cut) {
    int finite = isfinite(ratio);
    int good = finite && (ratio <= 1 || (q->min_step > 0 && fabs(h) <= q->min_step));
    if (good) {
        int last = end == l->end;
        if (l->accepted % 1000 == 998) l->stiff |= looks_stiff(q, s, h);
        if (!accept(q, l, lane, s, h, end)) return 0;
        if (s->pulse->stop) return 1;
        if (last) l->status = SUCCESS;
    } else {
        reject(q, l, lane, s, h, finite);
    }
    propose(q, l, ratio, finite, good, h, cut);
    return 1;
}

/* One attempt; 0 when memory ran out. */
static int attempt(const Task *q, Lane *l, int64_t lane, Scratch *s) {
    const Method *m = &q->method;
    double h, end;
    int cut = next_attempt(q, l, &h, &end);
    enter_step(q, l, l->t, end);
    if (!l->fresh) evaluate(l, stage_time(l->t, h, m->c[0], l->low, l->high), s->y, s->k, s), l->fresh = 1;
    run_stages(q, l, s, l->t, h, 1, m->stages);
    if (m->fsal) {
        memcpy(s->y1, s->u + (int64_t)(m->stages - 1) * NP, NP * sizeof(REAL));
    } else {
        combine(s->y1, s->y, s->k, m->b, h, m->stages);
    }
    if (s->pulse->stop) return 1;
    double ratio = error_ratio(q, s, h);
    if (q->controlled) {
        ratio = carry_ratio(q, l, lane, s, h, ratio);
        if (s->pulse->stop) return 1;
    }
    return settle(q, l, lane, s, ratio, h, end, cut);
}

/* Not-a-number for the outputs that were not reached. */
static COLD_ONCE void leave_blank(const Task *q, int64_t lane, int64_t from) {
    for (int64_t i = from; i < q->times; i++) {
        int64_t row = i * q->lanes + lane, size = N * q->columns;
        for (int n = 0; n < N; n++) q->y[row * N + n] = (REAL)NAN;
        if (!q->sensitivity) continue;
        for (int64_t j = 0; j < size; j++) q->sensitivity[row * size + j] = (REAL)NAN;
    }
}

/* A lane at its first state, with the first slope and the first step's length. */
static ONCE void begin_lane(const Task *q, Lane *l, int64_t lane, Scratch *s) {
    *l = lane_of(q, lane);
    l->stop = q->stop + lane * q->stop_lane, l->status = -1, l->fresh = 1;
    l->t = asked(q, l, 0), l->end = asked(q, l, q->times - 1), l->next = 1;
    l->ratio[0] = l->ratio[1] = l->ratio[2] = 1.0;
    bounds(l->t, l->end, l);
    l->tape = s->tape, l->tape.count = 0;
    if (l->tape.stage_room < 0) l->tape.stage_room = 0;
    take_row(s->y, q->y0 + lane * N), take_row(s->u, s->y);
    for (int n = 0; n < NP; n++) s->atol[n] = n < N ? q->atol[lane * q->tolerance_stride + n] : 1;
    take_row(s->rtol, q->rtol + lane * q->tolerance_stride);
    memcpy(q->y + lane * N, s->y, N * sizeof(REAL));
    if (l->t == l->end) l->pointer = q->stops - 1;
    enter_step(q, l, l->t, l->end);
    evaluate(l, stage_time(l->t, 0, 0, l->low, l->high), s->y, s->k, s);
    if (q->columns) carry_begin(q, l, lane, s);
    if (s->pulse->stop) return;
    if (!all_finite(s->k)) fail(q, l, lane, NOT_A_NUMBER, s->k);
    else if (q->fixed) l->h = q->direction * INFINITY;
    else l->h = q->first_step > 0 ? q->direction * q->first_step : first_guess(q, l, s);
}

/* Whether a lane is to take another step; one that may not gets its status. */
static HOT int goes_on(const Task *q, Lane *l, const Scratch *s) {
    if (l->status >= 0) return 0;
    if (s->pulse->stop) l->status = s->pulse->stop;
    else if (l->accepted + l->rejected >= q->max_steps) l->status = MAX_STEPS;
    else return 1;
    l->stiff |= looks_stiff(q, s, l->tried);
    return 0;
}

/* What is known of a lane at its end, and its tape, where it belongs; 0 when memory ran out. */
static ONCE int end_lane(const Task *q, Lane *l, int64_t lane, Scratch *s, struct Chunk **chunks) {
    q->report[lane] = (Report){l->accepted, l->rejected, l->evaluations, l->pushed, l->t, l->status, l->stiff};
    if (q->tangent) memcpy(q->tangent + lane * N * q->columns, s->ds, N * q->columns * sizeof(REAL));
    if (l->next < q->times) leave_blank(q, lane, l->next);
    memcpy(q->final + lane * N, s->y, N * sizeof(REAL));
    if (q->lanes == 1) {
        q->tape[lane] = l->tape, s->tape = (Tape){0};
        return 1;
    }
    s->tape = l->tape;
    return stow_tape(chunks, &q->method, &l->tape, q->tape + lane);
}

/* March one lane to its end or its failure; 0 when memory ran out. */
static ONCE int march_lane(const Task *q, int64_t lane, Scratch *s, struct Chunk **chunks) {
    Lane lane_state, *l = &lane_state;
    begin_lane(q, l, lane, s);
    int fine = 1;
    while (fine && goes_on(q, l, s)) fine = attempt(q, l, lane, s);
    return end_lane(q, l, lane, s, chunks) && fine;
}
