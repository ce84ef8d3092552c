/* Memory for the blocks, mapped once and used by many hashes. */
#ifndef UNCHAINED_ARENA_H
#define UNCHAINED_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena {
    struct arena *next;
    uint64_t *memory; /* 64-byte aligned, or to a huge page where that pays */
    size_t size;
    unsigned long generation;
};

/* Return an arena of at least `size` bytes, in huge pages where that pays and the system gives
 * them, or NULL. */
struct arena *arena_new(size_t size);
void arena_free(struct arena *arena);

#endif
