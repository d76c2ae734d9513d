/* The runtime, part 1a: memory for the tapes of a batch, in chunks that are used again.
 *
 * A thread gathers a lane's steps in arrays that it keeps, and copies them behind one another into chunks when the lane
 * is done. Chunks that are given back wait in a pool, up to POOL bytes, so that a fit does not ask the system for the same
 * pages at every solve.
 */

#define CHUNK ((int64_t)1 << 20)
#define POOL ((int64_t)64 << 20)

typedef struct Chunk {
    struct Chunk *next;
    int64_t size, used;
} Chunk;

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static Chunk *pool;
static int64_t pooled;

static ONCE Chunk *take_chunk(int64_t size) {
    Chunk *found = 0;
    if (size <= CHUNK) {
        pthread_mutex_lock(&pool_lock);
        if ((found = pool)) pool = found->next, pooled -= CHUNK;
        pthread_mutex_unlock(&pool_lock);
        size = CHUNK;
    }
    if (!found && !(found = malloc(sizeof(Chunk) + size))) return 0;
    found->next = 0, found->size = size, found->used = 0;
    return found;
}

static ONCE void give_chunks(Chunk *chunk) {
    while (chunk) {
        Chunk *next = chunk->next;
        pthread_mutex_lock(&pool_lock);
        int keep = chunk->size == CHUNK && pooled < POOL;
        if (keep) chunk->next = pool, pool = chunk, pooled += CHUNK;
        pthread_mutex_unlock(&pool_lock);
        if (!keep) free(chunk);
        chunk = next;
    }
}

/* Copy `bytes` into the first chunk of a list, or a new one in front of it; 0 when there is no memory. */
static void *stow(Chunk **list, const void *from, int64_t bytes) {
    int64_t room = (bytes + 63) & ~(int64_t)63;
    if (!*list || (*list)->used + room > (*list)->size) {
        Chunk *fresh = take_chunk(room);
        if (!fresh) return 0;
        fresh->next = *list, *list = fresh;
    }
    char *to = (char *)(*list + 1) + (*list)->used;
    (*list)->used += room;
    return memcpy(to, from, bytes);
}

/* A lane's tape into chunks, exactly as long as it is. */
static ONCE int stow_tape(Chunk **list, const Method *m, const Tape *tape, Tape *to) {
    int64_t count = tape->count, rows = count * m->total * NP * (int64_t)sizeof(REAL);
    *to = (Tape){.count = count, .room = count};
    if (count && tape->step && !(to->step = stow(list, tape->step, count * (int64_t)sizeof(Step)))) return 0;
    if (count && tape->choice && !(to->choice = stow(list, tape->choice, count * (int64_t)sizeof(Choice)))) return 0;
    if (count && tape->state_room) {
        if (!(to->y = stow(list, tape->y, count * N * (int64_t)sizeof(REAL)))) return 0;
        to->state_room = count;
    }
    if (count && tape->stage_room > 0) {
        if (!(to->u = stow(list, tape->u, rows))) return 0;
        if (tape->k && !(to->k = stow(list, tape->k, rows))) return 0;
        to->stage_room = count;
    }
    return 1;
}

static ONCE void free_tape(Tape *tape) {
    free(tape->step), free(tape->y), free(tape->u), free(tape->k), free(tape->choice);
    *tape = (Tape){0};
}
