/* NEON, which every aarch64 processor has: a vector holds a pair of words. */
#include "fill.h"

#if defined(__aarch64__)
#include <arm_neon.h>

typedef uint64x2_t vec;

enum { VECTORS = 64 };
#define LOAD(p) vld1q_u64(p)
#define STORE(p, x) vst1q_u64(p, x)
#define ADD(x, y) vaddq_u64(x, y)
#define XOR(x, y) veorq_u64(x, y)
#define XOR3(x, y, z) XOR(XOR(x, y), z)
#define MUL(x, y) vmull_u32(vmovn_u64(x), vmovn_u64(y))
#define ROR32(x) vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(x)))
#define ROR24(x) vsriq_n_u64(vshlq_n_u64(x, 40), x, 24)
#define ROR16(x) vsriq_n_u64(vshlq_n_u64(x, 48), x, 16)
#define ROR63(x) vsriq_n_u64(vaddq_u64(x, x), x, 63)
#define FIRST(x) vgetq_lane_u64(x, 0)
#define SECOND_FIRST(x, y) vextq_u64(x, y, 1)

#include "blamka.h"
#include "pairs.h"
#include "pair_blocks.h"
#include "compress.h"

static bool runs_here(void)
{
    return true;
}

const struct variant variant_neon = {"neon", runs_here, fill, place};
#endif
