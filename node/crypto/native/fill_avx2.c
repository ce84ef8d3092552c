/* AVX2: a vector holds four words of a row, or pairs of words of two columns. */
#include "fill.h"

#if defined(__x86_64__)
#include <immintrin.h>

BEGIN_TARGET("avx2")

typedef __m256i vec;

enum { VECTORS = 32 };
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define STORE(p, x) _mm256_store_si256((__m256i *)(p), x)
#define ADD(x, y) _mm256_add_epi64(x, y)
#define XOR(x, y) _mm256_xor_si256(x, y)
#define XOR3(x, y, z) XOR(XOR(x, y), z)
#define MUL(x, y) _mm256_mul_epu32(x, y)
#define ROR32(x) _mm256_shuffle_epi32(x, 0xb1)
#define ROR24(x)                                                                                   \
    _mm256_shuffle_epi8(x, _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10,  \
                                            3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10))
#define ROR16(x)                                                                                   \
    _mm256_shuffle_epi8(x, _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9,  \
                                            2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9))
#define ROR63(x) XOR(_mm256_srli_epi64(x, 63), ADD(x, x))
#define FIRST(x) (uint64_t)_mm_cvtsi128_si64(_mm256_castsi256_si128(x))
#define SECOND_FIRST(x, y) _mm256_alignr_epi8(y, x, 8)

#include "blamka.h"
#include "pairs.h"

#define ROW_TURN1(k, x) x[k] = _mm256_permute4x64_epi64(x[k], 0x39);
#define ROW_TURN2(k, x) x[k] = _mm256_permute4x64_epi64(x[k], 0x4e);
#define ROW_TURN3(k, x) x[k] = _mm256_permute4x64_epi64(x[k], 0x93);

static ALWAYS_INLINE void permute_rows(vec *z)
{
    const struct stride at = {1, 4, 8};
    for (int row = 0; row < 8; row += 4, z += 16) {
        PERMUTE(EACH(ROW_TURN3, a) EACH(ROW_TURN2, d) EACH(ROW_TURN1, c),
                EACH(ROW_TURN1, a) EACH(ROW_TURN2, d) EACH(ROW_TURN3, c))
    }
}

static ALWAYS_INLINE void permute_columns(vec *z)
{
    permute_pairs(z, (struct stride){8, 4, 1});
}

static ALWAYS_INLINE void permute_first_columns(vec *z)
{
    permute_columns(z);
}

static ALWAYS_INLINE void permute_last_columns(vec *z)
{
    permute_columns(z + 2);
}

static ALWAYS_INLINE unsigned place(unsigned k)
{
    return k;
}

#include "compress.h"

END_TARGET

static bool runs_here(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}

const struct variant variant_avx2 = {"avx2", runs_here, fill, place};
#endif
