/* Argon2's compression and the filling of memory (RFC 9106 §3.4, §3.5). An instruction set's file
 * includes this once it has defined, besides blamka.h's,
 *
 *   VECTORS                      of a block
 *   LOAD(p) STORE(p, x)          of an aligned vector
 *   XOR3(x, y, z)
 *   FIRST(x)                     the first word of a vector
 *   place(k)                     where word k of a block lies
 *   permute_rows(z)              the first half of the permutation of a block
 *   permute_first_columns(z)     of the second half, at least what leads to word 0,
 *   permute_last_columns(z)      and the rest */

enum { WORDS = BLOCK_WORDS / VECTORS };

/* Write G(previous, reference) to next, XORed over what lies there if `over`; return look_ahead of
 * its first word. */
static ALWAYS_INLINE const uint64_t *compress(const uint64_t *previous, const uint64_t *reference,
                                              uint64_t *next, bool over, struct ahead ahead)
{
    vec z[VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < VECTORS; i++)
        z[i] = XOR(LOAD(previous + WORDS * i), LOAD(reference + WORDS * i));
    permute_rows(z);
    permute_first_columns(z);
    uint64_t first = FIRST(z[0]) ^ previous[0] ^ reference[0];
    if (over)
        first ^= next[0];
    const uint64_t *found = look_ahead(ahead, first);
    permute_last_columns(z);
#pragma GCC unroll 16
    for (int i = 0; i < VECTORS; i++) {
        vec out = XOR3(z[i], LOAD(previous + WORDS * i), LOAD(reference + WORDS * i));
        if (over)
            out = XOR(out, LOAD(next + WORDS * i));
        STORE(next + WORDS * i, out);
    }
    return found;
}
static const struct ahead nowhere = {NULL, {0, 0, 0}};

static __attribute__((noinline)) void fill_independent(const struct filling *filling,
                                                       uint32_t slice)
{
    ALIGNED uint64_t zero[BLOCK_WORDS] = {0};
    ALIGNED uint64_t input[BLOCK_WORDS] = {0};
    ALIGNED uint64_t addresses[BLOCK_WORDS];
    uint32_t segment = filling->lane_length / SLICES;

    input[place(2)] = slice;
    input[place(3)] = filling->lane_length;
    input[place(4)] = filling->passes;
    input[place(5)] = 2; /* Argon2id */
    for (uint32_t base = 0; base < segment; base += BLOCK_WORDS) {
        input[place(6)]++;
        compress(zero, input, addresses, false, nowhere);
        compress(zero, addresses, addresses, false, nowhere);
        uint32_t left = segment - base;
        uint32_t count = left < BLOCK_WORDS ? left : BLOCK_WORDS;
        uint32_t k = slice == 0 && base == 0 ? 2 : 0;
        struct window window = window_of(filling, 0, slice, base + k);
        const uint64_t *reference = block_at(filling, referred(window, addresses[place(k)]));
        for (; k < count; k++) {
            uint64_t *next = block_at(filling, slice * segment + base + k);
            const uint64_t *after = reference;
            if (k + 1 < count) {
                window.area++;
                after = block_at(filling, referred(window, addresses[place(k + 1)]));
                prefetch_block(after);
            }
            compress(next - BLOCK_WORDS, reference, next, false, nowhere);
            reference = after;
        }
    }
}

static ALWAYS_INLINE void fill_dependent(const struct filling *filling, uint32_t pass,
                                         uint32_t slice, bool over)
{
    uint32_t segment = filling->lane_length / SLICES;
    uint32_t start = slice * segment;
    const uint64_t *previous = block_at(filling, (start == 0 ? filling->lane_length : start) - 1);
    struct ahead ahead = {filling, window_of(filling, pass, slice, 0)};
    const uint64_t *reference = look_ahead(ahead, previous[0]);

    for (uint32_t k = 0; k < segment; k++) {
        uint64_t *next = block_at(filling, start + k);
        ahead.window.area++;
        reference = compress(previous, reference, next, over, ahead);
        previous = next;
    }
}

static __attribute__((noinline)) void fill_first(const struct filling *filling, uint32_t slice)
{
    fill_dependent(filling, 0, slice, false);
}

static __attribute__((noinline)) void fill_again(const struct filling *filling, uint32_t pass,
                                                 uint32_t slice)
{
    fill_dependent(filling, pass, slice, true);
}

static void fill(const struct filling *filling)
{
    for (uint32_t pass = 0; pass < filling->passes; pass++)
        for (uint32_t slice = 0; slice < SLICES; slice++)
            if (pass != 0)
                fill_again(filling, pass, slice);
            else if (slice < SLICES / 2)
                fill_independent(filling, slice);
            else
                fill_first(filling, slice);
}
