/* The runtime, part 3a: the share of the step sizes in the gradient.
 *
 * Accepted lengths follow the recursion h_{n+1} = h_n safety r_n^-p ..., t_{n+1} = t_n + h_n; cotangents run back through
 * it beside those of the states. A march with rejected attempts is followed by torch instead.
 */

/* Cotangents at the end of a step: of its time, of the length proposed after it, of the error ratios remembered. */
typedef struct {
    double t, h, ratio[2];
} Follow;

/* Cotangent of a root mean square [part] put on the scaled errors' numerator and denominator. */
static void spread_size(const Task *q, Scratch *s, const REAL *error, const REAL *y, const REAL *y1, double bar,
                        double size, REAL *error_bar, REAL *direct) {
    for (int n = 0; n < NP; n++) {
        REAL a = fabs(y[n]), b = fabs(y1[n]), scale = (a > b ? a : b) * s->rtol[n] + s->atol[n];
        s->square[n] = (error[n] / scale) * (error[n] / scale);
    }
    int64_t n = 0, count = N;
    for (int64_t part = 0, first = 0; part < q->parts; first += q->sizes[part++]) {
        double mean = 0;
        for (int64_t i = first; i < first + q->sizes[part]; i++) mean += s->square[i];
        if (sqrt(mean / q->sizes[part]) >= size * (1 - 1e-6)) n = first, count = q->sizes[part];
    }
    for (int64_t i = n; i < n + count; i++) {
        double a = fabs(y[i]), b = fabs(y1[i]), scale = fmax(a, b) * s->rtol[i] + s->atol[i];
        double slope = bar * error[i] / (scale * scale * count * size), scale_bar = -slope * error[i] / scale * s->rtol[i];
        error_bar[i] += (REAL)slope;
        if (a > b) direct[i] += (REAL)(y[i] < 0 ? -scale_bar : scale_bar);
        else direct[NP + i] += (REAL)(y1[i] < 0 ? -scale_bar : scale_bar);
    }
}

/* Cotangent `bar` of the error ratio of a step, put on its stages (`seed`) and its first and last state (`direct`). */
static ONCE void spread_ratio(const Task *q, Scratch *s, const REAL *k, const REAL *y, double h, double bar, REAL *seed,
                              REAL *direct) {
    const Method *m = &q->method;
    double sizes[2] = {1, 1}, bars[2] = {bar, 0};
    const double *rows[] = {m->error, m->error3};
    int count = 1 + m->has_error3;
    combine(s->y1, y, k, m->b, h, m->stages);
    for (int i = 0; i < count; i++) {
        combine(s->error, s->zero, k, rows[i], h, m->stages);
        sizes[i] = measure(q, s, s->error, y, s->y1);
    }
    if (m->has_error3) {
        double a = sizes[0], b = sizes[1], root = sqrt(a * a + 0.01 * b * b);
        bars[0] = bar * (2 * a / root - a * a * a / (root * root * root));
        bars[1] = -bar * 0.01 * a * a * b / (root * root * root);
    }
    for (int i = 0; i < count; i++) {
        combine(s->error, s->zero, k, rows[i], h, m->stages);
        memset(s->cotangent, 0, NP * sizeof(REAL));
        spread_size(q, s, s->error, y, s->y1, bars[i], sizes[i], s->cotangent, direct);
        for (int j = 0; j < m->stages; j++)
            for (int n = 0; n < NP; n++) seed[(int64_t)j * NP + n] += (REAL)rows[i][j] * s->cotangent[n];
    }
}

/* Before a step's stages: what the proposal after it puts on its length, its error and the ratios before it. */
static double begin_follow(const Task *q, const Choice *c, double h, Follow *f, double *ratio_bar, double *kept_bar) {
    double floor = 1e-12, h_bar = 0, earlier[2] = {f->ratio[1], 0};
    *ratio_bar = f->ratio[0], *kept_bar = 0;
    if (c->keep) *kept_bar = f->h;
    else h_bar = f->h * c->factor;
    if (!c->keep && c->free) {
        double bar = f->h * h * c->factor;
        if (c->ratio > floor) *ratio_bar += bar * q->power0 / c->ratio;
        if (c->before[0] > floor) earlier[0] += bar * q->power1 / c->before[0];
        if (c->before[1] > floor) earlier[1] += bar * q->power2 / c->before[1];
    }
    f->ratio[0] = earlier[0], f->ratio[1] = earlier[1];
    return h_bar;
}

/* After them: from the cotangents of length and start to those of the step before; a stop at the end moves with it. */
static void end_follow(const Task *q, const Lane *l, int64_t lane, const Step *step, const Choice *c, Follow *f, double h_bar,
                       double t_bar, double kept_bar) {
    double stop_bar = 0;
    int at_end = step->end >= 0;
    if (c->cut) {
        stop_bar = h_bar + f->t, t_bar -= h_bar;
    } else {
        h_bar += f->t, t_bar += f->t;
        if (!c->limited) kept_bar += h_bar;
    }
    if (at_end && c->cut) q->tbar[(q->times - 1) * q->lanes + lane] += stop_bar;
    f->h = kept_bar, f->t = t_bar;
}
