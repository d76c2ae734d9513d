/* The runtime, part 3b: states that were not kept, rebuilt from the first one on the accepted grid.
 *
 * The binomial schedule: s states reverse l steps with t(l, s) = r l - beta(s + 1, r - 1) steps taken forward again,
 * beta(s, r) = (s + r)! / (s! r!), r the least with beta(s, r) >= l. No other schedule takes fewer.
 *
 * Source: Griewank and Walther (2000), Algorithm 799: revolve.
 */

/* States in memory, a stack: `y` [slots][NP] at the starts of the steps `at` [slots]. */
typedef struct {
    int64_t slots, held, *at;
    REAL *y;
} Shelf;

static int64_t binomial_reach(int64_t s, int64_t r, int64_t enough) {
    if (r < 0) return 0;
    double found = 1;
    for (int64_t i = 1; i <= (s < r ? s : r); i++) {
        found = found * (double)((s < r ? r : s) + i) / (double)i;
        if (found > 1e3 * (double)enough) return 1000 * enough; /* more than is asked for, whatever it is */
    }
    return (int64_t)(found + 0.5);
}

/* How many of `steps` steps to take before the next state is kept. */
static int64_t binomial_split(int64_t steps, int64_t slots) {
    int64_t r = 0;
    while (binomial_reach(slots, r, steps) < steps) r++;
    int64_t far = binomial_reach(slots, r - 1, steps), rest = steps - binomial_reach(slots - 1, r - 1, steps);
    return far < rest ? far : rest;
}

static ONCE int take_shelf(Shelf *shelf, const Task *q, const Tape *tape, int64_t lane) {
    *shelf = (Shelf){0};
    if (!q->keep_states || tape->y || !tape->count) return 1;
    shelf->slots = q->most_states < tape->count ? q->most_states : tape->count;
    shelf->y = calloc(shelf->slots * NP, sizeof(REAL)), shelf->at = calloc(shelf->slots, sizeof(int64_t));
    if (!shelf->y || !shelf->at) return 0;
    take_row(shelf->y, q->y0 + lane * N), shelf->held = 1;
    return 1;
}

static ONCE void release_shelf(Shelf *shelf) { free(shelf->y), free(shelf->at); }

/* Take the steps [first, last) from s->y, as the march took them. */
static ONCE void advance(const Task *q, Lane *l, Scratch *s, const Tape *tape, int64_t first, int64_t last) {
    const Method *m = &q->method;
    for (int64_t i = first; i < last && !s->pulse->stop; i++) {
        const Step *step = tape->step + i;
        enter_step(q, l, step->t, step->t + step->h);
        run_stages(q, l, s, step->t, step->h, i > first && reuses(q), m->stages);
        if (m->fsal) {
            memcpy(s->y, s->u + (int64_t)(m->stages - 1) * NP, NP * sizeof(REAL));
            memcpy(s->k, s->k + (int64_t)(m->stages - 1) * NP, NP * sizeof(REAL));
        } else {
            combine(s->y1, s->y, s->k, m->b, step->h, m->stages);
            memcpy(s->y, s->y1, NP * sizeof(REAL));
        }
    }
}

/* The state at the start of step w into s->y; w falls from one call to the next. */
static ONCE void rebuild(const Task *q, Lane *l, Scratch *s, Shelf *shelf, const Tape *tape, int64_t w) {
    while (shelf->at[shelf->held - 1] > w) shelf->held--;
    int64_t at = shelf->at[shelf->held - 1];
    memcpy(s->y, shelf->y + (shelf->held - 1) * NP, NP * sizeof(REAL));
    while (at < w) {
        int64_t free = shelf->slots - shelf->held + 1, next = free == 1 ? w : at + binomial_split(w + 1 - at, free);
        advance(q, l, s, tape, at, next);
        at = next;
        if (free == 1) return;
        memcpy(shelf->y + shelf->held * NP, s->y, NP * sizeof(REAL)), shelf->at[shelf->held++] = at;
    }
}
