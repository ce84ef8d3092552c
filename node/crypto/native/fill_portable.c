/* Portable C: a vector is one word. */
#include "fill.h"

typedef uint64_t vec;

enum { VECTORS = 128 };
#define LOAD(p) (*(p))
#define STORE(p, x) (*(p) = (x))
#define ADD(x, y) ((x) + (y))
#define XOR(x, y) ((x) ^ (y))
#define XOR3(x, y, z) ((x) ^ (y) ^ (z))
#define MUL(x, y) ((uint64_t)(uint32_t)(x) * (uint32_t)(y))
#define ROR(x, n) ((x) >> (n) | (x) << (64 - (n)))
#define ROR32(x) ROR(x, 32)
#define ROR24(x) ROR(x, 24)
#define ROR16(x) ROR(x, 16)
#define ROR63(x) ROR(x, 63)
#define FIRST(x) (x)

#include "blamka.h"

#define TURN1(x)                                                                                   \
    {                                                                                              \
        vec x0 = x[0];                                                                             \
        x[0] = x[1], x[1] = x[2], x[2] = x[3], x[3] = x0;                                          \
    }
#define TURN2(x) TURN1(x) TURN1(x)
#define TURN3(x) TURN2(x) TURN1(x)

static ALWAYS_INLINE void permute(vec *z, struct stride at)
{
    PERMUTE(TURN3(a) TURN2(d) TURN1(c), TURN1(a) TURN2(d) TURN3(c))
}

static ALWAYS_INLINE void permute_rows(vec *z)
{
    for (int row = 0; row < 8; row++)
        permute(z + 16 * row, (struct stride){4, 1, 2});
}

static ALWAYS_INLINE void permute_column(vec *z, int column)
{
    permute(z + 2 * column, (struct stride){32, 1, 16});
}

static ALWAYS_INLINE void permute_first_columns(vec *z)
{
    permute_column(z, 0);
}

static ALWAYS_INLINE void permute_last_columns(vec *z)
{
    for (int column = 1; column < 8; column++)
        permute_column(z, column);
}

static ALWAYS_INLINE unsigned place(unsigned k)
{
    return k;
}

#include "compress.h"

static bool runs_here(void)
{
    return true;
}

const struct variant variant_portable = {"portable", runs_here, fill, place};
