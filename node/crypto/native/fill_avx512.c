/* AVX-512: a block lies in sixteen registers from its first XOR to its last.
 *
 * A vector holds four words of a row and, behind them, the same four of the next row, so that both
 * halves of the permutation turn within one vector and nothing is transposed between them. */
#include "fill.h"

#if defined(__x86_64__)
#include <immintrin.h>

BEGIN_TARGET("avx512f,avx512vl,avx512dq,avx512bw")

typedef __m512i vec;

enum { VECTORS = 16 };
#define LOAD(p) _mm512_load_si512(p)
#define STORE(p, x) _mm512_store_si512(p, x)
#define ADD(x, y) _mm512_add_epi64(x, y)
#define XOR(x, y) _mm512_xor_si512(x, y)
#define XOR3(x, y, z) _mm512_ternarylogic_epi64(x, y, z, 0x96)
#define MUL(x, y) _mm512_mul_epu32(x, y)
#define ROR32(x) _mm512_ror_epi64(x, 32)
#define ROR24(x) _mm512_ror_epi64(x, 24)
#define ROR16(x) _mm512_ror_epi64(x, 16)
#define ROR63(x) _mm512_ror_epi64(x, 63)
#define FIRST(x) (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(x))

#include "blamka.h"

#define ROW_TURN1(k, x) x[k] = _mm512_permutex_epi64(x[k], 0x39);
#define ROW_TURN2(k, x) x[k] = _mm512_permutex_epi64(x[k], 0x4e);
#define ROW_TURN3(k, x) x[k] = _mm512_permutex_epi64(x[k], 0x93);

/* In a column's vector, words 0 1 of one column, 0 1 of the other, 2 3 of the one, 2 3 of the
 * other. */
#define COLUMN_TURN1(k, x)                                                                         \
    x[k] = _mm512_permutexvar_epi64(_mm512_setr_epi64(1, 4, 3, 6, 5, 0, 7, 2), x[k]);
#define COLUMN_TURN2(k, x) x[k] = _mm512_shuffle_i64x2(x[k], x[k], 0x4e);
#define COLUMN_TURN3(k, x)                                                                         \
    x[k] = _mm512_permutexvar_epi64(_mm512_setr_epi64(5, 0, 7, 2, 1, 4, 3, 6), x[k]);

static ALWAYS_INLINE void permute_rows(vec *z)
{
    const struct stride at = {1, 4, 8};
    PERMUTE(EACH(ROW_TURN3, a) EACH(ROW_TURN2, d) EACH(ROW_TURN1, c),
            EACH(ROW_TURN1, a) EACH(ROW_TURN2, d) EACH(ROW_TURN3, c))
}

static ALWAYS_INLINE void permute_first_columns(vec *z)
{
    const struct stride at = {4, 1, 2};
    PERMUTE(EACH(COLUMN_TURN3, a) EACH(COLUMN_TURN2, d) EACH(COLUMN_TURN1, c),
            EACH(COLUMN_TURN1, a) EACH(COLUMN_TURN2, d) EACH(COLUMN_TURN3, c))
}

static ALWAYS_INLINE void permute_last_columns(vec *z)
{
    (void)z;
}

static ALWAYS_INLINE unsigned place(unsigned k)
{
    return (k & ~31u) + (k >> 2 & 3) * 8 + (k >> 4 & 1) * 4 + (k & 3);
}

#include "compress.h"

END_TARGET

static bool runs_here(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

const struct variant variant_avx512 = {"avx512", runs_here, fill, place};
#endif
