/* The runtime, part 4: what Python calls; lanes shared out among threads, each lane the same alone and in any batch. */

typedef struct {
    Task *task;
    int64_t next;
    double started;
    int backward, failed;
    Chunk *chunks;
} Share;

/* One lane after the other; 0 when memory ran out. */
static int work_alone(Share *share, Chunk **chunks) {
    Task *q = share->task;
    Scratch scratch = {0};
    int fine = take_scratch(&scratch, &q->method, share->backward ? 0 : q->columns, share->backward);
    int64_t lane, few = q->lanes > 64 ? 4 : 1;
    while (fine && (lane = __atomic_fetch_add(&share->next, few, __ATOMIC_RELAXED)) < q->lanes)
        for (int64_t stop = lane + few < q->lanes ? lane + few : q->lanes; fine && lane < stop; lane++) {
#if !defined(PART) || PART == 1
            if (!share->backward) fine = march_lane(q, lane, &scratch, chunks, share->started);
#endif
#if !defined(PART) || PART == 2
            if (share->backward) fine = pull_lane(q, lane, &scratch);
#endif
        }
    release_scratch(&scratch);
    free_tape(&scratch.tape);
    return fine;
}

static int work_together(Share *share, Chunk **chunks) {
#ifdef ABREAST
#if !defined(PART) || PART == 1
    if (!share->backward) return march_abreast(share->task, &share->next, chunks, share->started);
#endif
#if !defined(PART) || PART == 2
    if (share->backward && pulls_abreast(share->task)) return pull_abreast(share->task, &share->next);
#endif
#endif
    return work_alone(share, chunks);
}

static void *work_on(void *shared) {
    Share *share = shared;
    Chunk *chunks = 0;
    if (!work_together(share, &chunks)) share->failed = 1;
    if (chunks) {
        Chunk *last = chunks;
        while (last->next) last = last->next;
        pthread_mutex_lock(&pool_lock);
        last->next = share->chunks, share->chunks = chunks;
        pthread_mutex_unlock(&pool_lock);
    }
    return 0;
}

static int share_out(Task *q, int backward) {
    Share share = {q, 0, clock_seconds(), backward, 0, 0};
    pthread_t others[64];
    int started = 0, wanted = q->threads < q->lanes ? q->threads : (int)q->lanes;
    while (started < wanted - 1 && started < 64 && !pthread_create(others + started, 0, work_on, &share)) started++;
    work_on(&share);
    for (int i = 0; i < started; i++) pthread_join(others[i], 0);
    if (!backward) q->tape[q->lanes].step = (Step *)share.chunks; /* behind the lanes' tapes, what they lie in */
    return share.failed;
}

#if !defined(PART) || PART == 1
/* Bytes held by the tape: of checkpoints, and of stages kept so that nothing is evaluated again. */
static void count_bytes(Task *q) {
    q->checkpoint_bytes = q->kept_bytes = 0;
    for (int64_t i = 0; i < q->lanes; i++) {
        const Tape *tape = q->tape + i;
        q->checkpoint_bytes += tape->room * (int64_t)sizeof(Step) + tape->state_room * N * (int64_t)sizeof(REAL);
        if (tape->stage_room > 0)
            q->kept_bytes += tape->stage_room * q->method.total * NP * (int64_t)sizeof(REAL) * (tape->k ? 2 : 1);
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

#endif
#if !defined(PART) || PART == 2
/* Cotangents of y0 [L][N], parameters [L][P] (added) and times [T][L] (added) for q->g; 1 when memory ran out. */
int physid_pull(Task *q) { return share_out(q, 1); }

/* Solve, q->total = sum weight (y - target)^2, and its cotangents; y becomes the sum's derivative by it, and the tape is
 * given back. 1 as above; 2 when a lane failed, and then there are no cotangents. */
int physid_march(Task *q);
void physid_release(Tape *tape, int64_t lanes);
int physid_misfit(Task *q) {
    if (physid_march(q)) return 1;
    for (int64_t i = 0; i < q->lanes; i++)
        if (q->report[i].status != SUCCESS) return 2;
    const int64_t count = q->times * q->lanes * N;
    REAL *restrict y = q->y;
    const REAL *restrict target = q->target, *restrict weight = q->weight;
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; i++) {
        REAL apart = y[i] - target[i], weighted = weight ? weight[i] * apart : apart;
        total += (double)weighted * apart, y[i] = 2 * weighted;
    }
    q->total = total;
    int failed = physid_pull(q);
    physid_release(q->tape, q->lanes), q->tape = 0;
    return failed;
}

#endif
#if !defined(PART) || PART == 1
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

void physid_release(Tape *tape, int64_t lanes) {
    if (lanes == 1) free_tape(tape);
    give_chunks((Chunk *)tape[lanes].step);
    free(tape);
}

int64_t physid_sizes(int which) {
    const int64_t sizes[] = {sizeof(Task), sizeof(REAL), N, P, sizeof(Report)};
    return sizes[which];
}
#endif
