/* The runtime, part 4: what Python calls; lanes shared out among threads, each lane the same alone and in any batch. */

typedef struct {
    Task *task;
    int64_t next;
    int backward, failed, finished;
    Chunk *chunks;
    pthread_mutex_t lock;
    pthread_cond_t done;
} Share;

/* One lane after the other; 0 when memory ran out. */
static int work_alone(Share *share, Chunk **chunks, Pulse *pulse) {
    Task *q = share->task;
    Scratch scratch = {.pulse = pulse};
    int fine = take_scratch(&scratch, &q->method, share->backward ? 0 : q->columns, share->backward);
    int64_t lane, few = q->lanes > 64 ? 4 : 1;
    while (fine && (lane = __atomic_fetch_add(&share->next, few, __ATOMIC_RELAXED)) < q->lanes)
        for (int64_t stop = lane + few < q->lanes ? lane + few : q->lanes; fine && lane < stop; lane++) {
            if (share->backward) fine = pull_lane(q, lane, &scratch);
            else fine = march_lane(q, lane, &scratch, chunks);
        }
    release_scratch(&scratch);
    free_tape(&scratch.tape);
    return fine;
}

static int work_together(Share *share, Chunk **chunks, Pulse *pulse) {
#ifdef ABREAST
    if (SIDE_BY_SIDE && !share->backward) return march_abreast(share->task, &share->next, chunks, pulse);
    if (SIDE_BY_SIDE && pulls_abreast(share->task)) return pull_abreast(share->task, &share->next, pulse);
#endif
    return work_alone(share, chunks, pulse);
}

static void work_on(Share *share, int hears) {
    Chunk *chunks = 0;
    Pulse pulse;
    begin_pulse(&pulse, share->task, share->backward, hears);
    if (!work_together(share, &chunks, &pulse)) share->failed = 1;
    if (chunks) {
        Chunk *last = chunks;
        while (last->next) last = last->next;
        pthread_mutex_lock(&pool_lock);
        last->next = share->chunks, share->chunks = chunks;
        pthread_mutex_unlock(&pool_lock);
    }
}

static void *help(void *shared) {
    Share *share = shared;
    work_on(share, 0);
    pthread_mutex_lock(&share->lock);
    share->finished++;
    pthread_cond_signal(&share->done);
    pthread_mutex_unlock(&share->lock);
    return 0;
}

/* Wait for the other threads, and hear meanwhile. */
static ONCE void wait_for(Share *share, int others) {
    pthread_mutex_lock(&share->lock);
    while (share->finished < others) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)(1e9 * HEAR);
        if (until.tv_nsec >= 1000000000) until.tv_nsec -= 1000000000, until.tv_sec++;
        if (!pthread_cond_timedwait(&share->done, &share->lock, &until)) continue;
        pthread_mutex_unlock(&share->lock);
        hear(share->task);
        pthread_mutex_lock(&share->lock);
    }
    pthread_mutex_unlock(&share->lock);
}

