/* BLAKE2b without a key (RFC 7693), and Argon2's variable-length hash over it (RFC 9106 §3.3). */
#ifndef UNCHAINED_BLAKE2B_H
#define UNCHAINED_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

enum { BLAKE2B_BLOCK = 128, BLAKE2B_MAX = 64 };

struct blake2b {
    uint64_t h[8];
    uint64_t count; /* bytes compressed; Argon2's inputs stay far below 2**64 */
    size_t held;
    uint8_t block[BLAKE2B_BLOCK];
};

void blake2b_start(struct blake2b *state, size_t length);
void blake2b_update(struct blake2b *state, const void *data, size_t size);
void blake2b_finish(struct blake2b *state, uint8_t *digest, size_t length);

void blake2b_long(uint8_t *out, uint32_t length, const uint8_t *data, size_t size);

static inline void store32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static inline void store64(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static inline uint64_t load64(const uint8_t *from)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)from[i] << 8 * i;
    return value;
}

#endif
