/* The runtime, part 1b: signals, deadlines and stop flags, heard while C runs.
 *
 * A thread looks at the clock some hundred times per second, however long an evaluation takes: `left` counts evaluations
 * (of f, its products and its tangents) up to the next look. The thread that called from Python asks the interpreter every
 * HEAR seconds whether a signal has come, and takes what a handler raised along; the others see that by `halted`.
 */

#define HEAR 0.05
#define OFTEN 0.005

static ONCE void halt(Task *q, int32_t why) {
    int32_t none = 0;
    __atomic_compare_exchange_n(&q->halted, &none, why, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Let the interpreter run the handlers of signals that have come; what one raises is kept for who called. */
static ONCE void hear(Task *q) {
    const Ear *ear = q->ear;
    if (!ear) return;
    int32_t lock = ear->hold();
    if (ear->check()) ear->take(q->raised, q->raised + 1, q->raised + 2), halt(q, RAISED);
    ear->release(lock);
}

static ONCE void begin_pulse(Pulse *p, Task *q, int backward, int hears) {
    double now = clock_seconds();
    *p = (Pulse){.task = q, .looked = now, .heard = now, .left = 1, .every = 1, .backward = backward, .hears = hears};
}

/* A look at the clock and at everything that may stop the work. */
static ONCE void look_up(Pulse *p) {
    Task *q = p->task;
    double now = clock_seconds(), gone = now - p->looked;
    if (gone < 0.5 * OFTEN) p->every *= 2;
    else if (gone > 2 * OFTEN) p->every = 1 + (int64_t)((double)p->every * OFTEN / gone);
    p->left = p->every, p->looked = now;
    if (q->late > 0 && now >= q->late) halt(q, LATE);
    if (q->flag && __atomic_load_n(q->flag, __ATOMIC_RELAXED)) halt(q, FLAGGED);
    if (p->hears && now - p->heard >= HEAR) p->heard = now, hear(q);
    if (__atomic_load_n(&q->halted, __ATOMIC_RELAXED)) p->stop = HALTED;
    else if (!p->backward && q->until > 0 && now >= q->until) p->stop = TIME_LIMIT;
}

/* After an evaluation; whether to go on. */
static inline int goes(Pulse *p) {
    if (!--p->left) look_up(p);
    return !p->stop;
}
