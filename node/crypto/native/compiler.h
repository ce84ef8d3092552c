/* What the kernel asks of its compiler, GCC or Clang. */
#ifndef UNCHAINED_COMPILER_H
#define UNCHAINED_COMPILER_H

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64)))

#define PRAGMA(x) _Pragma(#x)

/* Between these, functions are compiled for more than the machine at hand need have. */
#if defined(__clang__)
#define BEGIN_TARGET(features)                                                                     \
    PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define BEGIN_TARGET(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define END_TARGET PRAGMA(GCC pop_options)
#endif

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#endif
#endif

#endif
