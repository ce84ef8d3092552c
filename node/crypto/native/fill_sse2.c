/* SSE2, which every x86-64 processor has: a vector holds a pair of words. */
#include "fill.h"

#if defined(__x86_64__)
#include <emmintrin.h>

typedef __m128i vec;

enum { VECTORS = 64 };
#define LOAD(p) _mm_load_si128((const __m128i *)(p))
#define STORE(p, x) _mm_store_si128((__m128i *)(p), x)
#define ADD(x, y) _mm_add_epi64(x, y)
#define XOR(x, y) _mm_xor_si128(x, y)
#define XOR3(x, y, z) XOR(XOR(x, y), z)
#define MUL(x, y) _mm_mul_epu32(x, y)
#define ROR32(x) _mm_shuffle_epi32(x, 0xb1)
#define ROR24(x) XOR(_mm_srli_epi64(x, 24), _mm_slli_epi64(x, 40))
#define ROR16(x) _mm_shufflehi_epi16(_mm_shufflelo_epi16(x, 0x39), 0x39)
#define ROR63(x) XOR(_mm_srli_epi64(x, 63), ADD(x, x))
#define FIRST(x) (uint64_t)_mm_cvtsi128_si64(x)
#define SECOND_FIRST(x, y)                                                                         \
    _mm_castpd_si128(_mm_shuffle_pd(_mm_castsi128_pd(x), _mm_castsi128_pd(y), 1))

#include "blamka.h"
#include "pairs.h"
#include "pair_blocks.h"
#include "compress.h"

static bool runs_here(void)
{
    return true;
}

const struct variant variant_sse2 = {"sse2", runs_here, fill, place};
#endif