static int share_out(Task *q, int backward) {
    Share share = {.task = q, .backward = backward, .lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    pthread_t others[64];
    int started = 0, wanted = q->threads < q->lanes ? q->threads : (int)q->lanes;
    while (started < wanted - 1 && started < 64 && !pthread_create(others + started, 0, help, &share)) started++;
    work_on(&share, 1);
    if (started) wait_for(&share, started);
    for (int i = 0; i < started; i++) pthread_join(others[i], 0);
    if (!backward) q->tape[q->lanes].step = (Step *)share.chunks; /* behind the lanes' tapes, what they lie in */
    return share.failed;
}

/* Bytes held by the tape: of checkpoints, and of stages kept so that nothing is evaluated again. */
static void count_bytes(Task *q) {
    q->checkpoint_bytes = q->kept_bytes = 0;
    for (int64_t i = 0; i < q->lanes; i++) {
        const Tape *tape = q->tape + i;
        q->checkpoint_bytes += tape->room * (int64_t)sizeof(Step) + tape->state_room * N * (int64_t)sizeof(REAL);
        if (tape->stage_room > 0)
            q->kept_bytes += tape->stage_room * q->method.total * COUNTED * (int64_t)sizeof(REAL) * (tape->k ? 2 : 1);
    }
}

/* Solve every lane; 1 when memory ran out. */
int physid_march(Task *q) {
    q->tape = calloc(q->lanes + 1, sizeof(Tape));
    if (!q->tape) return 1;
    int failed = share_out(q, 0);
    count_bytes(q);
    return failed;
}

/* Cotangents of y0 [L][N], parameters [L][P] (added) and times [T][L] (added) for q->g; 1 when memory ran out. */
int physid_pull(Task *q) { return share_out(q, 1); }

static void release_tapes(Tape *tape, int64_t lanes) {
    if (lanes == 1) free_tape(tape);
    give_chunks((Chunk *)tape[lanes].step);
    free(tape);
}

typedef REAL Four __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef double Sums __attribute__((vector_size(4 * sizeof(double))));

/* Solve, q->total = sum weight (y - target)^2, and its cotangents; y becomes the sum's derivative by it, and the tape is
 * given back. 1 as above; 2 when a lane failed, and then there are no cotangents. */
int physid_misfit(Task *q) {
    if (physid_march(q)) return 1;
    for (int64_t i = 0; i < q->lanes; i++)
        if (q->report[i].status != SUCCESS) return 2;
    const int64_t count = q->times * q->lanes * N, whole = count / 4 * 4;
    REAL *y = q->y;
    const REAL *target = q->target, *weight = q->weight;
    Sums sums = {0}; /* in one order, however this is compiled */
    for (int64_t i = 0; i < whole; i += 4) {
        Four apart = *(Four *)(y + i) - *(const Four *)(target + i), weighted = apart;
        if (weight) weighted *= *(const Four *)(weight + i);
        sums += __builtin_convertvector(weighted, Sums) * __builtin_convertvector(apart, Sums);
        *(Four *)(y + i) = 2 * weighted;
    }
    for (int64_t i = whole; i < count; i++) {
        REAL apart = y[i] - target[i], weighted = weight ? weight[i] * apart : apart;
        sums[i - whole] += (double)weighted * apart, y[i] = 2 * weighted;
    }
    q->total = 0;
    for (int j = 0; j < 4; j++) q->total += sums[j];
    int failed = physid_pull(q);
    release_tapes(q->tape, q->lanes), q->tape = 0;
    return failed;
}

/* The accepted steps of a lane: t and h [count], and the row [6] of the eager tape for each. */
void physid_steps(const Task *q, int64_t lane, double *rows) {
    const Tape *tape = q->tape + lane;
    for (int64_t i = 0; i < tape->count; i++) {
        const Step *step = tape->step + i;
        double row[] = {step->t, step->h, (double)lane, step->first, step->count, step->end};
        memcpy(rows + 6 * i, row, sizeof row);
    }
}

/* The accepted times of all lanes, one lane after the other, each with the time it reached at its end. */
void physid_grids(const Task *q, double *times) {
    for (int64_t lane = 0; lane < q->lanes; lane++) {
        const Tape *tape = q->tape + lane;
        for (int64_t i = 0; i < tape->count; i++) *times++ = tape->step[i].t;
        *times++ = q->report[lane].reached;
    }
}

/* The capsule that Python's task owns gives the tape back when the task goes. A method of Python's would hear signals as
 * it begins, and what their handlers raise in a destructor is lost. */
static void *(*inside)(void *, const char *);
void physid_capsules(void *(*get)(void *, const char *)) { inside = get; }
void physid_go(void *capsule) {
    Task *q = inside(capsule, 0);
    if (q->tape) release_tapes(q->tape, q->lanes), q->tape = 0;
}

/* Before the first solve with columns. */
void physid_use_tangents(Tangents *tangents) { field_jvp = tangents; }

int64_t physid_sizes(int which) {
    const int64_t sizes[] = {sizeof(Task), sizeof(REAL), N, P, sizeof(Report)};
    return sizes[which];
}
