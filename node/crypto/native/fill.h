/* What the fills of all instruction sets share: their table, and the addressing of Argon2id. */
#ifndef UNCHAINED_FILL_H
#define UNCHAINED_FILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

enum { BLOCK_WORDS = 128, BLOCK_BYTES = 1024, SLICES = 4 };

struct filling {
    uint64_t *memory;     /* lane_length blocks, 64-byte aligned; blocks 0 and 1 are there */
    uint32_t lane_length; /* blocks, a multiple of four, at least eight */
    uint32_t passes;
};

struct variant {
    const char *name;
    bool (*runs_here)(void);
    void (*fill)(const struct filling *filling);
    /* Where word k of a block lies in this variant's memory. Word 0 is always first. */
    unsigned (*place)(unsigned k);
};

/* Fastest first; the last runs everywhere, and NULL ends the table. */
extern const struct variant *const variants[];

/* The blocks that a block may refer to: `area` of them from `start`, around the lane's end. */
struct window {
    uint32_t start;
    uint32_t area;
    uint32_t lane_length;
};

/* RFC 9106 §3.4.2, for one lane. */
static ALWAYS_INLINE struct window window_of(const struct filling *filling, uint32_t pass,
                                             uint32_t slice, uint32_t index)
{
    uint32_t segment = filling->lane_length / SLICES;
    struct window window = {0, slice * segment + index - 1, filling->lane_length};
    if (pass != 0) {
        window.start = (slice + 1) % SLICES * segment;
        window.area = filling->lane_length - segment + index - 1;
    }
    return window;
}

static ALWAYS_INLINE uint32_t referred(struct window window, uint64_t pseudo_random)
{
    uint64_t x = pseudo_random & 0xffffffff;
    x = x * x >> 32;
    x = (uint64_t)window.area * x >> 32;
    uint32_t at = window.start + (window.area - 1 - (uint32_t)x);
    return at < window.lane_length ? at : at - window.lane_length;
}

static ALWAYS_INLINE uint64_t *block_at(const struct filling *filling, uint32_t index)
{
    return filling->memory + (size_t)index * BLOCK_WORDS;
}

static ALWAYS_INLINE void prefetch_block(const uint64_t *block)
{
    for (int word = 0; word < BLOCK_WORDS; word += 8)
        __builtin_prefetch(block + word, 0, 3);
}

/* Where to look for the block that the next one refers to, as soon as this one's first word is
 * known; filling is NULL where addresses do not depend on data. */
struct ahead {
    const struct filling *filling;
    struct window window;
};

static ALWAYS_INLINE const uint64_t *look_ahead(struct ahead ahead, uint64_t first_word)
{
    if (ahead.filling == NULL)
        return NULL;
    const uint64_t *reference = block_at(ahead.filling, referred(ahead.window, first_word));
    prefetch_block(reference);
    return reference;
}

#endif
