#define _DEFAULT_SOURCE
#include "arena.h"

#include <stdlib.h>

#include "compiler.h"

/* The address sanitizer sees the ends of what malloc gives, and not those within a mapping. */
#if (defined(__unix__) || defined(__APPLE__)) && !defined(ADDRESS_SANITIZER)
#include <sys/mman.h>

/* Half a huge page and more goes into huge pages: what is rounded up is never touched, but a
 * lookup in the page tables costs as much as half a block's arithmetic. */
enum { HUGE_PAGE = 2 << 20, WORTH_HUGE = HUGE_PAGE / 4, PAGE = 64 << 10 };

static size_t round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static uint64_t *map(size_t *size)
{
    size_t unit = *size >= WORTH_HUGE ? HUGE_PAGE : PAGE;
    size_t slack = unit == HUGE_PAGE ? HUGE_PAGE : 0;
    *size = round_up(*size, unit);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *at = mmap(NULL, *size + slack, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    if (slack > 0) {
        size_t before = round_up((uintptr_t)at, HUGE_PAGE) - (uintptr_t)at;
        if (before > 0)
            munmap(at, before);
        if (slack > before)
            munmap(at + before + *size, slack - before);
        at += before;
#ifdef MADV_HUGEPAGE
        madvise(at, *size, MADV_HUGEPAGE); /* refused, the pages are plain */
#endif
    }
    return (uint64_t *)at;
}

static void unmap(uint64_t *memory, size_t size)
{
    munmap(memory, size);
}

#else

static uint64_t *map(size_t *size)
{
    *size = (*size + 63) / 64 * 64;
    return aligned_alloc(64, *size);
}

static void unmap(uint64_t *memory, size_t size)
{
    (void)size;
    free(memory);
}

#endif

struct arena *arena_new(size_t size)
{
    struct arena *arena = malloc(sizeof *arena);
    if (arena == NULL)
        return NULL;
    arena->next = NULL;
    arena->generation = 0;
    arena->size = size;
    arena->memory = map(&arena->size);
    if (arena->memory == NULL) {
        free(arena);
        return NULL;
    }
    return arena;
}

void arena_free(struct arena *arena)
{
    unmap(arena->memory, arena->size);
    free(arena);
}
