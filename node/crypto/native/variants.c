#include "fill.h"

#if defined(__x86_64__)
extern const struct variant variant_avx512, variant_avx2, variant_sse2;
#elif defined(__aarch64__)
extern const struct variant variant_neon;
#endif
extern const struct variant variant_portable;

const struct variant *const variants[] = {
#if defined(__x86_64__)
    &variant_avx512, &variant_avx2, &variant_sse2,
#elif defined(__aarch64__)
    &variant_neon,
#endif
    &variant_portable, NULL,
};
